//! Messages that could flood a log: one of a kind in ten seconds, with how many were left out.

use parking_lot::Mutex;

use crate::time::Stopwatch;

const EVERY: std::time::Duration = std::time::Duration::from_secs(10);

/// Lets a message of one kind through now and then.
#[derive(Default)]
pub(super) struct Limit(Mutex<Option<(Stopwatch, u64)>>);

impl Limit {
    /// Whether the message may be told now: how many were left out before it.
    pub fn pass(&self) -> Option<u64> {
        let mut last = self.0.lock();
        match &mut *last {
            Some((watch, left_out)) if watch.elapsed() < EVERY => {
                *left_out += 1;
                None
            }
            before => {
                let left_out = before.as_ref().map_or(0, |(_, left_out)| *left_out);
                *before = Some((Stopwatch::start(), 0));
                Some(left_out)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Limit;

    #[test]
    fn one_message_passes_and_its_followers_wait() {
        let limit = Limit::default();
        assert_eq!(limit.pass(), Some(0));
        assert!((0..100).all(|_| limit.pass().is_none()));
    }
}
