//! What of a receiver's blocks outlives a failure, a stop and a kill.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use serde::{Deserialize, Serialize, Serializer};
use tempfile::TempDir;
use tidemill::testing::TestContext;
use tidemill::{Duration, Error, ErrorKind, Receiver, ReceiverHandle, Result, StreamingContext, Time};

use super::super::{at, builder, s};
use super::{PATIENCE, Stage};

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_start_after_a_last_batch_that_ended_early_goes_on_behind_it() {
    let folder = folder();
    {
        let stage = Stage::new(builder("test").checkpoint(folder.path()).batch_interval(s(600)), 0);
        let handle = stage.start();
        handle.store(1).unwrap();
        stage.test.ssc.stop(true).unwrap();
        assert_eq!(stage.shown(), ["600s: [1]"]);
    }
    let stage = Stage::new(builder("test").checkpoint(folder.path()).batch_interval(s(600)), 1);
    let handle = stage.start();
    handle.store(2).unwrap();
    stage.test.clock.set(at(1_200));
    stage.test.ssc.stop(true).unwrap();
    assert_eq!(stage.shown(), ["1200s: [2]"]);
}

#[test]
fn a_stop_that_is_not_graceful_leaves_blocks_for_the_next_start() {
    let folder = folder();
    {
        let stage = Stage::on_disk(folder.path(), 0);
        let handle = stage.start();
        handle.store(1).unwrap();
        stage.test.step().unwrap();
        handle.store(2).unwrap();
        handle.store_many([3, 4]).unwrap();
        handle.store(5).unwrap();
        stage.test.ssc.stop(false).unwrap();
        assert_eq!(stage.shown(), ["1s: [1]"]);
    }
    let stage = Stage::on_disk(folder.path(), 1);
    let handle = stage.start();
    handle.store(6).unwrap();
    stage.test.step().unwrap();
    stage.test.step().unwrap();
    stage.test.ssc.stop(true).unwrap();
    assert_eq!(stage.shown(), ["2s: [2] [3, 4] [5] [6]", "3s:"]);
    let records: Vec<_> = stage.test.completed_batches().iter().map(|b| b.num_records).collect();
    assert_eq!(records, [5, 0]);
}

#[test]
fn blocks_that_memory_has_no_room_for_are_read_from_the_checkpoint() {
    let folder = folder();
    for memory in [0, 9] {
        let builder = builder("test").checkpoint(folder.path().join(memory.to_string()));
        let stage = Stage::new(builder.receiver_memory(memory), 0);
        let handle = stage.start();
        for n in 0..5 {
            handle.store_many([n, n + 10, n + 20]).unwrap();
        }
        stage.test.step().unwrap();
        handle.store(6).unwrap();
        stage.test.step().unwrap();
        stage.test.ssc.stop(true).unwrap();
        assert_eq!(
            stage.shown(),
            ["1s: [0, 10, 20] [1, 11, 21] [2, 12, 22] [3, 13, 23] [4, 14, 24]", "2s: [6]"]
        );
    }
}

#[test]
fn a_failed_batch_is_run_again_with_the_same_blocks_and_later_ones_come_after_it() {
    let folder = folder();
    {
        let stage = Stage::on_disk(folder.path(), 0);
        stage.stream.foreach_rdd_with_time(
            |_, time| {
                if time == at(2) { Err(Error::task("no luck")) } else { Ok(()) }
            },
        );
        let handle = stage.start();
        handle.store_many([1]).unwrap();
        stage.test.step().unwrap();
        handle.store_many([2, 3]).unwrap();
        handle.store(4).unwrap();
        stage.test.step().unwrap_err();
        assert!(handle.is_stopped(), "a failure ends the receivers");
        handle.store(5).unwrap_err();
        assert_eq!(stage.shown(), ["1s: [1]", "2s: [2, 3] [4]"]);
        assert_eq!(stage.events.wait_for(2), ["0 started", "0 stopped"]);
    }
    let stage = Stage::on_disk(folder.path(), 2);
    let handle = stage.start();
    handle.store(6).unwrap();
    stage.test.step().unwrap();
    stage.test.ssc.stop(true).unwrap();
    assert_eq!(stage.shown(), ["2s: [2, 3] [4]", "3s: [6]"]);
}

#[test]
fn what_was_stored_while_the_failing_batch_ran_is_not_lost() {
    let folder = folder();
    {
        let stage = Stage::on_disk(folder.path(), 0);
        let handle = Arc::new(Mutex::new(None::<ReceiverHandle<i64>>));
        let storing = handle.clone();
        stage.stream.foreach_rdd(move |_| -> Result<()> {
            storing.lock().unwrap().take().unwrap().store(2)?;
            Err(Error::task("no luck"))
        });
        *handle.lock().unwrap() = Some(stage.start());
        handle.lock().unwrap().as_ref().unwrap().store(1).unwrap();
        stage.test.step().unwrap_err();
        assert_eq!(stage.shown(), ["1s: [1]"]);
    }
    let stage = Stage::on_disk(folder.path(), 1);
    stage.start();
    stage.test.ssc.stop(true).unwrap();
    assert_eq!(stage.shown(), ["1s: [1]", "2s: [2]"]);
}

