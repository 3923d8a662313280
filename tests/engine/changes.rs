//! Programs that are changed between two runs, and what becomes of their state.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tidemill::testing::TestContext;
use tidemill::{DStream, Duration, Error, ErrorKind, Result, StateSpec, StreamingContextBuilder};

use super::state::{running_sum, sums};
use super::{Pair, at, builder, queue_of, s, shown};

fn folder() -> TempDir {
    tempfile::tempdir().expect("there is room for a folder")
}

fn on(folder: &Path) -> StreamingContextBuilder {
    builder("test").checkpoint(folder).state_partitions(4)
}

/// Runs `program` with these settings from second `from` for `count` batches, and shows what it gives. The queue has a
/// batch for each that there was since the epoch.
fn session(
    settings: StreamingContextBuilder,
    batches: &[&str],
    from: i64,
    count: usize,
    program: impl FnOnce(&DStream<Pair>) -> DStream<Pair>,
) -> Vec<String> {
    let test = TestContext::from_builder(settings, at(from)).expect("the checkpoint can be opened");
    let output = test.collect(&program(&test.ssc.queue_stream(&queue_of(batches))));
    test.run(count).expect("no batch fails");
    shown(output.take())
}

/// Why `program` cannot be started with these settings.
fn refused(
    settings: StreamingContextBuilder,
    program: impl FnOnce(&DStream<Pair>) -> Result<DStream<Pair>>,
) -> Error {
    let test = TestContext::from_builder(settings, at(1)).expect("the checkpoint can be opened");
    test.collect(
        &program(&test.ssc.queue_stream(&queue_of(&["a1", "a2"]))).expect("the operators can be made"),
    );
    test.ssc.start().expect_err("the program does not fit")
}

fn totals(uid: &'static str) -> impl Fn(&DStream<Pair>) -> DStream<Pair> {
    move |p| p.update_state_by_key(running_sum).uid(uid).unwrap()
}

fn renamed(p: &DStream<Pair>) -> DStream<Pair> {
    p.update_state_by_key(running_sum).uid("sums").unwrap().was("totals").unwrap()
}

#[test]
fn an_operator_that_was_renamed_finds_its_state_at_every_start() {
    let folder = folder();
    let batches = ["a1", "a2", "a4", "a8"];
    assert_eq!(session(on(folder.path()), &batches, 0, 1, totals("totals")), ["1s: a1"]);
    assert_eq!(session(on(folder.path()), &batches, 1, 1, renamed), ["2s: a3"]);
    // Renamed already.
    assert_eq!(session(on(folder.path()), &batches, 2, 1, renamed), ["3s: a7"]);
    assert_eq!(session(on(folder.path()), &batches, 3, 1, totals("sums")), ["4s: a15"]);
}

#[test]
fn a_state_that_had_no_name_can_be_given_one() {
    let folder = folder();
    let unnamed = |p: &DStream<Pair>| p.map_with_state(sums());
    assert_eq!(session(on(folder.path()), &["a1", "a2"], 0, 1, unnamed), ["1s: a1"]);
    let named =
        |p: &DStream<Pair>| p.map_with_state(sums()).uid("totals").unwrap().was("map_with_state-1").unwrap();
    assert_eq!(session(on(folder.path()), &["a1", "a2"], 1, 1, named), ["2s: a3"]);
}

#[test]
fn a_new_operator_begins_empty_beside_the_old_ones() {
    let folder = folder();
    let batches = ["a1", "a2"];
    assert_eq!(session(on(folder.path()), &batches, 0, 1, totals("totals")), ["1s: a1"]);
    let more = |p: &DStream<Pair>| totals("totals")(p).union(&totals("new")(p)).unwrap();
    assert_eq!(session(on(folder.path()), &batches, 1, 1, more), ["2s: a2 a3"]);
}

#[test]
fn state_without_an_operator_is_an_error_that_names_it_and_all_ways_on() {
    let folder = folder();
    let two = |p: &DStream<Pair>| totals("one")(p).union(&totals("two")(p)).unwrap();
    session(on(folder.path()), &["a1"], 0, 1, two);
    let error = refused(on(folder.path()).remove_state("two"), |p| Ok(totals("three")(p)));
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    let text = error.to_string();
    let holds = format!(
        "the checkpoint {} holds state of operators that the program does not have: `one`. ",
        folder.path().display()
    );
    assert!(text.starts_with(&holds), "{text}");
    for way in [".uid(\"one\")", ".was(\"one\")", "remove_state(\"one\")", "remove_state: [one]", "was: one"]
    {
        assert!(text.contains(way), "{text} does not tell {way}");
    }
    let text = refused(on(folder.path()), |p| Ok(totals("three")(p))).to_string();
    assert!(text.contains("does not have: `one`, `two`."), "{text}");
    // What was allowed to be dropped is still there, since nothing was started.
    assert_eq!(session(on(folder.path()), &["a1", "a2"], 1, 1, two), ["2s: a3 a3"]);
}

