//! Questions over states that are larger than the memory for them.

use std::sync::atomic::Ordering;

use super::*;
use crate::rdd::Disk;
use crate::service::check;
use crate::service::pipeline::Streams;
use crate::service::report::Report;
use crate::testing::TestContext;
use crate::{RddQueue, StreamingContext};

const PIPELINE: &str = "app_id: app
batch_interval: 1s
delivery: at-least-once
checkpoint: none
sources:
  lines: { socket: { host: localhost, port: 1 }, format: text }
streams:
  lengths: { update_state_by_key: { from: lines, key: [value], state: { n: \"count(*)\" } } }
  panes:
    reduce_by_key_and_window: { from: lines, key: [\"left(value, 1) as first\"], values: { n: \"count(*)\" }, window: 2s }
outputs:
  - { from: lengths, console: {} }
  - { from: panes, console: {} }
";

/// The rows of an answer, without the line that names the columns.
fn csv(questions: &Questions, sql: &str) -> Vec<String> {
    let answer = questions.ask(sql, Limits::default()).unwrap().shown(Form::Csv).unwrap();
    answer.lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn a_state_that_does_not_fit_in_memory_is_read_from_disk_for_a_question() {
    let mut report = Report::new("questions.yaml", PIPELINE.to_owned());
    let config = check::check(&mut report).unwrap_or_else(|| panic!("{}", report.render(false)));
    let folder = tempfile::tempdir().unwrap();
    let builder =
        StreamingContext::builder("app").worker_threads(2).checkpoint(folder.path().join("checkpoint"));
    let test = TestContext::from_builder(builder, Time::ZERO).unwrap();
    let queue = RddQueue::<String>::new();
    // 100,000 keys in the first batch, the first 10 of them once more in the second.
    queue.push((0..100_000).map(|n| format!("{n:0>100}")));
    queue.push((0..10).map(|n| format!("{n:0>100}")));
    let mut streams = Streams::new(&test.ssc, &[], crate::sql::DEFAULT_MEMORY);
    streams.add_given(&config.sources[0], &test.ssc.queue_stream(&queue)).unwrap();
    config.streams.iter().for_each(|stream| streams.add(stream).unwrap());
    for name in ["lengths", "panes"] {
        test.collect(streams.get(name).unwrap());
    }
    test.ssc.start().unwrap();
    test.step().unwrap();
    test.step().unwrap();

    let disk = Disk::new(folder.path());
    let inner = &test.ssc.inner;
    // The keys alone take 10 MB, of which 8 have room.
    let memory = Memory::new(16 << 20, &disk);
    let questions = Questions::new(Some(&config), None, inner.db.clone(), inner.clock.clone(), memory);
    assert_eq!(
        csv(&questions, "select count(*), sum(n), max(value) from state_lengths"),
        [format!("100000,100010,{:0>100}", 99_999)]
    );
    let spilled = disk.spilled().load(Ordering::Relaxed);
    assert!(spilled > 1_000_000, "{spilled}");
    // A join, neither side of which fits.
    assert_eq!(
        csv(
            &questions,
            "select count(*), sum(a.n * b.n) from state_lengths a join state_lengths b on a.value = b.value"
        ),
        ["100000,100030"]
    );
    assert_eq!(
        csv(&questions, "select batch_time, first, n from state_panes order by batch_time"),
        ["1970-01-01T00:00:01Z,0,100000", "1970-01-01T00:00:02Z,0,10"]
    );
    drop(streams);
    test.crash().unwrap();
}

/// The numbers of a table `t`, with the seconds of their batches.
fn numbers(tables: &LiveTables) -> Vec<(i64, i64)> {
    let names = ["t".to_owned()];
    let (mut rows, _) = tables.rows(&names);
    let rows = rows.remove("t").unwrap();
    let row = |row: crate::sql::Row| match row.0[..] {
        [crate::sql::Value::Int(time), crate::sql::Value::Int(n)] => (time / 1_000_000, n),
        ref other => panic!("{other:?}"),
    };
    rows.iter().flat_map(|batch| crate::sql::rows_of_batch(batch).unwrap()).map(row).collect()
}

#[test]
fn a_table_keeps_its_last_rows() {
    use crate::batch::StreamingListener as _;
    use crate::sql::{DataType, Row, batch_of_rows, schema};
    let schema = schema([("n", DataType::Int64)]);
    let rows = |range: std::ops::Range<i64>| -> Spooled {
        let rows: Vec<Row> = range.map(|n| Row::from(vec![n.into()])).collect();
        vec![batch_of_rows(&schema, &rows).unwrap()].into()
    };
    let tables = Arc::<LiveTables>::default();
    tables.add("t", &schema, Some(Duration::seconds(10)), 4);
    let at = Time::from_millis;
    tables.put("t", at(1_000), &[rows(0..3), rows(3..8), rows(8..10)]).unwrap();
    assert_eq!(numbers(&tables), []);
    Publish(tables.clone()).batch_skipped(at(1_000));
    assert_eq!(numbers(&tables), [(1, 6), (1, 7), (1, 8), (1, 9)]);
    tables.put("t", at(2_000), &[rows(10..11)]).unwrap();
    Publish(tables.clone()).batch_skipped(at(2_000));
    assert_eq!(numbers(&tables), [(1, 7), (1, 8), (1, 9), (2, 10)]);
    // Ten seconds after the first batch.
    Publish(tables.clone()).batch_skipped(at(11_000));
    assert_eq!(numbers(&tables), [(2, 10)]);
    // A batch may have given its rows before the one before it is committed.
    tables.put("t", at(11_500), &[rows(11..12)]).unwrap();
    tables.put("t", at(12_000), &[rows(12..13)]).unwrap();
    Publish(tables.clone()).batch_skipped(at(11_500));
    assert_eq!(numbers(&tables), [(2, 10), (11, 11)]);
    Publish(tables.clone()).batch_skipped(at(12_000));
    assert_eq!(numbers(&tables), [(11, 11), (12, 12)]);
}
