//! The pipeline's streams as DStreams: of rows as Arrow batches, and, for keyed operators, of keys with partial states.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decode::{Chunk, SourceDecoder};
use super::traced::{Traced, TracedStream};
use crate::error::{Error, Result};
use crate::rdd::{Data, Flow, MemoryRdd, Rdd, TaskContext};
use crate::service::check::{
    Emit, Input, KafkaInput, KeyedState, OnBadRecord, Source, Step, Stream, Table, Topics, Uid,
};
use crate::source::FileOptions;
use crate::source::kafka::{KafkaSource, KafkaStream};
use crate::sql::{
    Condition, Grouping, Inputs, Query, RecordBatch, Row, SchemaRef, batch_of_rows, rows_of_batch, type_name,
};
use crate::time::{Duration, Time};
use crate::{DStream, StateSpec, StreamingContext, UpdateStateSpec, WindowSpec};

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
    /// The rows of tables in files, by name.
    tables: BTreeMap<String, Arc<[RecordBatch]>>,
}

impl<'c> Streams<'c> {
    pub fn new(ssc: &'c StreamingContext, tables: &[Table]) -> Self {
        let tables = tables.iter().map(|table| (table.name.clone(), table.rows.clone())).collect();
        Self {
            ssc,
            by_name: BTreeMap::new(),
            groups: BTreeMap::new(),
            removed: BTreeMap::new(),
            traced: BTreeMap::new(),
            tables,
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
        let decoder = SourceDecoder::new(source)?;
        let rows = match &source.input {
            Input::Kafka(kafka) => self.kafka(source, kafka, decoder),
            Input::Socket { host, port } => decoder.lines(&self.ssc.socket_text_stream(host, *port)),
            Input::Files { folder, existing } => {
                let options = FileOptions::new().new_files_only(!existing);
                decoder.lines(&self.ssc.text_file_stream_with(folder.as_str(), options))
            }
        };
        self.insert(&source.name, rows);
        Ok(())
    }

    /// A source whose records' values are those of `records`.
    pub fn add_given(&mut self, source: &Source, records: &DStream<String>) -> Result<()> {
        let rows = SourceDecoder::new(source)?.lines(records);
        self.insert(&source.name, rows);
        Ok(())
    }

    fn kafka(&mut self, source: &Source, kafka: &KafkaInput, decoder: SourceDecoder) -> Rows {
        let brokers = &*kafka.cluster.brokers;
        let input = match &kafka.topics {
            Topics::List(topics) => KafkaSource::new(brokers, topics.iter().cloned()),
            Topics::Pattern(pattern) => KafkaSource::matching(brokers, &**pattern),
        };
        let mut input = input
            .start(kafka.start.clone())
            .on_data_loss(kafka.on_data_loss)
            .slicing(kafka.slicing)
            .reader(kafka.reader)
            .uid(&*source.name)
            .place(format!("{}: source `{}`", source.place, source.name))
            .wait(kafka.wait)
            .min_rate_per_partition(kafka.min_rate_per_partition)
            .max_records_per_batch(kafka.max_records_per_batch)
            .max_bytes_per_batch(kafka.max_bytes_per_batch);
        if let Some(rate) = kafka.max_rate_per_partition {
            input = input.max_rate_per_partition(rate);
        }
        if let Some(end) = &kafka.end {
            input = input.end(end.clone());
        }
        if let Some(interval) = kafka.discovery_interval {
            input = input.discovery_interval(interval);
        }
        if kafka.is_replayed {
            input = input.outside_the_group();
        }
        if let Some(log) = &kafka.follow {
            input = input.follow(log.clone());
        }
        for (name, value) in &kafka.cluster.options.0 {
            input = input.option(name, value);
        }
        let kafka = self.ssc.kafka_direct_stream(input);
        match decoder.on_bad_record {
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
        }
    }

    pub fn add(&mut self, stream: &Stream) -> Result<()> {
        let rows = match &stream.step {
            Step::Query(query) => self.query(&stream.name, query)?,
            Step::Union => {
                let first = self.input(stream, 0)?.clone();
                (1..stream.inputs.len()).try_fold(first, |all, i| all.union(self.input(stream, i)?))?
            }
            Step::Repartition(partitions) => self.repartition(stream, *partitions)?,
            Step::Count => counted(&self.row_count(stream)?),
            Step::ReduceByKey(grouping) => finish(&self.groups(grouping)?, grouping),
            Step::Window { uid, window } => self.window(stream, uid, *window)?,
            Step::CountByWindow { uid, window } => {
                let counts = self.row_count(stream)?;
                let sums = counts.reduce_by_window_with_inverse(
                    |a, b| a + b,
                    |a, b| a - b,
                    *window,
                    stream.slide,
                )?;
                counted(&with_uid(sums, uid)?)
            }
            Step::ReduceByKeyAndWindow { uid, grouping, window, inverse, filter, partitions } => {
                let mut spec = WindowSpec::reduce(merge(grouping));
                if *inverse {
                    let (take_out, zero) = (grouping.clone(), grouping.clone());
                    // What was counted in and out again is nothing: the number of rows tells it exactly.
                    spec = spec
                        .inverse(move |mut sum: Row, left: Row| {
                            take_out.invert(&mut sum, &left);
                            sum
                        })
                        .filter(move |_, state| !zero.is_zero(state));
                }
                if let Some(partitions) = partitions {
                    spec = spec.num_partitions(*partitions);
                }
                let groups =
                    self.groups(grouping)?.reduce_by_key_and_window_with(spec, *window, stream.slide)?;
                let rows = finish(&named(groups, uid, grouping)?, grouping);
                match filter {
                    None => rows,
                    Some(condition) => {
                        let condition = condition.clone();
                        rows.each_rdd("filter", move |rdd| {
                            let condition = condition.clone();
                            rdd.try_flat_map(move |batch| Ok(vec![condition.filter(&batch)?]))
                        })
                    }
                }
            }
            Step::MapWithState { state, timeout, emit } => {
                self.map_with_state(&stream.name, state, *timeout, *emit)?
            }
            Step::UpdateStateByKey { state, remove } => self.update_state_by_key(state, remove.as_ref())?,
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

    /// How many rows a batch has: one number, 0 for an empty batch.
    fn row_count(&self, stream: &Stream) -> Result<DStream<u64>> {
        Ok(self.input(stream, 0)?.each_rdd("count", |rdd| {
            let zero = rdd.derive(MemoryRdd::split(vec![0], 1));
            let partial = rdd.map_partitions_folded(|| 0, |n, batch| *n += batch.num_rows() as u64);
            partial.union(&zero).reduced(|a, b| a + b)
        }))
    }

    fn repartition(&self, stream: &Stream, partitions: usize) -> Result<Rows> {
        let schema = stream.schema.clone();
        let rows =
            self.input(stream, 0)?.each_rdd("rows", |rdd| rdd.try_flat_map(|batch| rows_of_batch(&batch)));
        Ok(rows.repartition(partitions).each_rdd("batches", move |rdd| batches(&rdd, &schema)))
    }

    fn window(&self, stream: &Stream, uid: &Uid, window: Duration) -> Result<Rows> {
        let schema = stream.schema.clone();
        let rows =
            self.input(stream, 0)?.each_rdd("rows", |rdd| rdd.try_flat_map(|batch| rows_of_batch(&batch)));
        let window =
            with_uid(rows.window(window, stream.slide)?, uid)?.state_types("batch".into(), columns(&schema));
        Ok(window.each_rdd("batches", move |rdd| batches(&rdd, &schema)))
    }

    fn map_with_state(
        &mut self,
        own: &str,
        KeyedState { uid, grouping, initial, partitions }: &KeyedState,
        timeout: Option<Duration>,
        emit: Emit,
    ) -> Result<Rows> {
        let add = grouping.clone();
        // With each state, whether it is the last of its key.
        let mut spec =
            StateSpec::function(move |key: &Row, new: Option<Row>, state: &mut crate::State<Row>| {
                let Some(mut sum) = new else {
                    return Some((key.clone(), state.get_option()?.clone(), true));
                };
                if let Some(before) = state.get_option() {
                    let mut total = before.clone();
                    add.merge(&mut total, &sum);
                    sum = total;
                }
                state.update(sum.clone());
                Some((key.clone(), sum, false))
            });
        if let Some(timeout) = timeout {
            spec = spec.timeout(timeout);
        }
        if let Some(table) = initial {
            spec = spec.initial_state(grouping.partial(&table.rows)?);
        }
        if let Some(partitions) = partitions {
            spec = spec.num_partitions(*partitions);
        }
        let states = self.groups(grouping)?.map_with_state_and_snapshots(spec);
        let changes = named((*states).clone(), uid, grouping)?;
        let removed = changes.filter(|(_, _, last)| *last).map(|(key, ..)| key);
        self.removed.insert(own.to_owned(), (removed, grouping.key_schema().clone()));
        let given = match emit {
            Emit::All => states.state_snapshots(),
            _ => changes.flat_map(move |(key, state, last)| {
                let given = match emit {
                    Emit::Updated => !last,
                    Emit::TimedOut => last,
                    _ => true,
                };
                given.then_some((key, state))
            }),
        };
        Ok(finish(&given, grouping))
    }

    fn update_state_by_key(
        &mut self,
        KeyedState { uid, grouping, initial, partitions }: &KeyedState,
        remove: Option<&Condition>,
    ) -> Result<Rows> {
        let (add, remove) = (grouping.clone(), remove.cloned());
        let mut spec = UpdateStateSpec::function(move |new: Vec<Row>, state: Option<Row>| {
            let sum = state.into_iter().chain(new).reduce(|mut sum, more| {
                add.merge(&mut sum, &more);
                sum
            })?;
            match &remove {
                Some(condition) if goes(condition, &add, &sum) => None,
                _ => Some(sum),
            }
        });
        if let Some(table) = initial {
            spec = spec.initial_state(grouping.partial(&table.rows)?);
        }
        if let Some(partitions) = partitions {
            spec = spec.num_partitions(*partitions);
        }
        let states = self.groups(grouping)?.update_state_by_key_with(spec);
        Ok(finish(&named(states, uid, grouping)?, grouping))
    }

    fn input(&self, stream: &Stream, index: usize) -> Result<&Rows> {
        match stream.inputs.get(index) {
            Some(name) => self.get(name),
            None => Err(Error::internal(format!("stream `{}` has no input {index}", stream.name))),
        }
    }

    /// A query that looks at each row by itself runs in the task of its input; any other over the batch as a whole.
    fn query(&mut self, own: &str, query: &Query) -> Result<Rows> {
        let (mut names, mut inputs, mut tables) = (Vec::new(), Vec::new(), Inputs::new());
        for name in query.inputs() {
            match self.tables.get(name) {
                Some(rows) => tables = tables.with(name, rows.clone()),
                None => {
                    names.push(name.clone());
                    inputs.push(self.get(name)?.clone());
                }
            }
        }
        let Some(first) = inputs.first().cloned() else {
            return Err(Error::config("a query has to read at least one stream"));
        };
        let others: Vec<_> = inputs[1..].iter().map(DStream::id).collect();
        let query = query.clone();
        if query.is_row_wise() && others.is_empty() {
            let (name, parent) = (names.concat(), first.clone());
            if let Some(traced) = self.traced.get(&name) {
                let traced = traced.query(own, &name, &query);
                let rows = traced.rows();
                self.traced.insert(own.to_owned(), traced);
                return Ok(rows);
            }
            return Ok(first.derive("sql", &[], first.slide_duration(), move |time: Time| {
                let (query, name) = (query.clone(), name.clone());
                let rows = parent.get_or_compute(time)?;
                Ok(rows.map(|rdd| {
                    rdd.try_flat_map(move |batch| query.run(&Inputs::new().with(&name, [batch]).at(time)))
                }))
            }));
        }
        let runner = self.ssc.inner.runner.clone();
        Ok(first.derive("sql", &others, first.slide_duration(), move |time: Time| {
            let mut tables = tables.clone().at(time);
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

/// Whether a state is to be forgotten.
fn goes(condition: &Condition, grouping: &Grouping, state: &Row) -> bool {
    let decided = grouping.values(state).and_then(|values| condition.holds(&values));
    // The function of the operator has no errors; a panic is told with the operator and its key.
    #[allow(clippy::panic, reason = "see above")]
    decided.unwrap_or_else(|error| panic!("{error}"))
}

/// Rows as batches, one per partition.
fn batches(rdd: &Rdd<Row>, schema: &SchemaRef) -> Rdd<RecordBatch> {
    let schema = schema.clone();
    rdd.try_map_partitions(move |rows| match rows.is_empty() {
        true => Ok(Vec::new()),
        false => batch_of_rows(&schema, &rows).map(|batch| vec![batch]),
    })
}

/// One number per batch as the one row of a count.
fn counted(counts: &DStream<u64>) -> Rows {
    let schema = crate::service::check::counted();
    counts.each_rdd("count", move |rdd| {
        let row = rdd.map(|n| Row(vec![i64::try_from(n).unwrap_or(i64::MAX).into()]));
        batches(&row, &schema)
    })
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
