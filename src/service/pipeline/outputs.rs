//! Rows to where they go.

use std::io::Write as _;

use crate::DStream;
use crate::error::{Error, Result};
use crate::service::check::Sink;
use crate::sink::kafka::{KafkaSink, ProducerRecord};
use crate::sql::{RecordBatch, encode};

/// Has `stream`'s rows written to `sink`.
pub(super) fn add(stream: &DStream<RecordBatch>, sink: &Sink, kafka: Option<&KafkaSink>) -> Result<()> {
    match sink {
        Sink::Kafka { topic, key, partitions } => {
            let kafka = kafka.ok_or_else(|| Error::internal("a Kafka output has no cluster"))?;
            kafka.create_topic(topic, *partitions);
            let key = key.clone();
            let records = stream.each_rdd("to_json", move |rdd| {
                let key = key.clone();
                rdd.try_flat_map(move |batch| records(&batch, key.as_deref()))
            });
            records.save_to_kafka(kafka, topic);
        }
        Sink::Console { rows } => {
            let rows = *rows;
            stream.output("console", move |rdd, time| {
                let batches = rdd.collect()?;
                let mut out = std::io::stdout().lock();
                writeln!(out, "Time: {time}\n{}", encode::pretty(&batches, rows))
                    .and_then(|()| out.flush())
                    .map_err(|e| Error::output("cannot write to standard output").with_source(e))
            });
        }
    }
    Ok(())
}

/// One record per row: the row as a JSON object, keyed by the column `key`.
fn records(batch: &RecordBatch, key: Option<&str>) -> Result<Vec<ProducerRecord>> {
    let values = encode::rows_as_json(batch)?;
    let keys = match key {
        Some(column) => encode::column_as_keys(batch, column)?,
        None => vec![None; values.len()],
    };
    let record = |(key, value)| ProducerRecord { key, value: Some(value), headers: Vec::new() };
    Ok(keys.into_iter().zip(values).map(record).collect())
}
