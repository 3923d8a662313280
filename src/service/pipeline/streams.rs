//! The pipeline's streams as DStreams: of rows as Arrow batches, and, for keyed operators, of keys with partial states.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::decode::{Chunk, SourceDecoder};
use super::traced::{Traced, TracedStream};
use crate::batch::Turn;
use crate::error::{Error, Result};
use crate::rdd::{Data, Flow, MemoryRdd, Rdd, TaskContext};
use crate::service::check::{Input, KafkaInput, OnBadRecord, Source, Step, Stream, Table, Topics, Uid};
use crate::source::FileOptions;
use crate::source::kafka::{KafkaSource, KafkaStream};
use crate::sql::{
    Grouping, Inputs, Keeping, Memory, Part, Query, RecordBatch, Row, SchemaRef, Spooled, batch_of_rows,
    columnar, every, rows_of_batch, run_in_tasks, shared, spooled, type_name,
};
use crate::time::{Duration, Time};
use crate::{DStream, StreamingContext, WindowSpec};

pub(super) type Rows = DStream<RecordBatch>;
/// Keys with what their rows come to so far.
pub(super) type Groups = DStream<(Row, Row)>;

/// The streams that were made so far, by name.
pub(crate) struct Streams<'c> {
    ssc: &'c StreamingContext,
    by_name: BTreeMap<String, Rows>,
    /// Operators that group the same stream by the same expressions share one grouping of its chunks.
    partials: BTreeMap<String, DStream<Spooled>>,
    /// Those that look back or keep a state share what the chunks come to, too.
    groups: BTreeMap<String, Groups>,
    /// What the rows of a batch may take.
    memory: Arc<Memory>,
    /// Rows that know their records, of sources that do not fail for a bad one, and of what looks at each such row by itself.
    traced: BTreeMap<String, TracedStream>,
    /// The keys whose state has timed out, and their columns, by the name of the stream that kept it.
    pub(super) removed: BTreeMap<String, (DStream<Row>, SchemaRef)>,
    /// The rows of tables in files, by name.
    tables: BTreeMap<String, Arc<[RecordBatch]>>,
}

impl<'c> Streams<'c> {
    /// None yet, for a pipeline with these tables, whose batches may take so many bytes.
    pub fn new(ssc: &'c StreamingContext, tables: &[Table], memory_limit: usize) -> Self {
        let memory = Arc::new(Memory::new(memory_limit, ssc.inner.runner.disk()));
        let tables = tables.iter().map(|table| (table.name.clone(), table.rows.clone())).collect();
        Self {
            ssc,
            by_name: BTreeMap::new(),
            partials: BTreeMap::new(),
            groups: BTreeMap::new(),
            memory,
            removed: BTreeMap::new(),
            traced: BTreeMap::new(),
            tables,
        }
    }

    /// The running batch's turn to be seen by others.
    pub(crate) fn turn(&self) -> Arc<Turn> {
        self.ssc.inner.runner.turn().clone()
    }

