//! The Kafka stream before its first operator: its records are still in the reader's buffer.

use std::cell::Cell;
use std::fmt::Display;
use std::ops::Range;
use std::panic::Location;
use std::sync::Arc;

use super::source::{KafkaInput, Slices};
use super::{ConsumerRecord, KafkaSource, Record};
use crate::context::StreamingContext;
use crate::dstream::{DStream, DStreamNode, made_at};
use crate::error::Result;
use crate::rdd::{AtRecord, Data, Flow, Operator, Rdd, RddNode, Runner, SliceStats, TaskContext, hand_on};
use crate::source::{OffsetRange, OnBadRecord, Stage};
use crate::time::{Duration, Time};

/// The records of a Kafka source (Spark's direct stream). Its operators see each record in the reader's
/// buffer, so that nothing is copied but what they keep; what they give is an ordinary [`DStream`].
///
/// Every batch has one partition per non-empty offset range. An empty batch has none. A large range of one Kafka partition is cut
/// into several, where the reader can read them at the same time ([`Reader::Native`](crate::Reader::Native)).
#[derive(Clone)]
pub struct KafkaStream {
    ssc: StreamingContext,
    input: Arc<KafkaInput>,
    on_bad_record: OnBadRecord,
}

impl StreamingContext {
    /// A stream of the records of `source`. Nothing is asked of Kafka before the context starts.
    pub fn kafka_direct_stream(&self, source: KafkaSource) -> KafkaStream {
        let graph = &self.inner.graph;
        let input = Arc::new(KafkaInput::new(
            graph.unique_uid(&format!("kafka:{}", source.name())),
            self.app_name().to_owned(),
            source,
            (self.batch_interval(), self.inner.clock.clone()),
            self.inner.runner.clone(),
            self.inner.db.clone(),
        ));
        self.inner.lifecycle.admit("kafka_direct_stream", || graph.add_input(input.clone()));
        KafkaStream { ssc: self.clone(), input, on_bad_record: OnBadRecord::Fail }
    }
}

