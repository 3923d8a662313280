//! The net under all messages that could flood a log: of one kind (one place in the code) so many lines pass in ten seconds. What is
//! known to come often has a [`Limit`](crate::service::limit::Limit) of its own, which is stricter.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::time::Stopwatch;

const EVERY: Duration = Duration::from_secs(10);
/// More than what the line of progress takes, which comes twice a second at most.
const LINES: u64 = 50;

/// Writes how many lines of a target were left out before the next one.
type LeftOut = fn(u64, &str, &mut Writer<'_>) -> fmt::Result;

/// A format that leaves out what floods the log.
pub(super) struct Damped<F> {
    format: F,
    left_out: LeftOut,
    watch: Stopwatch,
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

/// What was said lately of one kind.
#[derive(Default)]
struct Kind {
    since: Duration,
    lines: u64,
}

impl Kind {
    /// Whether a line may pass at `at`: how many were left out before it.
    fn pass(&mut self, at: Duration) -> Option<u64> {
        let mut left_out = 0;
        if self.lines == 0 || at - self.since >= EVERY {
            left_out = self.lines.saturating_sub(LINES);
            *self = Self { since: at, lines: 0 };
        }
        self.lines += 1;
        (self.lines <= LINES).then_some(left_out)
    }
}

impl<F> Damped<F> {
    pub fn new(format: F, left_out: LeftOut) -> Self {
        Self { format, left_out, watch: Stopwatch::start(), kinds: Mutex::default() }
    }
}

impl<S, N, F> FormatEvent<S, N> for Damped<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        // Who asks for more than `info` wants to see all of it.
        if *metadata.level() <= Level::INFO {
            let passed = self.kinds.lock().entry(metadata.callsite()).or_default().pass(self.watch.elapsed());
            match passed {
                None => return Ok(()),
                Some(0) => {}
                Some(lines) => (self.left_out)(lines, metadata.target(), &mut writer)?,
            }
        }
        self.format.format_event(context, writer, event)
    }
}

/// The same for people.
pub(super) fn left_out(lines: u64, _: &str, writer: &mut Writer<'_>) -> fmt::Result {
    writeln!(writer, "({lines} lines like the next one were left out)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_of_a_kind_pass_in_ten_seconds_and_the_rest_is_counted() {
        let (mut kind, seconds) = (Kind::default(), Duration::from_secs);
        assert!((0..50).all(|_| kind.pass(seconds(5)) == Some(0)));
        assert!((0..30).all(|_| kind.pass(seconds(14)).is_none()));
        assert_eq!(kind.pass(seconds(15)), Some(30));
        // It has been quiet since: nothing is left to tell.
        assert_eq!(kind.pass(seconds(60)), Some(0));
    }

    #[test]
    fn one_kind_does_not_silence_another() {
        let written = std::sync::Arc::<Mutex<Vec<u8>>>::default();
        let to = written.clone();
        let logs = tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_ansi(false);
        let format = tracing_subscriber::fmt::format().with_target(false).without_time();
        let logs = logs.event_format(Damped::new(format, left_out));
        let logs = logs.with_writer(move || Shared(to.clone())).finish();
        tracing::subscriber::with_default(logs, || {
            for _ in 0..200 {
                tracing::warn!("flood");
                tracing::debug!("asked for");
            }
            tracing::warn!("other");
        });
        let text = String::from_utf8(written.lock().clone()).unwrap();
        let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
        assert_eq!((count("flood"), count("asked for"), count("other")), (50, 200, 1), "{text}");
    }

    struct Shared(std::sync::Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