    /// What the rows of a batch may take.
    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.memory
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
        let mut decoder = SourceDecoder::new(source)?;
        // Without Kafka there is no topic for dead letters.
        if decoder.on_bad_record.dead_letter_topic().is_some() {
            decoder.on_bad_record = OnBadRecord::Skip;
        }
        let rows = decoder.lines(records);
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
                let input = |i| Ok::<_, Error>(in_columns(self.input(stream, i)?, &stream.schema));
                (1..stream.inputs.len()).try_fold(input(0)?, |all, i| all.union(&input(i)?))?
            }
            Step::Repartition(partitions) => self.repartition(stream, *partitions)?,
            Step::Count => counted(&self.row_count(stream)?),
            Step::ReduceByKey(grouping) => self.reduce_by_key(grouping)?,
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
                let groups = named(groups, uid, grouping.key_schema(), grouping.state_schema())?;
                let rows = finish(&groups, &grouping.clone().into());
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
        let memory = self.memory.clone();
        rows.core.set_keep_shared(Arc::new(move |rdd| shared(rdd, &memory)));
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

    /// Row by row to one partition after the other, as an RDD's `repartition` does it, but never more in memory than fits.
    fn repartition(&self, stream: &Stream, partitions: usize) -> Result<Rows> {
        let (input, memory) = (self.input(stream, 0)?, self.memory.clone());
        let (parent, runner) = (input.core.clone(), self.ssc.inner.runner.clone());
        Ok(input.derive("repartition", &[], input.slide_duration(), move |time| {
            let Some(rdd) = parent.get_or_compute(time)? else { return Ok(None) };
            // Each batch with the partition for its first row.
            let placed = rdd.try_pieces(move |read, task, _, emit| {
                let mut first = task;
                read(&mut |batch: RecordBatch| {
                    let of_batch = first % partitions;
                    first += batch.num_rows();
                    emit((of_batch, batch))
                })
            });
            let parts = spooled(&placed, &memory, partitions, |(first, batch), spools| {
                spools.iter_mut().enumerate().try_for_each(|(number, spool)| {
                    let row = (number + partitions - first) % partitions;
                    spool.push(&every(&batch, row, partitions)?)
                })
            })?;
            Ok(Some(Spooled::rdd_of(parts, &runner)))
        }))
    }

    fn window(&self, stream: &Stream, uid: &Uid, window: Duration) -> Result<Rows> {
        let schema = stream.schema.clone();
        let rows =
            self.input(stream, 0)?.each_rdd("rows", |rdd| rdd.try_flat_map(|batch| rows_of_batch(&batch)));
        let window =
            with_uid(rows.window(window, stream.slide)?, uid)?.state_types("batch".into(), columns(&schema));
        Ok(window.each_rdd("batches", move |rdd| batches(&rdd, &schema)))
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
        let runner = self.ssc.inner.runner.clone();
        let query = query.clone();
        if query.is_row_wise() && others.is_empty() {
            let (name, parent) = (names.concat(), first.core.clone());
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
                    rdd.try_pieces(move |read, _, _, emit| {
                        let mut run = query.start(&name, Inputs::new().at(time))?;
                        read(&mut |batch| run.push(batch, emit))?;
                        run.finish(emit)
                    })
                }))
            }));
        }
        let (rest, parts) = query.split(|name| names.iter().any(|stream| stream == name))?;
        let (rest, memory) = (rest.within(&self.memory)?, self.memory.clone());
        let in_tasks = |part: Part| Part { query: part.query.in_tasks(&memory), ..part };
        let parts: Vec<_> = parts.into_iter().map(in_tasks).collect();
        // The streams themselves: a `DStream` would keep the context alive that keeps this.
        let inputs: Vec<_> = inputs.into_iter().map(|stream| stream.core).collect();
        Ok(first.derive("sql", &others, first.slide_duration(), move |time: Time| {
            let mut tables = tables.clone().at(time);
            let mut rdds = Vec::with_capacity(inputs.len());
            for stream in &inputs {
                let Some(rdd) = stream.get_or_compute(time)? else { return Ok(None) };
                rdds.push(rdd);
            }
            for (stream, rdd) in names.iter().zip(rdds) {
                let parts: Vec<&Part> = parts.iter().filter(|part| part.stream == *stream).collect();
                let queries: Vec<_> = parts.iter().map(|part| (&**stream, &part.query)).collect();
                let results = run_in_tasks(&rdd, &queries, Some(time), &memory)?;
                for (part, rows) in parts.iter().zip(results) {
                    tables = tables.with_parts(&part.name, rows);
                }
            }
            Ok(Some(rest.run_spooled(&tables, &memory)?.rdd(&runner)))
        }))
    }

    /// The partial states of the groups of each chunk of the batch.
    fn partials(&mut self, grouping: &Grouping) -> Result<DStream<Spooled>> {
        if let Some(partials) = self.partials.get(grouping.partial_sql()) {
            return Ok(partials.clone());
        }
        let input = self.get(grouping.input())?.clone();
        let (parent, own, memory) = (input.core.clone(), grouping.within(&self.memory)?, self.memory.clone());
        let runner = self.ssc.inner.runner.clone();
        let partials = input.derive("group", &[], input.slide_duration(), move |time| {
            let Some(rdd) = parent.get_or_compute(time)? else { return Ok(None) };
            let results = run_in_tasks(&rdd, &[(own.input(), own.partial_query())], None, &memory)?;
            let parts = results.into_iter().flatten().map(|part| Arc::new(vec![part])).collect();
            Ok(Some(Rdd::in_memory(&runner, parts)))
        });
        self.partials.insert(grouping.partial_sql().to_owned(), partials.clone());
        Ok(partials)
    }

    /// The groups of the whole batch, in columns that only the grouping can read.
    fn merged(&mut self, grouping: &Grouping) -> Result<Rows> {
        let (partials, runner) = (self.partials(grouping)?, self.ssc.inner.runner.clone());
        let (grouping, memory) = (grouping.within(&self.memory)?, self.memory.clone());
        let parent = partials.core.clone();
        Ok(partials.derive("merge", &[], partials.slide_duration(), move |time| {
            let Some(rdd) = parent.get_or_compute(time)? else { return Ok(None) };
            Ok(Some(grouping.run_merge(rdd.collect()?, &memory)?.rdd(&runner)))
        }))
    }

    /// The batch's groups alone, one row per key.
    fn reduce_by_key(&mut self, grouping: &Grouping) -> Result<Rows> {
        let (merged, finish) = (self.merged(grouping)?, grouping.clone());
        Ok(merged.each_rdd("finish", move |rdd| {
            let finish = finish.clone();
            rdd.try_flat_map(move |batch| Ok(vec![finish.merged(&batch)?]))
        }))
    }

    /// The partial states of the batch's groups, one per key.
    pub(super) fn groups(&mut self, grouping: &Grouping) -> Result<Groups> {
        if let Some(groups) = self.groups.get(grouping.partial_sql()) {
            return Ok(groups.clone());
        }
        let own = grouping.clone();
        // Columns are merged many times as fast as rows.
        let groups = if grouping.merges_states() {
            self.merged(grouping)?.each_rdd("rows", move |rdd| {
                let own = own.clone();
                rdd.try_flat_map(move |batch| own.merged_groups(&batch))
            })
        } else {
            let groups = self.partials(grouping)?.each_rdd("rows", move |rdd| {
                let own = own.clone();
                rdd.try_pieces(move |read, _, _, emit| {
                    read(&mut |part: Spooled| {
                        part.batches()
                            .try_for_each(|batch| own.groups(&batch?)?.into_iter().try_for_each(&mut *emit))
                    })
                })
            });
            groups.reduce_by_key(merge(grouping))
        };
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
        read(&mut |records| {
            let mut rest = records.whole();
            while !rest.is_empty() {
                rest = chunk.extend(rest);
                if chunk.is_full() {
                    finish(&mut chunk, task, &mut *emit)?;
                }
            }
            Ok(())
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
pub(super) fn named<T: Data>(
    groups: DStream<T>,
    uid: &Uid,
    key: &SchemaRef,
    state: &SchemaRef,
) -> Result<DStream<T>> {
    Ok(with_uid(groups, uid)?.state_types(columns(key), columns(state)))
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

/// The rows as ones of these columns, of which they have another form.
fn in_columns(rows: &Rows, schema: &SchemaRef) -> Rows {
    let schema = schema.clone();
    rows.each_rdd("columns", move |rdd| {
        let schema = schema.clone();
        rdd.try_flat_map(move |batch| {
            Ok(vec![columnar(&schema, batch.columns().to_vec(), batch.num_rows())?])
        })
    })
}

/// Rows as batches.
fn batches(rdd: &Rdd<Row>, schema: &SchemaRef) -> Rdd<RecordBatch> {
    let schema = schema.clone();
    in_pieces(rdd, move |rows| batch_of_rows(&schema, rows))
}

/// So many rows make a batch, so that no more of them need be columns at once.
const PIECE: usize = 8_192;

/// What `make` makes of each partition's elements, piece by piece.
fn in_pieces<T: Data>(
    rdd: &Rdd<T>,
    make: impl Fn(&[T]) -> Result<RecordBatch> + Send + Sync + 'static,
) -> Rdd<RecordBatch> {
    rdd.try_pieces(move |read, _, _, emit| {
        let mut piece = Vec::new();
        read(&mut |element| {
            piece.push(element);
            if piece.len() == PIECE {
                emit(make(&piece)?)?;
                piece.clear();
            }
            Ok(())
        })?;
        if piece.is_empty() { Ok(()) } else { emit(make(&piece)?) }
    })
}

/// One number per batch as the one row of a count.
fn counted(counts: &DStream<u64>) -> Rows {
    let schema = crate::service::check::counted();
    counts.each_rdd("count", move |rdd| {
        let row = rdd.map(|n| Row::from(vec![i64::try_from(n).unwrap_or(i64::MAX).into()]));
        batches(&row, &schema)
    })
}

/// The output rows of groups.
pub(super) fn finish(groups: &Groups, keeping: &Keeping) -> Rows {
    let keeping = keeping.clone();
    groups.each_rdd("finish", move |rdd| {
        let keeping = keeping.clone();
        in_pieces(&rdd, move |groups: &[(Row, Row)]| {
            keeping.finish(groups.iter().map(|(key, state)| (key, state)))
        })
    })
}
