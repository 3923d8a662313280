//! How long to wait before the next try: what X documents for its streams, which suits others too.

use std::time::Duration;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The connection was refused, cut, or silent for too long.
    Network,
    /// The server said that it cannot, for now.
    Http,
    /// It said that too much was asked, and maybe for how long not to ask.
    TooMuch { wait: Option<Duration> },
}

/// Counts failures since the last success.
pub(super) struct Backoff {
    network: u32,
    http: u32,
    too_much: u32,
    patience: f64,
}

impl Backoff {
    /// Waits `patience` times as long as documented.
    pub fn new(patience: f64) -> Self {
        Self { network: 0, http: 0, too_much: 0, patience }
    }

    /// How long to wait now: after network errors a quarter of a second more each time, up to 16; after HTTP errors 5 seconds,
    /// doubled each time up to 320; after `429` a minute, doubled each time, and as long as the server said.
    pub fn after(&mut self, trouble: Trouble) -> Duration {
        let seconds = match trouble {
            Trouble::Network => {
                self.network += 1;
                (0.25 * f64::from(self.network)).min(16.0)
            }
            Trouble::Http => {
                self.http += 1;
                (5.0 * 2f64.powi(self.http.min(10) as i32 - 1)).min(320.0)
            }
            Trouble::TooMuch { wait } => {
                self.too_much += 1;
                let doubled = 60.0 * 2f64.powi(self.too_much.min(6) as i32 - 1);
                wait.map_or(doubled, |wait| wait.as_secs_f64().min(3_600.0).max(doubled))
            }
        };
        Duration::from_secs_f64(seconds * self.patience)
    }

    /// All is well again.
    pub fn reset(&mut self) {
        *self = Self::new(self.patience);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_those_that_x_documents() {
        let mut backoff = Backoff::new(1.0);
        let network: Vec<_> = (0..66).map(|_| backoff.after(Trouble::Network).as_millis()).collect();
        assert_eq!((&network[..3], network[63], network[65]), (&[250, 500, 750][..], 16_000, 16_000));
        let http: Vec<_> = (0..8).map(|_| backoff.after(Trouble::Http).as_secs()).collect();
        assert_eq!(http, [5, 10, 20, 40, 80, 160, 320, 320]);
        let told = Some(Duration::from_secs(500));
        let waits = [None, None, told, None].map(|wait| backoff.after(Trouble::TooMuch { wait }).as_secs());
        assert_eq!(waits, [60, 120, 500, 480]);
        backoff.reset();
        assert_eq!(backoff.after(Trouble::Http).as_secs(), 5);
        assert_eq!(Backoff::new(0.01).after(Trouble::Http).as_millis(), 50);
    }
}
