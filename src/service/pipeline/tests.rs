//! Aggregates that are stored: over a stream in any batches, with restarts in between, they come to what DataFusion makes of
//! the same rows as one table.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::Streams;
use crate::service::check::{self, Config};
use crate::service::report::Report;
use crate::sql::{Inputs, Planner, RecordBatch, encode};
use crate::testing::TestContext;
use crate::time::Time;
use crate::{RddQueue, StreamingContext};

/// The columns, with the aggregate as the pipeline has it, and as DataFusion has it over one table.
const EXACT: [(&str, &str, &str); 17] = [
    ("rows", "count(*)", "count(*)"),
    ("present", "count(n)", "count(n)"),
    ("total", "sum(n)", "sum(n)"),
    ("some", "sum(n) filter (where n > 0)", "sum(n) filter (where n > 0)"),
    ("least", "min(n)", "min(n)"),
    ("most", "max(name)", "max(name)"),
    ("mean", "avg(n)", "avg(n)"),
    ("floats", "sum(x)", "sum(x)"),
    ("float_mean", "avg(x)", "avg(x)"),
    ("head", "first(n)", "first_value(n order by at)"),
    ("tail", "last_value(n)", "last_value(n order by at)"),
    ("latest", "last_value(name order by at)", "last_value(name order by at)"),
    ("kinds", "count(distinct name)", "count(distinct name)"),
    ("spread", "stddev(n)", "stddev(n)"),
    ("each", "array_agg(n order by at)", "array_agg(n order by at)"),
    ("top", "top_n(n, 3)", "array_slice(array_agg(n order by n desc) filter (where n is not null), 1, 3)"),
    (
        "top_names",
        "top_n(name, 2, n)",
        "array_slice(array_agg(name order by n desc, name) filter (where n is not null and name is not null), 1, 2)",
    ),
];

#[derive(Debug, Clone)]
struct Row {
    key: Option<u8>,
    n: Option<i64>,
    x: Option<f64>,
    name: Option<u8>,
}

impl Row {
    fn json(&self, at: usize) -> Value {
        let at = crate::Time::ZERO + crate::Duration::seconds(at as i64);
        let name = self.name.map(|name| format!("name {name}"));
        json!({ "k": self.key, "n": self.n, "x": self.x, "name": name, "at": at.as_millis() * 1_000 })
    }
}

fn rows() -> impl Strategy<Value = Row> {
    let key = prop_oneof![1 => Just(None), 9 => (0..4u8).prop_map(Some)];
    let n = prop_oneof![1 => Just(None), 9 => (-50..50i64).prop_map(Some)];
    let x = prop_oneof![1 => Just(None), 9 => (-1e6..1e6f64).prop_map(Some)];
    let name = prop_oneof![1 => Just(None), 9 => (0..12u8).prop_map(Some)];
    (key, n, x, name).prop_map(|(key, n, x, name)| Row { key, n, x, name })
}

fn pipeline(columns: &[(&str, &str)]) -> Config {
    let state: Vec<String> =
        columns.iter().map(|(name, call)| format!("        {name}: \"{call}\"\n")).collect();
    let text = format!(
        "app_id: app\nbatch_interval: 1s\ndelivery: at-least-once\ncheckpoint: none\nsources:\n  events:\n    \
         socket: {{ host: localhost, port: 1 }}\n    format: json\n    \
         schema: {{ k: bigint, n: bigint, x: double, name: text, at: timestamp }}\nstreams:\n  states:\n    \
         update_state_by_key:\n      from: events\n      key: [k]\n      state:\n{}outputs:\n  \
         - {{ from: states, console: {{}} }}\n",
        state.concat()
    );
    let mut report = Report::new("aggregates.yaml", text);
    let config = check::check(&mut report);
    config.unwrap_or_else(|| panic!("{}", report.render(false)))
}

/// What the states come to after all batches, by key. The context is killed and goes on from its checkpoint where `restarts` say.
fn streamed(config: &Config, batches: &[Vec<Value>], restarts: &[bool]) -> BTreeMap<String, Value> {
    let folder = tempfile::tempdir().unwrap();
    let mut last = Vec::new();
    let mut next = 0;
    while next < batches.len() {
        let builder =
            StreamingContext::builder("app").worker_threads(2).checkpoint(folder.path().join("checkpoint"));
        let test =
            TestContext::from_builder(builder, Time::ZERO + crate::Duration::seconds(next as i64)).unwrap();
        let mut streams = Streams::new(&test.ssc, &[], crate::sql::DEFAULT_MEMORY);
        let queue = RddQueue::<String>::new();
        for batch in batches {
            // In two partitions, whose states are merged.
            let lines: Vec<String> = batch.iter().map(Value::to_string).collect();
            let (first, second) = lines.split_at(lines.len() / 2);
            queue.push_partitions([first.to_vec(), second.to_vec()]);
        }
        streams.add_given(&config.sources[0], &test.ssc.queue_stream(&queue)).unwrap();
        config.streams.iter().for_each(|stream| streams.add(stream).unwrap());
        let output = test.collect(streams.get("states").unwrap());
        test.ssc.start().unwrap();
        loop {
            test.step().unwrap();
            next += 1;
            if next == batches.len() || restarts.get(next).copied().unwrap_or(false) {
                break;
            }
        }
        last = output.take().pop().map_or(Vec::new(), |(_, batches)| batches);
        drop(streams);
        test.crash().unwrap();
    }
    by_key(&last)
}

