//! Panes: a window's parts, each as long as the greatest common divisor of window and slide.
//!
//! A pane is named by its end. The window that is emitted at time *t* holds the panes that end in
//! `(t - window, t]`.

use crate::error::{Error, Result};
use crate::time::{Duration, Time};

/// The lengths of a window over a stream, checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WindowLengths {
    pub window: Duration,
    pub slide: Duration,
    pane: Duration,
}

impl WindowLengths {
    /// # Errors
    /// If window or slide is not a positive multiple of the parent's slide.
    pub fn new(operator: &str, window: Duration, slide: Duration, parent: Duration) -> Result<Self> {
        for (name, length) in [("window", window), ("slide", slide)] {
            if length <= Duration::ZERO || !length.is_multiple_of(parent) {
                return Err(Error::config(format!(
                    "the {name} duration {length} of `{operator}` must be a multiple of its parent's slide duration {parent}"
                )));
            }
        }
        Ok(Self { window, slide, pane: window.gcd(slide) })
    }

    /// The pane that the batch `time` belongs to, if any window will ever show it.
    pub fn pane_of(&self, time: Time) -> Option<Time> {
        let pane = self.end_of_pane(time);
        let emitted = ceil(pane, self.slide);
        (pane > emitted - self.window).then_some(pane)
    }

    /// The end of the pane that the batch `time` falls into.
    pub fn end_of_pane(&self, time: Time) -> Time {
        ceil(time, self.pane)
    }

    /// The last pane that is too old for the window emitted at `time`.
    pub fn expired(&self, time: Time) -> Time {
        time - self.window
    }
}

fn ceil(time: Time, step: Duration) -> Time {
    let floor = time.floor(step);
    if floor == time { time } else { floor + step }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1_000)
    }

    #[test]
    fn a_batch_belongs_to_the_pane_that_ends_with_or_after_it() {
        let s = Duration::seconds;
        let lengths = WindowLengths::new("window", s(30), s(10), s(1)).unwrap();
        assert_eq!(lengths.pane_of(at(1)), Some(at(10)));
        assert_eq!(lengths.pane_of(at(10)), Some(at(10)));
        assert_eq!(lengths.pane_of(at(11)), Some(at(20)));
        assert_eq!(lengths.expired(at(40)), at(10));
    }

    #[test]
    fn batches_between_windows_are_in_no_pane() {
        let s = Duration::seconds;
        let lengths = WindowLengths::new("window", s(2), s(5), s(1)).unwrap();
        let seen: Vec<_> = (1..=10).filter(|t| lengths.pane_of(at(*t)).is_some()).collect();
        assert_eq!(seen, [4, 5, 9, 10]);
    }

    #[test]
    fn odd_lengths_are_told_with_their_numbers() {
        let error =
            WindowLengths::new("window", Duration::seconds(5), Duration::seconds(2), Duration::seconds(2));
        assert_eq!(
            error.unwrap_err().to_string(),
            "the window duration 5s of `window` must be a multiple of its parent's slide duration 2s"
        );
    }
}
