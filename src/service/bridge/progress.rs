//! Up to which cursor everything has arrived.

use std::collections::VecDeque;

/// What was handed over and is not all delivered yet, in order.
#[derive(Default)]
pub(super) struct InFlight {
    /// The number of the first one.
    first: usize,
    waiting: VecDeque<(Option<i64>, bool)>,
    delivered: Option<i64>,
}

impl InFlight {
    /// Notes what is handed over next, and gives its number.
    pub fn add(&mut self, cursor: Option<i64>) -> usize {
        self.waiting.push_back((cursor, false));
        self.first + self.waiting.len() - 1
    }

    /// Number `number` has arrived, or never will.
    pub fn done(&mut self, number: usize) {
        if let Some((_, done)) = number.checked_sub(self.first).and_then(|at| self.waiting.get_mut(at)) {
            *done = true;
        }
        while let Some((cursor, true)) = self.waiting.front() {
            self.delivered = cursor.or(self.delivered);
            self.waiting.pop_front();
            self.first += 1;
        }
    }

    /// The cursor of the last one up to which all are done.
    pub fn delivered(&self) -> Option<i64> {
        self.delivered
    }
}

#[cfg(test)]
mod tests {
    use super::InFlight;

    #[test]
    fn the_cursor_waits_for_whatever_comes_before_it() {
        let mut flight = InFlight::default();
        let [a, b, c] = [10, 20, 30].map(|cursor| flight.add(Some(cursor)));
        flight.done(b);
        assert_eq!(flight.delivered(), None);
        flight.done(a);
        assert_eq!(flight.delivered(), Some(20));
        let d = flight.add(None);
        flight.done(d);
        assert_eq!(flight.delivered(), Some(20));
        flight.done(c);
        assert_eq!(flight.delivered(), Some(30));
    }
}
