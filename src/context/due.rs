//! Which batch is the next, for each way of knowing it.

use std::sync::Arc;

use super::StreamingContext;
use super::lifecycle::Lifecycle;
use crate::batch::{Due, DueBatch, Intervals};
use crate::error::{Error, Result};
use crate::source::Input;
use crate::time::Time;

/// The batches of a backlog, then those that the clock gives.
pub(super) struct ByClock<'a, B> {
    inputs: &'a [Arc<dyn Input>],
    has_end: bool,
    backlog: Option<B>,
    lifecycle: &'a Lifecycle,
    submit: &'a dyn Fn(Time) -> DueBatch,
}

impl<'a, B: Iterator<Item = Time>> ByClock<'a, B> {
    pub fn new(
        inputs: &'a [Arc<dyn Input>],
        (has_end, backlog): (bool, B),
        lifecycle: &'a Lifecycle,
        submit: &'a dyn Fn(Time) -> DueBatch,
    ) -> Self {
        Self { inputs, has_end, backlog: Some(backlog), lifecycle, submit }
    }

    fn is_at_end(&self) -> bool {
        self.has_end && self.inputs.iter().all(|input| input.is_at_end())
    }

    fn of_backlog(&mut self) -> Option<DueBatch> {
        // It may take fewer batches than was thought; and once the clock has given one, its times are over.
        let is_behind = self.inputs.iter().any(|input| !input.is_caught_up());
        if !is_behind || self.lifecycle.is_stopping() {
            self.backlog = None;
        }
        self.backlog.as_mut().and_then(Iterator::next).map(self.submit)
    }
}

impl<B: Iterator<Item = Time>> Due for ByClock<'_, B> {
    fn next(&mut self) -> Result<Option<DueBatch>> {
        if self.is_at_end() {
            return Ok(None);
        }
        Ok(self.of_backlog().or_else(|| self.lifecycle.queue().pop()))
    }

    fn next_now(&mut self) -> Option<DueBatch> {
        if self.is_at_end() {
            return None;
        }
        self.of_backlog().or_else(|| self.lifecycle.queue().pop_now())
    }
}

/// The batches of sources that are sliced by timestamp: the intervals that have something to do.
pub(super) struct ByRecords<'a> {
    ssc: &'a StreamingContext,
    intervals: Intervals,
    /// The first interval that was not looked at.
    from: Time,
    /// Whether it is run whatever it has: the first batch writes down where the sources begin.
    is_first: bool,
    /// What was in the way when nobody could be told.
    failed: Option<Error>,
    submit: &'a dyn Fn(Time) -> DueBatch,
}

impl<'a> ByRecords<'a> {
    pub fn new(
        ssc: &'a StreamingContext,
        intervals: Intervals,
        (from, is_first): (Time, bool),
        submit: &'a dyn Fn(Time) -> DueBatch,
    ) -> Self {
        Self { ssc, intervals, from, is_first, failed: None, submit }
    }

    fn is_stopping(&self) -> bool {
        self.ssc.inner.lifecycle.is_stopping() || self.ssc.inner.runner.is_cancelled()
    }

    fn taken(&mut self, time: Option<Time>) -> Option<DueBatch> {
        self.from = time.map_or(self.from, |time| time + self.intervals.interval);
        time.map(self.submit)
    }
}

impl Due for ByRecords<'_> {
    fn next(&mut self) -> Result<Option<DueBatch>> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let Self { from, intervals, .. } = &*self;
        let inner = &self.ssc.inner;
        let due = if self.is_first { Some(*from) } else { inner.graph.next_due(*from - intervals.interval) };
        let skipped = |time| inner.listeners.announce(move |l| l.batch_skipped(time));
        let time = intervals.next(*from, due, &|| self.is_stopping(), &skipped)?;
        self.is_first = false;
        Ok(self.taken(time))
    }

    fn next_now(&mut self) -> Option<DueBatch> {
        let found = self.intervals.next_with_records(self.from, &|| self.is_stopping());
        let time = found.unwrap_or_else(|error| {
            self.failed = Some(error);
            None
        });
        self.taken(time)
    }
}
