//! Rows to where they go.

use std::io::Write as _;
use std::sync::Arc;

use super::Streams;
use crate::error::{Error, Result};
use crate::service::check::{KafkaTopic, Output, Sink};
use crate::service::pipeline::beside_the_bar;
use crate::sink::kafka::{KafkaSink, ProducerRecord};
use crate::sql::{RecordBatch, encode};
use crate::time::Time;

/// Has the rows of `output`'s stream written to where it says.
pub(super) fn add(streams: &Streams<'_>, output: &Output, sink: Option<&KafkaSink>) -> Result<()> {
    let stream = streams.get(&output.from)?;
    match &output.sink {
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
            let rows = *rows;
            stream.output("console", move |rdd, time| {
                let batches = rdd.collect()?;
                let shown = encode::pretty(&batches, rows);
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