#[test]
fn receivers_are_numbered_and_have_blocks_of_their_own() {
    let folder = folder();
    let session = |now: i64, graceful: bool, words: [&str; 2]| {
        let test = TestContext::from_builder(builder("test").checkpoint(folder.path()), at(now)).unwrap();
        let make = |word: &str| {
            let (sender, stored) = channel();
            let word = word.to_owned();
            let stream = test.ssc.receiver_stream(move |handle: ReceiverHandle<String>| {
                handle.store(format!("{word}{}", handle.stream_id()))?;
                sender.send(()).unwrap();
                Ok(())
            });
            (test.collect(&stream), stored)
        };
        let outputs = words.map(make);
        test.ssc.start().unwrap();
        outputs.iter().for_each(|(_, stored)| stored.recv_timeout(PATIENCE).unwrap());
        test.ssc.stop(graceful).unwrap();
        outputs.map(|(output, _)| output.take().into_iter().flat_map(|(_, words)| words).collect::<Vec<_>>())
    };
    assert_eq!(session(0, false, ["a", "b"]), [vec![""; 0], vec![]]);
    assert_eq!(session(0, true, ["c", "d"]), [["a0", "c0"], ["b1", "d1"]]);
}

#[test]
fn the_blocks_of_a_receiver_that_was_gone_for_a_while_wait_for_it() {
    let folder = folder();
    let session = |now: i64, with_receiver: bool| {
        if with_receiver {
            return Stage::on_disk(folder.path(), now);
        }
        let test = TestContext::from_builder(builder("test").checkpoint(folder.path()), at(now)).unwrap();
        test.ssc.queue_stream(&tidemill::RddQueue::<i64>::new()).print();
        test.run(1).unwrap();
        drop(test);
        Stage::on_disk(folder.path(), now + 1)
    };
    {
        let stage = session(0, true);
        let handle = stage.start();
        handle.store_many([1]).unwrap();
        stage.test.step().unwrap();
        handle.store_many([2]).unwrap();
        handle.store_many([3]).unwrap();
        stage.test.ssc.stop(false).unwrap();
    }
    let stage = session(1, false);
    stage.start().store(4).unwrap();
    stage.test.ssc.stop(true).unwrap();
    assert_eq!(stage.shown(), ["3s: [2] [3] [4]"]);
}

/// A number that cannot be written if it is negative.
#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Natural(i64);

impl Serialize for Natural {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            0.. => serializer.serialize_newtype_struct("Natural", &self.0),
            _ => Err(serde::ser::Error::custom("below zero")),
        }
    }
}

#[test]
fn an_element_that_cannot_be_written_is_refused_and_harms_no_other() {
    let folder = folder();
    let test = TestContext::from_builder(builder("test").checkpoint(folder.path()), at(0)).unwrap();
    let (sender, handles) = channel();
    let output = test.collect(&test.ssc.receiver_stream(move |handle: ReceiverHandle<Natural>| {
        sender.send(handle).unwrap();
        Ok(())
    }));
    test.ssc.start().unwrap();
    let handle = handles.recv_timeout(PATIENCE).unwrap();
    handle.store(Natural(1)).unwrap();
    assert_eq!(handle.store(Natural(-1)).unwrap_err().kind(), ErrorKind::Checkpoint);
    handle.store_many([Natural(2), Natural(-2)]).unwrap_err();
    handle.store(Natural(3)).unwrap();
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    assert_eq!(output.take(), [(at(1), vec![Natural(1), Natural(3)])]);
}

#[derive(Debug, Clone)]
enum Step {
    Store(u8),
    StoreMany(Vec<u8>),
    Batch,
    /// A batch that fails, and a new program.
    Fail,
    /// A stop, graceful or not, and a new program.
    Stop(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<u8>().prop_map(Step::Store),
        3 => prop::collection::vec(any::<u8>(), 0..4).prop_map(Step::StoreMany),
        3 => Just(Step::Batch),
        1 => Just(Step::Fail),
        1 => any::<bool>().prop_map(Step::Stop),
    ];
    prop::collection::vec(step, 0..24)
}

