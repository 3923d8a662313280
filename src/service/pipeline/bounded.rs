//! How far a run has come that ends by itself: a bar on a terminal, lines of log elsewhere.

use std::fmt::Write;
use std::sync::Arc;

use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};
use parking_lot::Mutex;

use crate::StreamingContext;
use crate::batch::{BatchInfo, StreamingListener};
use crate::source::Input;
use crate::time::{Duration, Stopwatch, Time};

/// The bar that is on the terminal, if one is.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// How often there is a line without a terminal.
const LINE_EVERY: std::time::Duration = std::time::Duration::from_secs(5);

/// Runs `write`, which writes to the terminal, with the bar out of its way.
pub(crate) fn beside_the_bar<R>(write: impl FnOnce() -> R) -> R {
    match BAR.lock().clone() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Tells how far `ssc` has come; while it runs, a bar is on the terminal.
pub(super) struct Shown(Arc<Bounded>);

struct Bounded {
    /// The inputs alone, since the context keeps who is told at once.
    inputs: Vec<Arc<dyn Input>>,
    watch: Stopwatch,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Records up to the end when that was asked first.
    total: Option<u64>,
    /// What was read of them.
    done: u64,
    batches: u64,
    said: Option<std::time::Duration>,
}

impl Shown {
    /// For a context whose inputs end.
    pub fn of(ssc: &StreamingContext) -> Option<Self> {
        let inputs = ssc.inner.graph.inputs();
        let has_end = inputs.iter().any(|input| input.has_end());
        has_end.then(|| {
            let bounded = Arc::new(Bounded { inputs, watch: Stopwatch::start(), state: Mutex::default() });
            // At once, since the first batch takes some of what there is up to the end.
            ssc.inner.listeners.add_own(bounded.clone());
            Self(bounded)
        })
    }
}

/// A bar up to `total` on the terminal; nothing where standard error is none, or one on which nothing can be drawn.
fn bar(total: u64) -> Option<ProgressBar> {
    let style = "{bar:32} {human_pos}/{human_len} records  {rate}  {eta} left";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let rate = |state: &ProgressState, text: &mut dyn Write| {
        // What cannot be written is not shown.
        let _ = write!(text, "{}/s", HumanCount(state.per_sec() as u64));
    };
    let bar = ProgressBar::new(total).with_style(style.with_key("rate", rate));
    if bar.is_hidden() {
        return None;
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(250));
    Some(bar)
}

impl Drop for Shown {
    fn drop(&mut self) {
        if let Some(bar) = BAR.lock().take() {
            bar.finish_and_clear();
        }
        let state = self.0.state.lock();
        tracing::info!(
            batches = state.batches,
            records = state.done,
            seconds = self.0.watch.elapsed().as_secs_f64(),
            "read to the end"
        );
    }
}

impl Bounded {
    fn left(&self) -> u64 {
        self.inputs.iter().filter_map(|input| input.up_to_end()).sum()
    }
}

impl StreamingListener for Bounded {
    fn streaming_started(&self, _: Time, _: Duration) {
        let total = *self.state.lock().total.get_or_insert_with(|| self.left());
        tracing::info!(records = total, "reading up to the end");
        *BAR.lock() = bar(total);
    }

    fn batch_completed(&self, batch: &BatchInfo) {
        let left = self.left();
        let mut state = self.state.lock();
        state.batches += u64::from(batch.failure.is_none());
        // What comes meanwhile may belong to it, too, if it ends at a time.
        let total = state.total.unwrap_or(left).max(left);
        state.total = Some(total);
        state.done = total - left;
        if let Some(bar) = &*BAR.lock() {
            bar.set_length(total);
            bar.set_position(state.done);
            return;
        }
        let elapsed = self.watch.elapsed();
        if state.said.is_some_and(|at| elapsed - at < LINE_EVERY) {
            return;
        }
        state.said = Some(elapsed);
        let rate = state.done as f64 / elapsed.as_secs_f64().max(0.001);
        tracing::info!(
            records = state.done,
            of = total,
            records_per_second = rate as u64,
            seconds_left = (rate > 0.0).then(|| (left as f64 / rate).round() as u64),
            "progress"
        );
    }
}