#[test]
fn state_that_may_be_removed_is_gone() {
    let folder = folder();
    let batches = ["a1", "a2", "a4"];
    let two = |p: &DStream<Pair>| totals("one")(p).union(&totals("two")(p)).unwrap();
    session(on(folder.path()), &batches, 0, 1, two);
    let without = on(folder.path()).remove_state("two").remove_state("never was");
    assert_eq!(session(without, &batches, 1, 1, totals("one")), ["2s: a3"]);
    // It comes back as a new one.
    assert_eq!(session(on(folder.path()), &batches, 2, 1, two), ["3s: a4 a7"]);
}

#[test]
fn names_that_contradict_each_other_are_refused_before_anything_is_changed() {
    let folder = folder();
    session(on(folder.path()), &["a1"], 0, 1, totals("totals"));
    let error = refused(on(folder.path()).remove_state("totals"), |p| Ok(totals("totals")(p)));
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("`remove_state` names `totals`"), "{error}");
    let error = refused(on(folder.path()).remove_state("totals"), |p| Ok(renamed(p)));
    assert!(error.to_string().contains("either renamed or removed"), "{error}");
    let error = refused(on(folder.path()), |p| renamed(p).union(&totals("totals")(p)));
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("has an operator `totals` besides"), "{error}");
    let again = |p: &DStream<Pair>| p.update_state_by_key(running_sum).uid("more")?.was("totals");
    let error = refused(on(folder.path()), |p| renamed(p).union(&again(p)?));
    assert!(error.to_string().contains("operators `sums` and `more` both were `totals`"), "{error}");
    let error = refused(on(folder.path()), |p| p.map_with_state(sums()).uid("sums")?.was("totals"));
    assert!(error.to_string().contains("holds a update_state_by_key from char to i64"), "{error}");
    assert_eq!(session(on(folder.path()), &["a1", "a2"], 1, 1, totals("totals")), ["2s: a3"]);
}

#[test]
fn a_former_uid_of_an_operator_without_state_is_an_error() {
    let test = TestContext::new("test").unwrap();
    let error = test.ssc.queue_stream(&queue_of(&[])).map(|pair| pair).was("totals").err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Usage);
    assert_eq!(error.to_string(), "`was` with the uid `totals` was given to an operator that keeps no state");
}

#[test]
fn another_key_type_is_an_error_that_says_what_to_do() {
    let folder = folder();
    session(on(folder.path()), &["a1"], 0, 1, totals("totals"));
    let by_text = |uid: &'static str| {
        move |p: &DStream<Pair>| {
            let pairs = p.map(|(key, n)| (key.to_string(), n)).update_state_by_key(running_sum).uid(uid)?;
            Ok(pairs.map(|(key, n)| (key.chars().next().unwrap(), n)))
        }
    };
    let error = refused(on(folder.path()), by_text("totals"));
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    let text = error.to_string();
    assert!(text.contains("operator `totals` is a update_state_by_key from alloc::string::String"), "{text}");
    assert!(text.contains("`remove_state(\"totals\")`") && text.ends_with("another uid"), "{text}");
    // What it says works.
    let settings = on(folder.path()).remove_state("totals");
    let out = session(settings, &["a1", "a2"], 1, 1, |p| by_text("totals-by-text")(p).unwrap());
    assert_eq!(out, ["2s: a2"]);
}

mod before {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub struct Total {
        pub sum: i64,
    }
}

mod after {
    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    pub struct Total {
        pub largest: Option<i64>,
        pub sum: i64,
        #[serde(default)]
        pub seen: u32,
    }
}

#[test]
fn values_with_added_optional_fields_are_read_from_older_ones() {
    let folder = folder();
    let batches = ["a1 b5", "a2", ""];
    let old = |p: &DStream<Pair>| {
        let add =
            StateSpec::function(|key: &char, n: Option<i64>, state: &mut tidemill::State<before::Total>| {
                let sum = state.get_option().map_or(0, |total| total.sum) + n?;
                state.update(before::Total { sum });
                Some((*key, sum))
            });
        p.map_with_state(add).uid("totals").unwrap()
    };
    assert_eq!(session(on(folder.path()), &batches, 0, 1, old), ["1s: a1 b5"]);
    let new = |p: &DStream<Pair>| {
        let add = |new: Vec<i64>, total: Option<after::Total>| {
            let mut total = total.unwrap_or(after::Total { largest: None, sum: 0, seen: 0 });
            total.sum += new.iter().sum::<i64>();
            total.seen += new.len() as u32;
            total.largest = total.largest.max(new.into_iter().max());
            Some(total)
        };
        let spec = StateSpec::function(
            move |key: &char, n: Option<i64>, state: &mut tidemill::State<after::Total>| {
                let total = add(vec![n?], state.get_option().cloned())?;
                let shown = total.sum * 100 + total.largest.unwrap_or(0) * 10 + i64::from(total.seen);
                state.update(total);
                Some((*key, shown))
            },
        );
        p.map_with_state(spec).uid("totals").unwrap()
    };
    assert_eq!(session(on(folder.path()), &batches, 1, 2, new), ["2s: a321", "3s:"]);
}

