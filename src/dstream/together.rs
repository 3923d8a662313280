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

#[cfg(test)]
mod tests {
    use crate::dstream::DStream;
    use crate::source::RddQueue;
    use crate::testing::TestContext;

    type Pair = (char, i64);

    /// The error of a batch in which the parent of what `program` adds gives no RDD.
    fn failure(program: impl FnOnce(&DStream<Pair>, &DStream<Pair>) -> DStream<Pair>) -> String {
        let test = TestContext::new("test").unwrap();
        let some = test.ssc.queue_stream(&RddQueue::new());
        let none = some.derive("none", &[], some.slide_duration(), |_| Ok(None));
        test.collect(&program(&some, &none));
        test.run(1).unwrap_err().to_string()
    }

    #[test]
    fn a_parent_that_gives_no_rdd_fails_the_batch() {
        let expect = |operator: &str, error: String| {
            let end = format!("a parent of `{operator}` gave no RDD for batch 1000 ms");
            assert!(error.ends_with(&end), "{error}");
        };
        expect("transform", failure(|_, none| none.transform(|rdd| rdd)));
        expect(
            "transform",
            failure(|some, none| some.ssc.transform([some, none], |rdds| rdds[0].clone()).unwrap()),
        );
        expect("transform_with", failure(|some, none| some.transform_with(none, |rdd, _| rdd).unwrap()));
        expect("transform_with", failure(|some, none| none.transform_with(some, |rdd, _| rdd).unwrap()));
        expect("union", failure(|some, none| some.union(none).unwrap()));
        expect("join", failure(|some, none| some.join(none).unwrap().map_values(|(a, _)| a)));
        expect("cogroup", failure(|some, none| some.cogroup(none).unwrap().map_values(|_| 0)));
    }

    #[test]
    fn operators_on_one_stream_pass_on_that_there_is_no_rdd() {
        let test = TestContext::new("test").unwrap();
        let some = test.ssc.queue_stream(&RddQueue::<Pair>::new());
        let none = some.derive("none", &[], some.slide_duration(), |_| Ok(None));
        let streams: [DStream<Pair>; 4] = [
            none.repartition(2),
            none.reduce(|a, _| a),
            none.reduce_by_key(|a, b| a + b),
            none.partition_by(2),
        ];
        let outputs = streams.map(|stream| test.collect(&stream));
        test.run(2).unwrap();
        assert!(outputs.iter().all(|output| output.take().is_empty()));
    }
}
