//! The pipeline's streams as DStreams: of rows as Arrow batches, and, for keyed operators, of keys with partial states.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decode::{Chunk, SourceDecoder};
use super::traced::{Traced, TracedStream};
use crate::error::{Error, Result};
use crate::rdd::{Data, Flow, Rdd, TaskContext};
use crate::service::check::{OnBadRecord, Source, Step, Stream, Topics, Uid};
use crate::source::kafka::{KafkaSource, KafkaStream};
use crate::sql::{
    Decoder, Grouping, Inputs, Query, RecordBatch, Row, SchemaRef, batch_of_rows, rows_of_batch, type_name,
};
use crate::time::Time;
use crate::{DStream, StateSpec, StreamingContext};

type Rows = DStream<RecordBatch>;
/// Keys with what their rows come to so far.
type Groups = DStream<(Row, Row)>;

/// The streams that were made so far, by name.
pub(crate) struct Streams<'c> {
    ssc: &'c StreamingContext,
    by_name: BTreeMap<String, Rows>,
    /// Keyed operators that group the same stream by the same expressions share one grouping of the batch.
    groups: BTreeMap<String, Groups>,
    /// Rows that know their records, of sources that do not fail for a bad one, and of what looks at each such row by itself.
    traced: BTreeMap<String, TracedStream>,
    /// The keys whose state has timed out, and their columns, by the name of the stream that kept it.
    removed: BTreeMap<String, (DStream<Row>, SchemaRef)>,
}

impl<'c> Streams<'c> {
    pub fn new(ssc: &'c StreamingContext) -> Self {
        Self {
            ssc,
            by_name: BTreeMap::new(),
            groups: BTreeMap::new(),
            removed: BTreeMap::new(),
            traced: BTreeMap::new(),
        }
    }

    /// The rows of a source or stream.
    pub(crate) fn get(&self, name: &str) -> Result<&Rows> {
        self.by_name
            .get(name)
            .ok_or_else(|| Error::internal(format!("stream `{name}` was checked but not made")))
    }

    /// The keys that a stream's state has lost, as rows of its key columns.
    pub(crate) fn removed(&self, name: &str) -> Result<Rows> {
        let (keys, schema) = self
            .removed
            .get(name)
            .cloned()
            .ok_or_else(|| Error::internal(format!("stream `{name}` removes no keys")))?;
        Ok(keys.each_rdd("removed", move |rdd| {
            let schema = schema.clone();
            rdd.try_map_partitions(move |rows| batch_of_rows(&schema, &rows).map(|batch| vec![batch]))
        }))
    }

    pub fn add_source(&mut self, source: &Source) -> Result<()> {
        if let Some(topic) = source.on_bad_record.dead_letter_topic() {
            self.ssc.inner.graph.add_dead_letter_topic(topic);
        }
        let mut kafka = match &source.topics {
            Topics::List(topics) => KafkaSource::new(&*source.cluster.brokers, topics.iter().cloned()),
            Topics::Pattern(pattern) => KafkaSource::matching(&*source.cluster.brokers, &**pattern),
        };
        kafka = kafka
            .start(source.start.clone())
            .on_data_loss(source.on_data_loss)
            .slicing(source.slicing)
            .reader(source.reader)
            .uid(&*source.name)
            .place(format!("{}: source `{}`", source.place, source.name))
            .wait(source.wait)
            .min_rate_per_partition(source.min_rate_per_partition)
            .max_records_per_batch(source.max_records_per_batch)
            .max_bytes_per_batch(source.max_bytes_per_batch);
        if let Some(rate) = source.max_rate_per_partition {
            kafka = kafka.max_rate_per_partition(rate);
        }
        if let Some(end) = &source.end {
            kafka = kafka.end(end.clone());
        }
        if let Some(interval) = source.discovery_interval {
            kafka = kafka.discovery_interval(interval);
        }
        if source.is_replayed {
            kafka = kafka.outside_the_group();
        }
        if let Some(log) = &source.follow {
            kafka = kafka.follow(log.clone());
        }
        for (name, value) in &source.cluster.options.0 {
            kafka = kafka.option(name, value);
        }
        let decoder = SourceDecoder {
            name: source.name.as_str().into(),
            decoder: Decoder::new(source.format.clone())?,
            on_bad_record: source.on_bad_record.clone(),
        };
        let kafka = self.ssc.kafka_direct_stream(kafka);
        let rows = match decoder.on_bad_record {
            OnBadRecord::Fail => {
                decoded(&kafka, move |chunk, task, emit| chunk.decode(task)?.map_or(Ok(()), emit), decoder)
            }
            _ => {
                let policy = Arc::new(decoder.on_bad_record.clone());
                let stream = decoded(
                    &kafka,
                    |chunk, task, emit| {
                        let Some((source, records)) = chunk.decode_traced(task)? else { return Ok(()) };
                        let (rows, records) = (vec![source.clone()], Arc::new(records));
                        emit(Traced { source, first: 0, records, rows })
                    },
                    decoder,
                );
                let traced = TracedStream { stream, policy, queries: Arc::new([]) };
                let rows = traced.rows();
                self.traced.insert(source.name.clone(), traced);
                rows
            }
        };
        self.insert(&source.name, rows);
        Ok(())
    }

