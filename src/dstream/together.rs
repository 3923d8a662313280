//! What operators on several streams have in common.

use std::sync::Arc;

use super::{DStream, StreamCore};
use crate::context::StreamingContext;
use crate::error::{Error, Result};
use crate::rdd::{Data, Rdd};
use crate::time::Time;

impl<T: Data> StreamCore<T> {
    /// The RDD of batch `time`, which `operator` cannot do without.
    pub(super) fn required(&self, operator: &str, time: Time) -> Result<Rdd<T>> {
        self.get_or_compute(time)?
            .ok_or_else(|| Error::task(format!("a parent of `{operator}` gave no RDD for batch {time}")))
    }
}

fn same_context(operator: &str, one: &StreamingContext, other: &StreamingContext) -> Result<()> {
    if Arc::ptr_eq(&one.inner, &other.inner) {
        return Ok(());
    }
    Err(Error::usage(format!("{operator} of streams of two contexts: make both from the same one")))
}

impl<T: Data> DStream<T> {
    /// Checks that this stream and `other` are of the same context and slide alike.
    fn check_with<U: Data>(&self, operator: &str, other: &DStream<U>) -> Result<()> {
        same_context(operator, &self.ssc, &other.ssc)?;
        let (slide, others) = (self.slide_duration(), other.slide_duration());
        if slide != others {
            return Err(Error::config(format!(
                "{operator} of streams that slide by {slide} and by {others}: both must slide alike"
            )));
        }
        Ok(())
    }

    /// A stream that gives what `f` makes of the RDDs of this stream and of `other`.
    pub(super) fn with_other<U: Data, X: Data>(
        &self,
        operator: &'static str,
        other: &DStream<U>,
        f: impl Fn(Rdd<T>, Rdd<U>, Time) -> Result<Rdd<X>> + Send + Sync + 'static,
    ) -> Result<DStream<X>> {
        self.check_with(operator, other)?;
        let (left, right) = (self.core.clone(), other.core.clone());
        Ok(self.derive(operator, &[other.id()], self.slide_duration(), move |time| {
            f(left.required(operator, time)?, right.required(operator, time)?, time).map(Some)
        }))
    }
}

impl StreamingContext {
    /// A stream that gives what `f` makes of the RDDs of all `streams`, of which there must be one.
    pub(super) fn with_all<'a, T: Data, X: Data>(
        &self,
        operator: &'static str,
        streams: impl IntoIterator<Item = &'a DStream<T>>,
        f: impl Fn(Vec<Rdd<T>>, Time) -> Result<Rdd<X>> + Send + Sync + 'static,
    ) -> Result<DStream<X>> {
        let streams: Vec<_> = streams.into_iter().collect();
        let Some((first, others)) = streams.split_first() else {
            return Err(Error::config(format!("{operator} of no streams: give at least one")));
        };
        same_context(operator, self, &first.ssc)?;
        others.iter().try_for_each(|other| first.check_with(operator, other))?;
        let ids: Vec<usize> = others.iter().map(|other| other.id()).collect();
        let parents: Vec<_> = streams.iter().map(|stream| stream.core.clone()).collect();
        Ok(first.derive(operator, &ids, first.slide_duration(), move |time| {
            let rdds: Result<_> = parents.iter().map(|parent| parent.required(operator, time)).collect();
            f(rdds?, time).map(Some)
        }))
    }
}
