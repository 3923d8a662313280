//! Running counts of few and of many keys, any of which a record may have: `map_with_state`, which is called for the keys that a batch
//! has, and `update_state_by_key`, which is called for all. What a batch takes that touches few keys of many is the `state` benchmark's.

use std::path::Path;
use std::time::Duration;

use tidemill::testing::TestContext;
use tidemill::{BatchInfo, RddQueue, StreamingContext, Time};

use crate::common::{cpu_seconds, variable};
use crate::state::{Batch, Cpu, fill, go_on, random, settle};

const SIZES: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
/// Few enough that most are of different keys, whatever the size.
const RECORDS: u64 = 10_000;
const BATCHES: u64 = 30;

pub fn measure() {
    let most = variable("BENCH_KEYS", 10_000_000);
    let folder = tempfile::tempdir().unwrap();
    let sizes = || SIZES.into_iter().filter(|keys| *keys <= most);
    let name = |keys: u64| format!("{keys} keys");
    let rows: Vec<_> =
        sizes().map(|keys| (name(keys), touched(&folder.path().join(keys.to_string()), keys))).collect();
    crate::print(
        &format!("map_with_state, batches of {RECORDS} records"),
        &["records/s", "CPU s per million records", "with RocksDB's threads"],
        &rows,
    );
    let rows: Vec<_> =
        sizes().map(|keys| (name(keys), all(&folder.path().join(format!("all-{keys}")), keys))).collect();
    crate::print(
        &format!("update_state_by_key, batches of {RECORDS} records"),
        &["ms per batch", "CPU s per million keys"],
        &rows,
    );
}

fn seconds(batches: &[BatchInfo]) -> f64 {
    batches.iter().map(|batch| batch.processing_duration.unwrap()).sum::<Duration>().as_secs_f64()
}

fn touched(folder: &Path, keys: u64) -> Vec<f64> {
    fill(folder, keys);
    let next = random(keys, RECORDS, 0..2 * BATCHES);
    let test = go_on(folder, keys, 0, &next);
    test.ssc.start().unwrap();
    let step = || (0..BATCHES).for_each(|_| test.step().unwrap());
    // The first ones are not measured, nor what is still put in order of what was written before.
    step();
    settle();
    let before = Cpu::used();
    step();
    let after = Cpu::used();
    test.ssc.stop(true).unwrap();
    let done = test.completed_batches();
    assert_eq!(done.last().unwrap().state[0].1.keys, keys);
    let records = (RECORDS * BATCHES) as f64;
    let batches = after.batches - before.batches;
    let beside = after.beside - before.beside;
    let rate = records / seconds(&done[done.len() - BATCHES as usize..]);
    vec![rate, batches * 1e6 / records, (batches + beside) * 1e6 / records]
}

fn all(folder: &Path, keys: u64) -> Vec<f64> {
    const FILL: u64 = 200_000;
    let builder = StreamingContext::builder("bench").checkpoint(folder);
    let test = TestContext::from_builder(builder, Time::ZERO).unwrap();
    let queue = RddQueue::new();
    (0..keys)
        .step_by(FILL as usize)
        .for_each(|from| queue.push([Batch::Range(from, (from + FILL).min(keys))]));
    random(keys, RECORDS, 0..2 * BATCHES).into_iter().for_each(|batch| queue.push([batch]));
    let pairs = test.ssc.queue_stream(&queue).flat_map(|batch| batch.keys().map(|key| (key, 1)));
    let total = |new: Vec<u64>, total: Option<u64>| Some(total.unwrap_or(0) + new.iter().sum::<u64>());
    pairs.update_state_by_key(total).foreach_rdd(|_| ());
    test.ssc.start().unwrap();
    (0..keys.div_ceil(FILL) + BATCHES).for_each(|_| test.step().unwrap());
    settle();
    let before = cpu_seconds();
    (0..BATCHES).for_each(|_| test.step().unwrap());
    let cpu = cpu_seconds() - before;
    test.ssc.stop(true).unwrap();
    let done = test.completed_batches();
    assert_eq!(done.last().unwrap().state[0].1.keys, keys);
    let milliseconds = seconds(&done[done.len() - BATCHES as usize..]) * 1e3 / BATCHES as f64;
    vec![milliseconds, cpu * 1e6 / (keys * BATCHES) as f64]
}