impl KafkaStream {
    /// What `f` makes of each record.
    #[track_caller]
    pub fn map<U: Data>(&self, f: impl Fn(&Record<'_>) -> U + Send + Sync + 'static) -> DStream<U> {
        let operator = Operator::made_at("map", &made_at(Location::caller()));
        self.flat_map_into("map", move |record, emit| emit(operator.run(|| f(record))))
    }

    /// What `f` gives for each record, in order.
    #[track_caller]
    pub fn flat_map<U: Data, I: IntoIterator<Item = U>>(
        &self,
        f: impl Fn(&Record<'_>) -> I + Send + Sync + 'static,
    ) -> DStream<U> {
        self.flat_map_with(move |record, emit| f(record).into_iter().try_for_each(emit))
    }

    /// What `f` pushes for each record, in order: the quickest form, since what `f` pushes may be made of parts of
    /// the record without collecting them first.
    #[track_caller]
    pub fn flat_map_with<U: Data>(
        &self,
        f: impl Fn(&Record<'_>, &mut dyn FnMut(U) -> Flow) -> Flow + Send + Sync + 'static,
    ) -> DStream<U> {
        let operator = Operator::made_at("flat_map", &made_at(Location::caller()));
        self.flat_map_into("flat_map", move |record, emit| {
            operator.run(|| f(record, &mut |made| hand_on(emit, made)))
        })
    }

    /// The same records, with what becomes of those that [`text`](KafkaStream::text), [`try_map`](KafkaStream::try_map) and
    /// [`try_flat_map`](KafkaStream::try_flat_map) cannot use; [`OnBadRecord::Fail`] unless set. Dead letters go to the
    /// context's [sink](StreamingContext::kafka_sink), which makes their topic if it is missing.
    ///
    /// ```
    /// # fn main() -> tidemill::Result<()> {
    /// use tidemill::{KafkaSinkSettings, KafkaSource, OnBadRecord, StreamingContext};
    /// let ssc = StreamingContext::builder("sums").build()?;
    /// ssc.kafka_sink(KafkaSinkSettings::new("localhost:9092"));
    /// let numbers = ssc
    ///     .kafka_direct_stream(KafkaSource::new("localhost:9092", ["numbers"]))
    ///     .on_bad_record(OnBadRecord::DeadLetter("numbers.dlq".into()))
    ///     .try_map(|record| record.text().parse::<i64>());
    /// numbers.reduce(|a, b| a + b).print();
    /// # Ok(()) }
    /// ```
    pub fn on_bad_record(&self, policy: OnBadRecord) -> KafkaStream {
        if let Some(topic) = policy.dead_letter_topic() {
            self.ssc.inner.lifecycle.admit("on_bad_record", || {
                self.ssc.inner.graph.add_dead_letter_topic(topic);
            });
        }
        KafkaStream { on_bad_record: policy, ..self.clone() }
    }

    /// Each value as text.
    ///
    /// A value that is absent or no UTF-8 is bad: it fails the batch, and is named with its topic, partition and offset,
    /// unless [`on_bad_record`](KafkaStream::on_bad_record) says otherwise.
    #[track_caller]
    pub fn text(&self) -> DStream<String> {
        self.try_into("text", |record| match record.value.map(simdutf8::compat::from_utf8) {
            Some(Ok(text)) => Ok(Some(text.to_owned())),
            Some(Err(error)) => Err(format!("the value is no UTF-8: {error}")),
            None => Err("the value is absent".to_owned()),
        })
    }

    /// What `f` makes of each record; a record for which it gives an error is bad, and
    /// [`on_bad_record`](KafkaStream::on_bad_record) says what becomes of it.
    #[track_caller]
    pub fn try_map<U: Data, E: Display>(
        &self,
        f: impl Fn(&Record<'_>) -> Result<U, E> + Send + Sync + 'static,
    ) -> DStream<U> {
        self.try_into("try_map", move |record| f(record).map(Some))
    }

    /// What `f` gives for each record, in order; a record for which it gives an error is bad, and
    /// [`on_bad_record`](KafkaStream::on_bad_record) says what becomes of it.
    #[track_caller]
    pub fn try_flat_map<U: Data, I: IntoIterator<Item = U>, E: Display>(
        &self,
        f: impl Fn(&Record<'_>) -> Result<I, E> + Send + Sync + 'static,
    ) -> DStream<U> {
        self.try_into("try_flat_map", f)
    }

    #[track_caller]
    fn try_into<U: Data, I: IntoIterator<Item = U>, E: Display>(
        &self,
        name: &str,
        f: impl Fn(&Record<'_>) -> Result<I, E> + Send + Sync + 'static,
    ) -> DStream<U> {
        let place = made_at(Location::caller());
        let (operator, policy) = (Operator::made_at(name, &place), self.on_bad_record.clone());
        let told: Arc<str> = format!("{name}{place}").into();
        self.read_slices(name, move |read, task, emit| {
            read(&mut |records| {
                records.try_for_each(|record| match operator.run(|| f(record)) {
                    Ok(made) => made.into_iter().try_for_each(&mut *emit),
                    Err(error) => {
                        Ok(policy.apply(task, record, Stage::Decode, &told, error.to_string(), None)?)
                    }
                })
            })
        })
    }

    /// Copies of the records.
    pub fn records(&self) -> DStream<ConsumerRecord> {
        self.map(|record| record.to_owned())
    }

    fn flat_map_into<U: Data>(
        &self,
        operator: &str,
        f: impl Fn(&Record<'_>, &mut dyn FnMut(U) -> Flow) -> Flow + Send + Sync + 'static,
    ) -> DStream<U> {
        self.read_slices(operator, move |read, _, emit| {
            read(&mut |records| records.try_for_each(|record| f(record, &mut *emit)))
        })
    }

    /// The general form: `f` reads a whole slice through its first argument.
    pub(crate) fn read_slices<U: Data>(
        &self,
        operator: &str,
        f: impl Fn(ReadSlice<'_>, &TaskContext, &mut dyn FnMut(U) -> Flow) -> Flow + Send + Sync + 'static,
    ) -> DStream<U> {
        self.input.add_reader();
        let node = SlicesStream {
            interval: self.ssc.batch_interval(),
            input: self.input.clone(),
            runner: self.ssc.inner.runner.clone(),
            f: Arc::new(f),
        };
        DStream::from_input(&self.ssc, operator, Arc::new(node))
    }
}

/// Pushes a slice's records into a visitor.
pub(crate) type ReadSlice<'a> = &'a mut dyn FnMut(&mut dyn FnMut(Run<'_>) -> Flow) -> Flow;

/// Some records of a slice, one after the other.
pub(crate) struct Run<'a> {
    records: &'a [Record<'a>],
    /// The offset of the record at hand.
    at: &'a Cell<i64>,
}

impl Run<'_> {
    /// All of them; which one is at hand is not known then.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "rows are made of many at once"))]
    pub fn whole(&self) -> &[Record<'_>] {
        self.at.set(self.records.last().map_or(self.at.get(), |last| last.offset));
        self.records
    }

    /// Shows each record to `visit`, until it fails; if it panics, it is known at which one.
    #[inline]
    pub fn try_for_each(&self, mut visit: impl FnMut(&Record<'_>) -> Flow) -> Flow {
        self.records.iter().try_for_each(|record| {
            self.at.set(record.offset);
            visit(record)
        })
    }
}

struct SlicesStream<F> {
    interval: Duration,
    input: Arc<KafkaInput>,
    runner: Arc<Runner>,
    f: Arc<F>,
}

impl<U, F> DStreamNode<U> for SlicesStream<F>
where
    U: Data,
    F: Fn(ReadSlice<'_>, &TaskContext, &mut dyn FnMut(U) -> Flow) -> Flow + Send + Sync + 'static,
{
    fn slide(&self) -> Duration {
        self.interval
    }

    fn compute(&self, time: Time) -> Result<Option<Rdd<U>>> {
        let (input, f) = (self.input.clone(), self.f.clone());
        let (slices, due) = (input.slices(time)?, input.due_in(time));
        Ok(Some(Rdd::new(&self.runner, SlicesRdd { time, slices, due, input, f })))
    }
}

/// One partition per offset range.
struct SlicesRdd<F> {
    time: Time,
    slices: Slices,
    /// The timestamps that the batch's records bear by rights, if timestamps say what belongs to it.
    due: Option<Range<i64>>,
    input: Arc<KafkaInput>,
    f: Arc<F>,
}

impl<F> SlicesRdd<F> {
    fn count(&self, records: &[Record<'_>], stats: &mut SliceStats) {
        stats.records += records.len() as u64;
        stats.bytes += records.iter().map(|record| record.len() as u64).sum::<u64>();
        if let Some(due) = &self.due {
            let timestamps = || records.iter().filter_map(|record| record.timestamp);
            stats.late += timestamps().filter(|at| *at < due.start).count() as u64;
            // Only a timestamp that was not believed is no end of the batch.
            stats.future += timestamps().filter(|at| *at >= due.end).count() as u64;
        }
        let last = records.iter().rev().find_map(|record| record.timestamp);
        stats.last_timestamp = last.or(stats.last_timestamp);
    }
}

impl<U, F> RddNode<U> for SlicesRdd<F>
where
    F: Fn(ReadSlice<'_>, &TaskContext, &mut dyn FnMut(U) -> Flow) -> Flow + Send + Sync,
{
    fn num_partitions(&self) -> usize {
        self.slices.ranges.len()
    }

    fn prepare(&self, _: &Runner) -> Result<()> {
        Ok(())
    }

    fn compute(&self, partition: usize, task: &TaskContext, emit: &mut dyn FnMut(U) -> Flow) -> Flow {
        let Slices { reader, ranges, .. } = &self.slices;
        let range = &ranges[partition];
        self.input.begins(self.time, &self.slices);
        let mut stats = SliceStats::default();
        let at = Cell::new(range.from);
        let _record =
            AtRecord(|| format!("record {}-{} at offset {}", range.topic, range.partition, at.get()));
        let mut read = |visit: &mut dyn FnMut(Run<'_>) -> Flow| {
            reader.read(range, &mut |records| {
                let flow = visit(Run { records, at: &at });
                // Of those behind the one at which it ended, nothing was seen.
                let seen = if flow.is_ok() {
                    records.len()
                } else {
                    records.partition_point(|it| it.offset <= at.get())
                };
                self.count(&records[..seen], &mut stats);
                flow
            })
        };
        let flow = (self.f)(&mut read, task, emit);
        task.slice_read(range, stats);
        self.input.saw(range, &stats);
        self.input.ends(self.time, &self.slices);
        flow
    }

    fn offset_ranges(&self) -> Option<Arc<[OffsetRange]>> {
        Some(self.slices.ranges.clone())
    }

    fn has_nothing(&self) -> bool {
        self.slices.ranges.is_empty()
    }
}
