//! Panics are told with the operator whose function it was, and with the record's place, wherever it came from.

use std::cmp::Ordering;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};

use tidemill::testing::TestContext;
use tidemill::{
    DStream, Data, Error, FileOptions, Rdd, Receiver, ReceiverHandle, Result, StreamingContextBuilder, Time,
    UpdateStateSpec,
};

use super::state::running_sum;
use super::{Pair, at, builder, pairs, s, without_places};

fn once() -> StreamingContextBuilder {
    builder("test").max_attempts(1)
}

/// The error's text when `program` runs over a batch of two partitions.
fn failure(program: impl FnOnce(&DStream<Pair>) -> DStream<Pair>) -> String {
    let test = TestContext::from_builder(once(), Time::ZERO).unwrap();
    let input = test.input_partitions([vec![pairs("a2 b3"), pairs("c4 x5 d6")]]);
    test.collect(&program(&input));
    without_places(&test.run(1).unwrap_err().to_string())
}

/// The same for an action in the function of a `transform`.
fn failed_action<R>(action: impl Fn(&Rdd<Pair>) -> Result<R> + Send + Sync + 'static) -> String {
    failure(|p| p.try_transform(move |rdd, _| action(&rdd).map(|_| rdd)))
}

fn no_x(key: char) {
    assert!(key != 'x', "no x is wanted");
}

/// A number that cannot be compared with 5, neither for order nor as a key.
#[derive(Clone, Debug)]
struct Shy(i64);