    pub fn add(&mut self, stream: &Stream) -> Result<()> {
        let rows = match &stream.step {
            Step::Query(query) => self.query(&stream.name, query)?,
            Step::ReduceByKey(grouping) => finish(&self.groups(grouping)?, grouping),
            Step::ReduceByKeyAndWindow { uid, grouping, window } => {
                let merge = merge(grouping);
                let groups = self.groups(grouping)?.reduce_by_key_and_window(merge, *window, stream.slide)?;
                finish(&named(groups, uid, grouping)?, grouping)
            }
            Step::MapWithState { uid, grouping, timeout } => {
                let add = grouping.clone();
                let mut spec =
                    StateSpec::function(move |key: &Row, new: Option<Row>, state: &mut crate::State<Row>| {
                        // A key without anything new times out.
                        let Some(mut sum) = new else { return Some((key.clone(), None)) };
                        if let Some(before) = state.get_option() {
                            let mut total = before.clone();
                            add.merge(&mut total, &sum);
                            sum = total;
                        }
                        state.update(sum.clone());
                        Some((key.clone(), Some(sum)))
                    });
                if let Some(timeout) = timeout {
                    spec = spec.timeout(*timeout);
                }
                let changes = named(self.groups(grouping)?.map_with_state(spec), uid, grouping)?;
                let removed = changes.filter(|(_, state)| state.is_none()).map(|(key, _)| key);
                self.removed.insert(stream.name.clone(), (removed, grouping.key_schema().clone()));
                finish(&changes.flat_map(|(key, state)| state.map(|state| (key, state))), grouping)
            }
            Step::UpdateStateByKey { uid, grouping } => {
                let add = grouping.clone();
                let states =
                    self.groups(grouping)?.update_state_by_key(move |new: Vec<Row>, state: Option<Row>| {
                        state.into_iter().chain(new).reduce(|mut sum, more| {
                            add.merge(&mut sum, &more);
                            sum
                        })
                    });
                finish(&named(states, uid, grouping)?, grouping)
            }
            Step::Window { uid, window } => {
                let schema = stream.schema.clone();
                let rows = self
                    .input(stream, 0)?
                    .each_rdd("rows", |rdd| rdd.try_flat_map(|batch| rows_of_batch(&batch)));
                let window = with_uid(rows.window(*window, stream.slide)?, uid)?
                    .state_types("batch".into(), columns(&schema));
                window.each_rdd("batches", move |rdd| {
                    let schema = schema.clone();
                    rdd.try_map_partitions(move |rows| batch_of_rows(&schema, &rows).map(|batch| vec![batch]))
                })
            }
            Step::Union => {
                let first = self.input(stream, 0)?.clone();
                (1..stream.inputs.len()).try_fold(first, |all, i| all.union(self.input(stream, i)?))?
            }
        };
        self.insert(&stream.name, rows);
        Ok(())
    }

    fn insert(&mut self, name: &str, rows: Rows) {
        // Where rows know their records, that stream is the one that others read.
        let id = self.traced.get(name).map_or(rows.id(), |traced| traced.stream.id());
        self.ssc.inner.graph.name_stream(id, name);
        self.by_name.insert(name.to_owned(), rows);
    }

    fn input(&self, stream: &Stream, index: usize) -> Result<&Rows> {
        match stream.inputs.get(index) {
            Some(name) => self.get(name),
            None => Err(Error::internal(format!("stream `{}` has no input {index}", stream.name))),
        }
    }

