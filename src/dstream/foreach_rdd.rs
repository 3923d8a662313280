//! `foreach_rdd`

use super::DStream;
use crate::context::OutputOperation;
use crate::error::Result;
use crate::rdd::{Data, Rdd};
use crate::time::Time;

/// What the function of an output operation gives back: nothing, or a [`Result`].
pub trait Outcome {
    /// As a result.
    fn into_result(self) -> Result<()>;
}

impl Outcome for () {
    fn into_result(self) -> Result<()> {
        Ok(())
    }
}

impl Outcome for Result<()> {
    fn into_result(self) -> Result<()> {
        self
    }
}

impl<T: Data> DStream<T> {
    /// Calls `f` with the RDD of each batch, the empty ones too: the most general output operation.
    /// The RDD of a Kafka stream tells its [offset ranges](Rdd::offset_ranges).
    ///
    /// An error that `f` gives, or a panic in it, fails the batch; the batch's other output operations still run.
    ///
    /// ```
    /// # use tidemill::testing::run_batches;
    /// # run_batches(vec![vec![1]], |numbers| {
    /// numbers.foreach_rdd(|rdd| {
    ///     println!("{} elements", rdd.count()?);
    ///     Ok(())
    /// });
    /// # numbers.clone() }).unwrap();
    /// ```
    #[track_caller]
    pub fn foreach_rdd<R: Outcome>(&self, f: impl Fn(Rdd<T>) -> R + Send + Sync + 'static) {
        self.foreach_rdd_with_time(move |rdd, _| f(rdd));
    }

    /// As [`foreach_rdd`](DStream::foreach_rdd), with the batch time, which names the batch in idempotent writes:
    /// a batch that is run again has the same time and, from Kafka, the same offset ranges.
    #[track_caller]
    pub fn foreach_rdd_with_time<R: Outcome>(&self, f: impl Fn(Rdd<T>, Time) -> R + Send + Sync + 'static) {
        self.register("foreach_rdd", true, move |rdd, time| f(rdd, time).into_result());
    }

    /// Registers an output operation called `name` whose output counts once the batch is committed, or may be repeated.
    #[track_caller]
    pub(crate) fn output(&self, name: &str, f: impl Fn(Rdd<T>, Time) -> Result<()> + Send + Sync + 'static) {
        self.register(name, false, f);
    }

    #[track_caller]
    fn register(
        &self,
        name: &str,
        is_external: bool,
        f: impl Fn(Rdd<T>, Time) -> Result<()> + Send + Sync + 'static,
    ) {
        let place = std::panic::Location::caller();
        let parent = self.core.clone();
        let action = move |time| match parent.get_or_compute(time)? {
            None => Ok(()),
            Some(rdd) => f(rdd, time),
        };
        self.ssc.inner.lifecycle.admit(name, || {
            let operation = OutputOperation {
                name: name.into(),
                description: format!("{name}{}", super::made_at(place)).into(),
                stream: self.id(),
                slide: self.slide_duration(),
                is_external,
                action: Box::new(action),
            };
            self.ssc.inner.graph.add_output(operation);
        });
    }
}
