//! Rows to where they go.

use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use super::Streams;
use crate::DStream;
use crate::error::{Error, Result};
use crate::rdd::Rdd;
use crate::service::check::{KafkaTopic, Output, Sink};
use crate::service::pipeline::beside_the_bar;
use crate::service::query::LiveTables;
use crate::sink::kafka::{KafkaSink, ProducerRecord};
use crate::sql::{FileFormat, Memory, RecordBatch, SchemaRef, Spooled, cut, encode, spooled};
use crate::time::Time;

/// Has the rows of `output`'s stream, which has the columns `schema`, written to where it says.
pub(super) fn add(
    streams: &Streams<'_>,
    output: &Output,
    schema: &SchemaRef,
    sink: Option<&KafkaSink>,
    tables: &Arc<LiveTables>,
) -> Result<()> {
    let stream = streams.get(&output.from)?;
    match &output.sink {
        Sink::Files { path, format } => files(streams, stream, schema.clone(), path, *format),
        Sink::Table { name, remember, rows } => {
            tables.add(name, schema, *remember, *rows);
            let told = format!("table({name})");
            let (tables, name, memory) = (tables.clone(), name.clone(), streams.memory().clone());
            stream.output(&told, move |rdd, time| tables.put(&name, time, &kept(&rdd, &memory)?));
        }
        Sink::Kafka(topic) => {
            let sink = sink.ok_or_else(|| Error::internal("a Kafka output has no cluster"))?;
            sink.topic(&topic.topic, topic.settings.clone());
            let columns = Arc::new(Columns::of(topic));
            let mut records = stream.each_rdd("to_records", move |rdd| {
                let columns = columns.clone();
                rdd.try_flat_map(move |batch| columns.records(&batch))
            });
            if topic.tombstones {
                let key = topic.key.clone().unwrap_or_default();
                let tombstones = streams.removed(&output.from)?.each_rdd("to_tombstones", move |rdd| {
                    let key = key.clone();
                    rdd.try_flat_map(move |batch| {
                        let keys = encode::column_as_keys(&batch, &key)?;
                        Ok(keys.into_iter().flatten().map(ProducerRecord::tombstone).collect())
                    })
                });
                records = records.union(&tombstones)?;
            }
            records.save_to_kafka(sink, &topic.topic);
        }
        Sink::Console { rows } => {
            let (rows, turn) = (*rows, streams.turn());
            stream.output(&format!("console({})", output.from), move |rdd, time| {
                let heads = rdd.fold_partitions(Head::default, |head, batch| head.take(&batch, rows))?;
                let beyond = heads.iter().map(|head| head.beyond).sum();
                let batches: Vec<_> = heads.into_iter().flat_map(|head| head.batches).collect();
                let shown = encode::pretty(&batches, rows, beyond);
                turn.wait()?;
                let write = || {
                    let mut out = std::io::stdout().lock();
                    writeln!(out, "Time: {time}\n{shown}").and_then(|()| out.flush())
                };
                beside_the_bar(write)
                    .map_err(|e| Error::output("cannot write to standard output").with_source(e))
            });
        }
    }
    Ok(())
}

/// The first rows of a partition.
#[derive(Default)]
struct Head {
    batches: Vec<RecordBatch>,
    rows: usize,
    /// How many came after them.
    beyond: usize,
}

impl Head {
    /// Keeps of `batch` what is among the first `most` rows, and the columns at least.
    fn take(&mut self, batch: &RecordBatch, most: usize) -> Result<()> {
        let rows = batch.num_rows().min(most - self.rows);
        self.rows += rows;
        self.beyond += batch.num_rows() - rows;
        if rows > 0 || self.batches.is_empty() {
            self.batches.push(cut(batch, 0..rows)?);
        }
        Ok(())
    }
}

/// The rows of a batch, wherever they have room.
fn kept(rdd: &Rdd<RecordBatch>, memory: &Arc<Memory>) -> Result<Vec<Spooled>> {
    let rows =
        spooled(rdd, memory, 1, |batch, spools| spools.iter_mut().try_for_each(|spool| spool.push(&batch)))?;
    Ok(rows.concat())
}

/// Which columns become what of a record.
struct Columns {
    key: Option<String>,
    /// None for the whole row.
    value: Option<String>,
    headers: Vec<(String, String)>,
    timestamp: Option<String>,
}

impl Columns {
    fn of(topic: &KafkaTopic) -> Self {
        let KafkaTopic { key, value, headers, timestamp, .. } = topic;
        let (key, value, timestamp) = (key.clone(), value.clone(), timestamp.clone());
        Self { key, value, headers: headers.clone(), timestamp }
    }

    /// One record per row.
    fn records(&self, batch: &RecordBatch) -> Result<Vec<ProducerRecord>> {
        let values = match &self.value {
            Some(column) => encode::column_as_keys(batch, column)?,
            None => encode::rows_as_json(batch)?.into_iter().map(Some).collect(),
        };
        let mut records: Vec<_> =
            values.into_iter().map(|value| ProducerRecord { value, ..ProducerRecord::default() }).collect();
        if let Some(column) = &self.key {
            for (record, key) in records.iter_mut().zip(encode::column_as_keys(batch, column)?) {
                record.key = key;
            }
        }
        for (name, column) in &self.headers {
            for (record, value) in records.iter_mut().zip(encode::column_as_keys(batch, column)?) {
                record.headers.push((name.clone(), value));
            }
        }
        if let Some(column) = &self.timestamp {
            for (record, at) in records.iter_mut().zip(encode::column_as_millis(batch, column)?) {
                record.timestamp = at.map(Time::from_millis);
            }
        }
        Ok(records)
    }
}

/// A folder for each batch that has rows, with one file and the empty `_SUCCESS` that vouches for it.
fn files(
    streams: &Streams<'_>,
    stream: &DStream<RecordBatch>,
    schema: SchemaRef,
    path: &Path,
    format: FileFormat,
) {
    let memory = streams.memory().clone();
    let path = path.to_owned();
    let sink = stream.ssc.inner.graph.file_sink();
    let told = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    stream.output(&format!("files({told})"), move |rdd, time| {
        let rows = kept(&rdd, &memory)?;
        if rows.iter().all(|part| part.num_rows() == 0) {
            return Ok(());
        }
        let mut folder = path.as_os_str().to_owned();
        folder.push(format!("-{}.{}", time.as_millis(), format.extension()));
        sink.stage(Path::new(&folder), |folder| {
            let part = folder.join(format!("part-00000.{}", format.extension()));
            let failed = |e: std::io::Error| {
                Error::output(format!("cannot write {}: {e}", part.display())).with_source(e)
            };
            fs::create_dir_all(folder).map_err(failed)?;
            let mut file = BufWriter::new(File::create(&part).map_err(failed)?);
            format
                .write(&schema, rows.iter().flat_map(Spooled::batches), &mut file)
                .map_err(|e| e.within(format_args!("file {}", part.display())))?;
            let file = file.into_inner().map_err(|e| failed(e.into_error()))?;
            file.sync_all()
                .and_then(|()| File::create(folder.join("_SUCCESS"))?.sync_all())
                .and_then(|()| File::open(folder)?.sync_all())
                .map_err(failed)
        })
    });
}