    /// A query that looks at each row by itself runs in the task of its input; any other over the batch as a whole.
    fn query(&mut self, own: &str, query: &Query) -> Result<Rows> {
        let names = query.inputs().to_vec();
        let inputs = names.iter().map(|name| self.get(name).cloned()).collect::<Result<Vec<_>>>()?;
        let Some(first) = inputs.first().cloned() else {
            return Err(Error::config("a query has to read at least one stream"));
        };
        let others: Vec<_> = inputs[1..].iter().map(DStream::id).collect();
        let query = query.clone();
        if query.is_row_wise() && others.is_empty() {
            let name = names.concat();
            if let Some(traced) = self.traced.get(&name) {
                let traced = traced.query(own, &name, &query);
                let rows = traced.rows();
                self.traced.insert(own.to_owned(), traced);
                return Ok(rows);
            }
            return Ok(first.each_rdd("sql", move |rdd| {
                let (query, name) = (query.clone(), name.clone());
                rdd.try_flat_map(move |batch| query.run(&Inputs::new().with(&name, [batch])))
            }));
        }
        let runner = self.ssc.inner.runner.clone();
        Ok(first.derive("sql", &others, first.slide_duration(), move |time: Time| {
            let mut tables = Inputs::new();
            for (name, stream) in names.iter().zip(&inputs) {
                match stream.get_or_compute(time)? {
                    Some(rdd) => tables = tables.with(name, rdd.collect()?),
                    None => return Ok(None),
                }
            }
            Ok(Some(Rdd::in_memory(&runner, vec![Arc::new(query.run(&tables)?)])))
        }))
    }

    /// The partial states of the batch's groups, one per key.
    fn groups(&mut self, grouping: &Grouping) -> Result<Groups> {
        if let Some(groups) = self.groups.get(grouping.partial_sql()) {
            return Ok(groups.clone());
        }
        let partial = grouping.clone();
        let groups = self
            .get(grouping.input())?
            .each_rdd("group", move |rdd| {
                let partial = partial.clone();
                rdd.try_flat_map(move |batch| partial.partial(&[batch]))
            })
            .reduce_by_key(merge(grouping));
        self.groups.insert(grouping.partial_sql().to_owned(), groups.clone());
        Ok(groups)
    }
}

/// What `finish` makes of a source's records, chunk by chunk.
fn decoded<T: Data>(
    kafka: &KafkaStream,
    finish: impl Fn(&mut Chunk<'_>, &TaskContext, &mut dyn FnMut(T) -> Flow) -> Flow + Send + Sync + 'static,
    decoder: SourceDecoder,
) -> DStream<T> {
    kafka.read_slices("decode", move |read, task, emit| {
        let mut chunk = Chunk::new(&decoder);
        read(&mut |record| {
            chunk.push(record);
            if chunk.is_full() { finish(&mut chunk, task, &mut *emit) } else { Ok(()) }
        })?;
        finish(&mut chunk, task, emit)
    })
}

fn merge(grouping: &Grouping) -> impl Fn(Row, Row) -> Row + Clone + Send + Sync + 'static {
    let grouping = grouping.clone();
    move |mut sum, more| {
        grouping.merge(&mut sum, &more);
        sum
    }
}

/// Gives an operator's state its uid, and the columns that it has instead of Rust types.
fn named<T: Data>(groups: DStream<T>, uid: &Uid, grouping: &Grouping) -> Result<DStream<T>> {
    let (key, state) = (columns(grouping.key_schema()), columns(grouping.state_schema()));
    Ok(with_uid(groups, uid)?.state_types(key, state))
}

fn with_uid<T: Data>(stream: DStream<T>, uid: &Uid) -> Result<DStream<T>> {
    let stream = stream.uid(&uid.name)?;
    uid.was.as_ref().map_or(Ok(stream.clone()), |was| stream.was(was))
}

fn columns(schema: &SchemaRef) -> String {
    let column =
        |field: &Arc<crate::sql::Field>| format!("{} {}", field.name(), type_name(field.data_type()));
    schema.fields().iter().map(column).collect::<Vec<_>>().join(", ")
}

/// The output rows of groups.
fn finish(groups: &Groups, grouping: &Grouping) -> Rows {
    let grouping = grouping.clone();
    groups.each_rdd("finish", move |rdd| {
        let grouping = grouping.clone();
        rdd.try_map_partitions(move |groups| {
            if groups.is_empty() {
                return Ok(Vec::new());
            }
            grouping.finish(groups.iter().map(|(key, state)| (key, state))).map(|batch| vec![batch])
        })
    })
}