/// Runs `steps`, without their interruptions if not `interrupted`, and gives all elements in the order of the batches.
fn elements(steps: &[Step], memory: usize, interrupted: bool) -> Vec<i64> {
    let folder = folder();
    let mut batches = BTreeMap::<Time, Vec<Vec<i64>>>::new();
    let mut now = 0;
    let mut steps = steps.iter();
    loop {
        let stage = Stage::new(builder("test").checkpoint(folder.path()).receiver_memory(memory), now);
        let failing = Arc::new(Mutex::new(false));
        let fails = failing.clone();
        stage.stream.foreach_rdd(
            move |_| {
                if *fails.lock().unwrap() { Err(Error::task("no luck")) } else { Ok(()) }
            },
        );
        let handle = stage.start();
        let mut is_last = true;
        for step in steps.by_ref() {
            match step {
                Step::Store(n) => handle.store(i64::from(*n)).unwrap(),
                Step::StoreMany(many) => handle.store_many(many.iter().map(|n| i64::from(*n))).unwrap(),
                Step::Fail if interrupted => {
                    *failing.lock().unwrap() = true;
                    stage.test.step().unwrap_err();
                    is_last = false;
                }
                Step::Stop(gracefully) if interrupted => {
                    stage.test.ssc.stop(*gracefully).unwrap();
                    is_last = false;
                }
                Step::Batch | Step::Fail => stage.test.step().unwrap(),
                Step::Stop(_) => {}
            }
            if !is_last {
                break;
            }
        }
        if is_last {
            stage.test.ssc.stop(true).unwrap();
        }
        for (time, blocks) in stage.blocks.take() {
            if let Some(before) = batches.insert(time, blocks.clone()) {
                assert_eq!(before, blocks, "a batch is run again with the same blocks");
            }
            now = now.max(time.as_millis() / 1_000);
        }
        if is_last {
            return batches.into_values().flatten().flatten().collect();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn runs_with_interruptions_give_what_was_stored_once_and_in_order(
        steps in steps(),
        memory in prop_oneof![Just(0usize), Just(10), Just(1 << 20)],
    ) {
        let stored: Vec<i64> = steps.iter().flat_map(|step| match step {
            Step::Store(n) => vec![i64::from(*n)],
            Step::StoreMany(many) => many.iter().map(|n| i64::from(*n)).collect(),
            _ => vec![],
        }).collect();
        prop_assert_eq!(&elements(&steps, memory, true), &stored);
        prop_assert_eq!(&elements(&steps, memory, false), &stored);
    }
}

const KILLED: &str = "TIDEMILL_TEST_KILLED";

/// The program that [`killed_programs_lose_and_double_nothing`] kills: stores numbers, says which are stored, and keeps the
/// batches in files.
#[test]
fn program_to_be_killed() {
    let Ok(setting) = std::env::var(KILLED) else { return };
    let (first, folder) = setting.split_once(' ').unwrap();
    let first: i64 = first.parse().unwrap();
    let ssc = numbers_to_files(Path::new(folder), move |handle: ReceiverHandle<i64>| {
        for n in first.. {
            if n % 3 == 0 {
                handle.store(-n)?
            }
            handle.store_many([n])?;
            println!("\nstored {n}");
        }
        Ok(())
    });
    ssc.start().unwrap();
    ssc.await_termination().unwrap();
}

fn numbers_to_files(folder: &Path, receiver: impl Receiver<i64>) -> StreamingContext {
    let ssc = StreamingContext::builder("killed")
        .batch_interval(Duration::millis(10))
        .block_interval(Duration::millis(2))
        .receiver_memory(100)
        .worker_threads(2)
        .checkpoint(folder.join("checkpoint"))
        .build()
        .unwrap();
    let folder = folder.to_owned();
    ssc.receiver_stream(receiver).foreach_rdd_with_time(move |rdd, time| -> Result<()> {
        let numbers: Vec<_> = rdd.collect()?.iter().map(i64::to_string).collect();
        if !numbers.is_empty() {
            // Written as a whole, and named by the batch time: a batch that is run again replaces its file.
            let file = folder.join(time.as_millis().to_string());
            std::fs::write(folder.join("new"), numbers.join("\n")).unwrap();
            std::fs::rename(folder.join("new"), file).unwrap();
        }
        Ok(())
    });
    ssc
}

#[test]
fn killed_programs_lose_and_double_nothing() {
    let folder = folder();
    let mut acknowledged = Vec::new();
    for (round, count) in [20, 1, 60, 35].into_iter().enumerate() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "engine::receivers::recovery::program_to_be_killed", "--nocapture"])
            .env(KILLED, format!("{} {}", 1 + round * 1_000_000, folder.path().display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut left = count;
        for line in lines.map_while(Result::ok) {
            if let Some(n) = line.strip_prefix("stored ").and_then(|n| n.parse::<i64>().ok()) {
                acknowledged.push(n);
                left -= 1;
                if left == 0 {
                    child.kill().unwrap();
                }
            }
        }
        assert!(left <= 0, "the program ended by itself");
        child.wait().unwrap();
    }
    // What the last one left behind.
    let ssc = numbers_to_files(folder.path(), |_: ReceiverHandle<i64>| Ok(()));
    ssc.start().unwrap();
    ssc.stop(true).unwrap();

    let mut processed = Vec::new();
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && path.file_name().is_some_and(|n| n != "new") {
            let text = std::fs::read_to_string(path).unwrap();
            processed.extend(text.lines().map(|n| n.parse::<i64>().unwrap()));
        }
    }
    let unique: BTreeSet<_> = processed.iter().copied().collect();
    assert_eq!(processed.len(), unique.len(), "nothing is doubled");
    let lost: Vec<_> = acknowledged.iter().filter(|n| !unique.contains(n)).collect();
    assert!(lost.is_empty(), "lost of {}: {lost:?}", acknowledged.len());
    // A single store is as safe as the block that was stored after it.
    let singles: Vec<_> = acknowledged.iter().filter(|n| **n % 3 == 0 && !unique.contains(&-**n)).collect();
    assert!(singles.is_empty(), "{singles:?}");
}