/// All that keeps panes or times, on one folder each.
type Program = fn(&DStream<Pair>) -> DStream<Pair>;

fn windows() -> BTreeMap<&'static str, Program> {
    BTreeMap::from([
        ("window", (|p| p.window(s(4), s(2)).unwrap()) as fn(&DStream<Pair>) -> DStream<Pair>),
        ("reduce", |p| p.reduce_by_key_and_window(|a, b| a + b, s(4), s(2)).unwrap()),
        ("inverse", |p| {
            p.reduce_by_key_and_window_with_inverse(|a, b| a + b, |a, b| a - b, s(4), s(2)).unwrap()
        }),
    ])
}

fn every(millis: i64) -> impl Fn(&Path) -> StreamingContextBuilder {
    move |folder| on(folder).batch_interval(Duration::millis(millis))
}

#[test]
fn windows_go_on_with_a_shorter_batch_interval() {
    let folder = folder();
    // Until 3 s by whole seconds, from then on by halves.
    let batches = ["a1", "a2", "a4", "a8", "a16", "a32", "a64", "a128", "a256"];
    for (name, program) in windows() {
        let path = folder.path().join(name);
        let before = session(every(1_000)(&path), &batches, 0, 3, program);
        let after = session(every(500)(&path), &batches, 3, 6, program);
        // At 4 s: all up to 4 s. At 6 s: what came after 2 s.
        match name {
            "window" => {
                assert_eq!(before, ["2s: a1 a2"], "{name}");
                assert_eq!(after, ["4s: a1 a2 a4 a8 a16", "6s: a4 a8 a16 a32 a64 a128 a256"], "{name}");
            }
            _ => {
                assert_eq!(before, ["2s: a3"], "{name}");
                assert_eq!(after, ["4s: a31", "6s: a508"], "{name}");
            }
        }
    }
}

#[test]
fn windows_go_on_with_a_longer_batch_interval() {
    let folder = folder();
    // Until 3 s by halves: the longer batches begin at 4 s.
    let batches = ["a1", "a2", "a4", "a8", "a16", "a32", "a64", "a128"];
    for (name, program) in windows() {
        let path = folder.path().join(name);
        session(every(500)(&path), &batches, 0, 6, program);
        let after = session(every(2_000)(&path), &batches, 3, 2, program);
        match name {
            "window" => {
                assert_eq!(after, ["4s: a1 a2 a4 a8 a16 a32 a64", "6s: a16 a32 a64 a128"], "{name}");
            }
            _ => assert_eq!(after, ["4s: a127", "6s: a240"], "{name}"),
        }
    }
}

#[test]
fn state_and_timeouts_go_on_with_another_batch_interval() {
    let folder = folder();
    let batches = ["a1 b2", "b3", "", "", "a5"];
    let program = |p: &DStream<Pair>| p.map_with_state(sums().timeout(s(2)));
    assert_eq!(session(every(1_000)(folder.path()), &batches, 0, 2, program), ["1s: a1 b2", "2s: b5"]);
    // The batch's data comes first, and keeps a alive.
    let after = session(every(500)(folder.path()), &batches, 2, 5, program);
    assert_eq!(after, ["2.5s:", "3s:", "3.5s: a6", "4s:", "4.5s: b-5"]);
}

#[test]
fn a_batch_interval_that_does_not_divide_the_windows_is_an_error_that_says_so() {
    let folder = folder();
    session(every(1_000)(folder.path()), &["a1"], 0, 1, windows()["reduce"]);
    let test = TestContext::from_builder(every(1_500)(folder.path()), at(1)).unwrap();
    let pairs = test.ssc.queue_stream(&queue_of(&["a1"]));
    let error = pairs.reduce_by_key_and_window(|a, b| a + b, s(4), s(2)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(
        error.to_string(),
        "the window duration 4s of `reduce_by_key_and_window` must be a multiple of its parent's slide duration 1500ms"
    );
}

#[test]
fn an_unfinished_batch_is_finished_with_its_own_interval_first() {
    let folder = folder();
    let batches = ["a1", "a2", "a4"];
    {
        let test = TestContext::from_builder(every(1_000)(folder.path()), at(0)).unwrap();
        let states = totals("totals")(&test.ssc.queue_stream(&queue_of(&batches)));
        states.foreach_rdd(|_| Err(Error::task("no luck")));
        test.run(1).unwrap_err();
    }
    let error = refused(every(2_000)(folder.path()), |p| Ok(totals("totals")(p)));
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    let text = error.to_string();
    assert!(
        text.starts_with("batch 1000 ms is unfinished, and is no multiple of the batch interval 2s"),
        "{text}"
    );
    // Half of it divides it.
    let out = session(every(500)(folder.path()), &batches, 1, 1, totals("totals"));
    assert_eq!(out, ["1s: a1", "1.5s: a3"]);
}