/// DataFusion's own result over the rows as one table.
fn at_once(config: &Config, columns: &[(&str, &str)], rows: &[Value]) -> BTreeMap<String, Value> {
    let decoder = crate::sql::Decoder::new(config.sources[0].format.clone()).unwrap();
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    let values: Vec<Option<&[u8]>> = lines.iter().map(|line| Some(line.as_bytes())).collect();
    let table = decoder.decode_values(&values).batch;
    let mut planner = Planner::new();
    planner.register("events", config.sources[0].schema.clone());
    let columns: Vec<String> = columns.iter().map(|(name, call)| format!(", {call} as {name}")).collect();
    let query = planner.query(&format!("select k{} from events group by k", columns.concat())).unwrap();
    by_key(&query.run(&Inputs::new().with("events", [table])).unwrap())
}

fn by_key(batches: &[RecordBatch]) -> BTreeMap<String, Value> {
    let rows = batches.iter().flat_map(|batch| encode::rows_as_json(batch).unwrap());
    let row = |row: Vec<u8>| serde_json::from_slice::<Value>(&row).unwrap();
    rows.map(row).map(|row| (row["k"].to_string(), row)).collect()
}

/// Equal, floats within 1e-9 of their size (or of that of what was summed up).
fn close(found: &Value, expected: &Value) -> bool {
    match (found, expected) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| close(a, b)))
        }
        // DataFusion's array of nothing is NULL.
        (Value::Array(a), Value::Null) | (Value::Null, Value::Array(a)) => a.is_empty(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(a, b)),
        _ => found == expected,
    }
}

fn cut(rows: &[Row], sizes: &[usize]) -> Vec<Vec<Value>> {
    let mut rows = rows.iter().enumerate().map(|(at, row)| row.json(at)).peekable();
    let mut batches: Vec<Vec<Value>> = sizes.iter().map(|size| rows.by_ref().take(*size).collect()).collect();
    batches.push(rows.collect());
    batches
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn states_are_what_one_table_gives(
        rows in proptest::collection::vec(rows(), 0..80),
        sizes in proptest::collection::vec(0..20usize, 0..6),
        restarts in proptest::collection::vec(any::<bool>(), 7),
    ) {
        let config = pipeline(&EXACT.map(|(name, call, _)| (name, call)));
        let batches = cut(&rows, &sizes);
        let found = streamed(&config, &batches, &restarts);
        let expected = at_once(&config, &EXACT.map(|(name, _, call)| (name, call)), &batches.concat());
        prop_assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (key, expected) in &expected {
            prop_assert!(close(&found[key], expected), "found {}\nexpected {expected}", found[key]);
        }
    }
}

/// Approximate ones: distinct values within 4% of the truth, percentiles within 2% of the ranks.
#[test]
fn approximations_are_as_near_as_stated() {
    let columns = [
        ("kinds", "approx_distinct(n)"),
        ("median", "approx_percentile(n, 0.5)"),
        ("high", "approx_percentile_cont(0.95) within group (order by n)"),
    ];
    let config = pipeline(&columns);
    // Each of 0..5000 once, mixed up by a step that has no common divisor with 5000.
    let rows: Vec<Row> =
        (0..5_000).map(|i| Row { key: Some(1), n: Some(i * 1_237 % 5_000), x: None, name: None }).collect();
    let batches = cut(&rows, &[700, 1, 0, 1_900, 1_000]);
    let found = streamed(&config, &batches, &[false, false, true, false, true]);
    let near = |column: &str, truth: f64, by: f64| {
        let value = found["1"][column].as_f64().unwrap();
        assert!((value - truth).abs() <= by, "{column}: {value}, expected {truth} ± {by}");
    };
    near("kinds", 5_000.0, 200.0);
    near("median", 2_500.0, 100.0);
    near("high", 4_750.0, 100.0);
}