impl Ord for Shy {
    fn cmp(&self, other: &Self) -> Ordering {
        assert!(self.0 != 5 && other.0 != 5, "no x is wanted");
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for Shy {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Shy {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Shy {}

#[track_caller]
fn ends(text: &str, end: &str) {
    assert!(text.ends_with(&format!("{end}: panicked: no x is wanted")), "{text}");
}

#[test]
fn operators_of_rdds_are_told() {
    let of_x = |operator: &str| {
        format!("task of partition 1, attempt 1: operator `{operator}`, element 1 of partition 1")
    };
    let no_five = |n: i64| {
        assert!(n != 5, "no x is wanted");
        n
    };
    ends(&failure(|p| p.flat_map_values(move |n| [no_five(n)])), &of_x("flat_map_values"));
    ends(&failure(|p| p.flat_map_values(move |n| [n].into_iter().map(no_five))), &of_x("flat_map_values"));
    // What comes after it is not its fault.
    let after = failure(|p| p.flat_map_values(|n| [n]).map(|pair| (pair.0, no_x(pair.0)).0).map(|k| (k, 1)));
    ends(&after, &of_x("map"));
    let keyed = |rdd: Rdd<Pair>| rdd.key_by(|pair| no_x(pair.0)).values();
    ends(&failure(|p| p.transform(keyed)), &of_x("transform"));
    let grouped = |rdd: Rdd<Pair>| rdd.group_by(|pair| (no_x(pair.0), pair.0).1).map(|(key, _)| (key, 1));
    ends(&failure(|p| p.transform(grouped)), &of_x("transform"));
}

#[test]
fn a_sort_is_told_in_each_of_its_steps() {
    let by_key = failure(|p| p.transform(|rdd| rdd.sort_by(|pair| (no_x(pair.0), pair.1).1, true, 2)));
    ends(&by_key, "task of partition 1, attempt 1: operator `transform`, element 1 of partition 1");
    let in_a_run = failure(|p| p.transform(|rdd| rdd.sort_by(|pair| Shy(pair.1), true, 2)));
    ends(&in_a_run, "task of partition 1, attempt 1: operator `transform`");
    // Runs of one element are compared first when bounds are looked for, or when they are merged.
    let alone = |partitions: usize| {
        failure(|p| {
            p.transform(move |rdd| {
                let few = rdd.filter(|pair| "ax".contains(pair.0));
                few.map(|(key, n)| (Shy(n), key)).sort_by_key(true, partitions).map(|(n, key)| (key, n.0))
            })
        })
    };
    ends(&alone(2), "operator `transform`");
    ends(&alone(1), "operator `transform`");
}

#[test]
fn actions_are_told_where_their_results_are_put_together() {
    let no_x = |n: i64, (key, _): Pair| -> i64 {
        assert!(key != 'x', "no x is wanted");
        n
    };
    let text = failed_action(move |rdd| rdd.aggregate(0, no_x, |a, _| a));
    ends(&text, "operator `transform`, element 1 of partition 1");
    let text = failed_action(|rdd| rdd.aggregate(0, |n, _| n, |_, _| panic!("no x is wanted")));
    ends(&text, "operator `transform`");
    let text = failed_action(|rdd| rdd.filter(|p| "ax".contains(p.0)).map(|p| Shy(p.1)).take_ordered(1));
    ends(&text, "operator `transform`");
    let text = failed_action(|rdd| rdd.filter(|p| "ax".contains(p.0)).map(|p| Shy(p.1)).min());
    ends(&text, "operator `transform`");
}

#[test]
fn the_first_elements_are_told_with_the_partition_that_failed() {
    let text = failed_action(|rdd| rdd.map(|pair| (no_x(pair.0), pair).1).take(9));
    ends(&text, "task of partition 1, attempt 1: operator `transform`, element 1 of partition 1");
}

#[test]
fn what_a_shuffle_merges_is_told_with_its_key() {
    let text = failure(|p| {
        p.map(|(_, n)| ('k', n)).reduce_by_key(|a, b| {
            assert!(a + b < 16, "no x is wanted");
            a + b
        })
    });
    ends(&text, "operator `reduce_by_key`, key \"k\"");
}

#[test]
fn states_and_windows_are_told_with_the_key() {
    let test = |program: &dyn Fn(&DStream<Pair>) -> DStream<Pair>| {
        let test = TestContext::from_builder(once(), Time::ZERO).unwrap();
        test.collect(&program(&test.input(["a1 b5 c1", "a2 b5 c2", ""].map(pairs))));
        without_places(&test.run(3).unwrap_err().to_string())
    };
    let at = |operator: &str| format!(", attempt 1: operator `{operator}-1`, key \"b\"");
    let reduce = |a: i64, b: i64| {
        assert!(a + b < 10, "no x is wanted");
        a + b
    };
    ends(
        &test(&|p| p.update_state_by_key(move |new, sum| new.into_iter().chain(sum).reduce(reduce))),
        &at("update_state_by_key"),
    );
    let first = UpdateStateSpec::<char, i64, i64>::function_with_time(|_, key, _, _| {
        assert!(*key != 'b', "no x is wanted");
        None
    });
    let first = std::cell::Cell::new(Some(first));
    ends(
        &test(&|p| p.update_state_by_key_with(first.take().expect("it is made once"))),
        &at("update_state_by_key"),
    );
    ends(
        &test(&|p| p.reduce_by_key_and_window(reduce, s(3), s(1)).unwrap()),
        &at("reduce_by_key_and_window"),
    );
    let inverse = |a: i64, b: i64| {
        assert!(b != 5, "no x is wanted");
        a - b
    };
    ends(
        &test(&|p| p.reduce_by_key_and_window_with_inverse(|a, b| a + b, inverse, s(1), s(1)).unwrap()),
        &at("reduce_by_key_and_window"),
    );
    // Whoever reads a state is told the key that was read.
    let text = test(&|p| {
        p.update_state_by_key(running_sum).map(|pair| (assert!(pair.1 != 5, "no x is wanted"), pair).1)
    });
    ends(&text, ", attempt 1: operator `map`, key \"b\"");
}

/// Stores three numbers at once, and tells it.
struct Three(Sender<()>);

impl Receiver<i64> for Three {
    fn on_start(&self, handle: ReceiverHandle<i64>) -> Result<()> {
        handle.store_many(vec![3, 4, 5])?;
        self.0.send(()).map_err(|e| Error::internal(e.to_string()))
    }
}

#[test]
fn received_elements_are_told_with_their_block() {
    let folder = tempfile::tempdir().unwrap();
    let on_disk = once().checkpoint(folder.path()).receiver_memory(0);
    for settings in [once(), on_disk] {
        let test = TestContext::from_builder(settings, Time::ZERO).unwrap();
        let (sender, stored) = channel();
        let numbers = test.ssc.receiver_stream(Three(sender));
        test.collect(&numbers.map(|n| (assert!(n != 5, "no x is wanted"), n).1));
        test.ssc.start().unwrap();
        stored.recv().unwrap();
        let error = without_places(&test.step().unwrap_err().to_string());
        ends(&error, "operator `map`, element 2 of block 0 of input `receiver:Three`");
    }
}

/// The error's text when the elements that `input` reads of a new file in its folder are mapped.
fn file_failure<T: Data>(folder: &Path, input: impl FnOnce(&TestContext, &str) -> DStream<T>) -> String {
    let test = TestContext::from_builder(once(), at(0)).unwrap();
    let calls = AtomicUsize::new(0);
    let mapped = input(&test, folder.to_str().unwrap()).map(move |element| {
        assert!(calls.fetch_add(1, Relaxed) < 1, "no x is wanted");
        element
    });
    test.collect(&mapped);
    test.run(1).unwrap_err().to_string()
}

#[test]
fn elements_of_files_are_told_with_file_and_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("words");
    fs::write(&path, "tide\nmill\n").unwrap();
    let modified = std::time::UNIX_EPOCH + std::time::Duration::from_millis(500);
    fs::File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
    let of = |place: &str| format!("{place} of `{}`", path.display());

    let text = file_failure(folder.path(), |test, folder| test.ssc.text_file_stream(folder));
    ends(&text, &of("line 2"));
    let text = file_failure(folder.path(), |test, folder| test.ssc.binary_records_stream(folder, 5).unwrap());
    ends(&text, &of("record 2"));
    let two = |_: &Path| Ok([1, 2]);
    let text =
        file_failure(folder.path(), |test, folder| test.ssc.file_stream(folder, FileOptions::new(), two));
    ends(&text, &of("element 2"));
    let none = |_: &Path| -> Result<Vec<i64>> { panic!("no x is wanted") };
    let text =
        file_failure(folder.path(), |test, folder| test.ssc.file_stream(folder, FileOptions::new(), none));
    ends(&without_places(&text), &format!("operator `file_stream`, file `{}`", path.display()));

    let test = TestContext::from_builder(once(), at(0)).unwrap();
    let lines = test.ssc.text_file(&path).unwrap();
    let error = lines.map(|line| assert!(line != "mill", "no x is wanted")).count().unwrap_err();
    ends(&error.to_string(), &of("line 2"));
    let objects = folder.path().join("objects");
    test.ssc.parallelize([1, 2], 1).save_as_object_file(&objects).unwrap();
    let numbers = test.ssc.object_file::<i32>(&objects).unwrap();
    let error = numbers.map(|n| assert!(n != 2, "no x is wanted")).count().unwrap_err();
    ends(&error.to_string(), &format!("element 2 of `{}`", objects.join("part-00000").display()));
}
