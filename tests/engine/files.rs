//! File streams: which files a batch takes, how they are read, and that each is taken once.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;

use proptest::prelude::*;
use tempfile::TempDir;
use tidemill::testing::TestContext;
use tidemill::{DStream, Data, Duration, Error, ErrorKind, FileOptions, Result, StreamingContext, Time};

use super::{at, builder, s};

/// A folder that is watched, and one for the checkpoint.
struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("in")).unwrap();
        Self { root }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn folder(&self) -> String {
        self.path("in").display().to_string()
    }

    /// Writes a file that was modified at `millis`, and renames it into the folder.
    fn put(&self, name: &str, text: impl AsRef<[u8]>, millis: i64) {
        let unfinished = self.path("unfinished");
        fs::write(&unfinished, text).unwrap();
        let modified = std::time::UNIX_EPOCH + Duration::millis(millis).to_std();
        File::options().append(true).open(&unfinished).unwrap().set_modified(modified).unwrap();
        fs::rename(unfinished, self.path("in").join(name)).unwrap();
    }

    /// A context with a checkpoint, at second `now`.
    fn context(&self, now: i64) -> TestContext {
        let builder = builder("test").checkpoint(self.path("checkpoint"));
        TestContext::from_builder(builder, at(now)).unwrap()
    }
}

/// A context without a checkpoint, at second `now`.
fn context(now: i64) -> TestContext {
    TestContext::from_builder(builder("test"), at(now)).unwrap()
}

/// `3s: [a b] [c]` for each batch that has a partition.
fn shown(batches: Vec<(Time, Vec<Vec<String>>)>) -> Vec<String> {
    let line = |(time, partitions): (Time, Vec<Vec<String>>)| {
        let partitions: Vec<_> = partitions.iter().map(|lines| format!("[{}]", lines.join(" "))).collect();
        format!("{}s: {}", time.as_millis() / 1_000, partitions.join(" "))
    };
    batches.into_iter().filter(|(_, partitions)| !partitions.is_empty()).map(line).collect()
}

fn by_partition<T: Data>(stream: &DStream<T>) -> DStream<Vec<T>> {
    stream.transform(|rdd| rdd.glom())
}

/// Runs a stream of lines from second `from` to `until`; `each` is called before each batch.
fn session(
    test: &TestContext,
    place: &Place,
    options: FileOptions,
    batches: usize,
    mut each: impl FnMut(usize),
) -> Vec<String> {
    let stream = test.ssc.text_file_stream_with(place.folder(), options);
    let output = test.collect(&by_partition(&stream));
    test.ssc.start().unwrap();
    for batch in 0..batches {
        each(batch);
        test.step().unwrap();
    }
    test.ssc.stop(true).unwrap();
    shown(output.take())
}

#[test]
fn new_files_are_taken_once_each_a_partition_and_the_oldest_first() {
    let place = Place::new();
    place.put("before", "no", 100_000);
    let test = context(100);
    let output = test.collect(&by_partition(&test.ssc.text_file_stream(place.folder())));
    test.ssc.start().unwrap();
    test.step().unwrap();
    place.put("b", "b1\r\nb2", 101_400);
    place.put("a", "a1\n\na2\n", 101_500);
    place.put("c", "c\n", 101_400);
    place.put("empty", "", 101_450);
    place.put("later", "x", 102_500);
    test.step().unwrap();
    // Written anew, but within the window.
    place.put("a", "changed", 102_600);
    test.step().unwrap();
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    assert_eq!(shown(output.take()), ["102s: [b1 b2] [c] [] [a1  a2]", "103s: [x]"]);
    let times: Vec<_> = test.completed_batches().iter().map(|b| b.batch_time).collect();
    assert_eq!(times, [at(101), at(102), at(103), at(104)]);
}

#[test]
fn bytes_that_are_no_text_are_replaced() {
    let place = Place::new();
    let out = session(&context(100), &place, FileOptions::new(), 1, |_| place.put("a", b"a\xffb\n", 100_500));
    assert_eq!(out, ["101s: [a\u{fffd}b]"]);
}

#[test]
fn hidden_and_unfinished_files_are_left_out_unless_wanted() {
    for (hidden, expected) in [(false, "101s: [ok]"), (true, "101s: [_a] [.b] [c.tmp] [d._COPYING_] [ok]")] {
        let place = Place::new();
        let put = |_| {
            for (i, name) in ["_a", ".b", "c.tmp", "d._COPYING_", "ok"].iter().enumerate() {
                place.put(name, name, 100_100 + i as i64);
            }
            fs::create_dir(place.path("in/folder")).unwrap();
        };
        assert_eq!(session(&context(100), &place, FileOptions::new().hidden(hidden), 1, put), [expected]);
    }
}

#[test]
fn only_names_that_match_are_taken() {
    let place = Place::new();
    let out = session(&context(100), &place, FileOptions::new().names("*.[ct]sv"), 1, |_| {
        for (i, name) in ["a.csv", "b.tsv", "c.txt", "d.csv.gz"].iter().enumerate() {
            place.put(name, name, 100_100 + i as i64);
        }
    });
    assert_eq!(out, ["101s: [a.csv] [b.tsv]"]);
}

#[test]
fn files_of_before_the_start_are_taken_as_far_as_the_window_goes() {
    let put = |place: &Place| {
        for age in [59, 60, 299, 300] {
            place.put(&age.to_string(), format!("{age}"), (1_001 - age) * 1_000);
        }
    };
    let place = Place::new();
    put(&place);
    let all = FileOptions::new().new_files_only(false);
    assert_eq!(session(&context(1_000), &place, all.clone(), 2, |_| ()), ["1001s: [59]"]);
    // Rounded up to whole batch intervals.
    let longer = all.remember(Duration::millis(299_001));
    assert_eq!(session(&context(1_000), &place, longer, 2, |_| ()), ["1001s: [299] [60] [59]"]);
    assert!(session(&context(1_000), &place, FileOptions::new(), 2, |_| ()).is_empty());
}

#[test]
fn a_file_that_comes_too_late_is_ignored_and_a_name_is_free_again_after_the_window() {
    let place = Place::new();
    let options = FileOptions::new().remember(s(3));
    let out = session(&context(100), &place, options, 8, |batch| match batch {
        0 => place.put("a", "first", 100_500),
        // 3.5 s old when it is first seen.
        4 => place.put("late", "late", 101_500),
        // Within its window: 104 - 3 is not past 101.
        2 => place.put("a", "second", 102_500),
        // The name is free, and the file of now is new.
        6 => place.put("a", "third", 106_500),
        _ => (),
    });
    assert_eq!(out, ["101s: [first]", "107s: [third]"]);
}

#[test]
fn a_folder_may_be_a_pattern_and_folders_may_come_later() {
    let place = Place::new();
    let test = context(100);
    let pattern = place.path("in/2026-*").display().to_string();
    let output = test.collect(&by_partition(&test.ssc.text_file_stream(pattern)));
    test.ssc.start().unwrap();
    test.step().unwrap();
    for (i, folder) in ["2026-01", "2026-02", "2025-12", "2026-01/deeper"].iter().enumerate() {
        fs::create_dir(place.path("in").join(folder)).unwrap();
        place.put(&format!("{folder}/x"), folder, 101_100 + i as i64);
    }
    place.put("2026-03", "no folder", 101_500);
    test.step().unwrap();
    test.ssc.stop(true).unwrap();
    assert_eq!(shown(output.take()), ["102s: [2026-01] [2026-02]"]);
}

#[test]
fn a_missing_folder_and_a_bad_pattern_are_errors_at_the_start() {
    let error_of = |make: &dyn Fn(&TestContext)| {
        let test = context(100);
        make(&test);
        test.ssc.start().unwrap_err()
    };
    let error = error_of(&|test| test.ssc.text_file_stream("/no/such/folder").print());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().starts_with("cannot look into /no/such/folder: "), "{error}");
    let error = error_of(&|test| test.ssc.text_file_stream("/no/***").print());
    assert_eq!(error.kind(), ErrorKind::Config);
    let error = error_of(&|test| {
        test.ssc.text_file_stream_with("/tmp", FileOptions::new().names("[")).print();
    });
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().starts_with("`[` is no glob pattern for names of files"), "{error}");
}

#[test]
fn a_file_that_is_gone_fails_its_batch_by_name_and_the_batch_is_run_again_when_it_is_back() {
    let place = Place::new();
    {
        let test = place.context(100);
        let lines = test.ssc.text_file_stream(place.folder());
        let gone = place.path("in/a");
        lines.foreach_rdd(move |rdd| {
            let _ = fs::remove_file(&gone);
            rdd.collect().map(drop)
        });
        test.ssc.start().unwrap();
        place.put("a", "text", 100_500);
        let error = test.step().unwrap_err().to_string();
        assert!(error.contains(&format!("cannot read {}/a: ", place.folder())), "{error}");
    }
    let run = || {
        let test = place.context(101);
        let output = test.collect(&by_partition(&test.ssc.text_file_stream(place.folder())));
        let outcome = test.run(1);
        (shown(output.take()), outcome)
    };
    assert_eq!(run().1.unwrap_err().kind(), ErrorKind::Unavailable);
    place.put("a", "text", 100_500);
    let (out, outcome) = run();
    outcome.unwrap();
    assert_eq!(out, ["101s: [text]"]);
}

#[test]
fn what_came_while_down_is_taken_and_what_was_taken_is_not() {
    let place = Place::new();
    let run = |now: i64, batches: usize, each: &dyn Fn(usize)| {
        session(&place.context(now), &place, FileOptions::new(), batches, each)
    };
    assert_eq!(run(100, 1, &|_| place.put("a", "a", 100_500)), ["101s: [a]"]);
    // An hour, and so more than the window.
    place.put("b", "b", 102_000);
    place.put("c", "c", 3_000_000);
    place.put("old", "old", 42_000);
    assert_eq!(run(3_700, 2, &|_| ()), ["3701s: [b] [c]"]);
    assert_eq!(run(3_702, 2, &|_| ()), Vec::<String>::new());
    // Without a batch in between.
    assert_eq!(run(3_704, 0, &|_| ()), Vec::<String>::new());
    place.put("d", "d", 3_704_500);
    assert_eq!(run(3_705, 2, &|_| ()), ["3706s: [d]"]);
}

#[test]
fn empty_batches_keep_the_window_where_it_is() {
    let place = Place::new();
    assert_eq!(session(&place.context(100), &place, FileOptions::new(), 100, |_| ()), Vec::<String>::new());
    // The stream has run until 200 s: 130 s is too old then, and stays so.
    place.put("late", "late", 130_000);
    place.put("new", "new", 180_000);
    assert_eq!(session(&place.context(201), &place, FileOptions::new(), 1, |_| ()), ["202s: [new]"]);
}

#[test]
fn a_reader_of_ones_own_makes_the_elements_and_its_error_names_the_file() {
    let place = Place::new();
    let test = context(100);
    let numbers = test.ssc.file_stream(place.folder(), FileOptions::new(), |path: &Path| {
        let text = fs::read_to_string(path).map_err(|e| Error::unavailable(e.to_string()))?;
        let number = |n: &str| n.parse::<i64>().map_err(|e| Error::data(e.to_string()));
        text.split(',').map(number).collect::<Result<Vec<_>>>()
    });
    let output = test.collect(&by_partition(&numbers));
    test.ssc.start().unwrap();
    place.put("a", "1,2", 100_100);
    place.put("b", "3", 100_200);
    test.step().unwrap();
    test.step().unwrap();
    place.put("c", "1,x", 102_100);
    let error = test.step().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data);
    assert!(error.to_string().contains(&format!("file {}/c: invalid digit", place.folder())), "{error}");
    assert_eq!(output.take(), [(at(101), vec![vec![1, 2], vec![3]]), (at(102), vec![])]);
}

#[test]
fn bytes_come_as_whole_files_or_as_records() {
    let place = Place::new();
    let test = context(100);
    let whole = test.collect(&test.ssc.binary_files_stream(place.folder(), FileOptions::new()));
    let records = test.collect(&test.ssc.binary_records_stream(place.folder(), 2).unwrap());
    test.ssc.start().unwrap();
    place.put("a", [1, 2, 3, 4], 100_100);
    place.put("b", [], 100_200);
    test.step().unwrap();
    place.put("c", [5, 6, 7], 101_100);
    let error = test.step().unwrap_err().to_string();
    assert!(
        error.contains(&format!("the file {}/c ends with 1 bytes of a record of 2", place.folder())),
        "{error}"
    );
    let name = |n: &str| format!("{}/{n}", place.folder());
    assert_eq!(
        whole.take(),
        [
            (at(101), vec![(name("a"), vec![1, 2, 3, 4]), (name("b"), vec![])]),
            (at(102), vec![(name("c"), vec![5, 6, 7])])
        ]
    );
    assert_eq!(records.take(), [(at(101), vec![vec![1, 2], vec![3, 4]])]);
    assert_eq!(test.ssc.binary_records_stream("x", 0).err().unwrap().kind(), ErrorKind::Config);
}

#[test]
fn a_longer_window_than_before_takes_no_file_again() {
    let place = Place::new();
    let short = FileOptions::new().new_files_only(false).remember(s(3));
    let put = |batch| match batch {
        0 => place.put("a", "first", 100_500),
        // Too old when it is first seen.
        7 => place.put("late", "late", 101_500),
        _ => (),
    };
    assert_eq!(session(&place.context(100), &place, short.clone(), 10, put), ["101s: [first]"]);
    let out = session(&place.context(112), &place, short.remember(s(60)), 2, |batch| {
        if batch == 1 {
            place.put("b", "second", 113_500);
        }
    });
    assert_eq!(out, ["114s: [second]"]);
}

/// What a stream with a window of 3 s gives from second `from` until `until`, the last batch failing if `fails`.
fn run_until(
    place: &Place,
    checkpoint: &str,
    from: i64,
    until: i64,
    fails: bool,
) -> BTreeMap<i64, Vec<Vec<String>>> {
    let builder = builder("test").checkpoint(place.path(checkpoint));
    let test = TestContext::from_builder(builder, at(from)).unwrap();
    let options = FileOptions::new().remember(s(3));
    let stream = test.ssc.text_file_stream_with(place.folder(), options);
    let output = test.collect(&by_partition(&stream));
    stream.foreach_rdd_with_time(move |_, time| {
        if fails && time == at(until) { Err(Error::task("no luck")) } else { Ok(()) }
    });
    let outcome = test.run((until - from) as usize);
    assert_eq!(outcome.is_err(), fails && until > from, "{outcome:?}");
    output.take().into_iter().map(|(time, files)| (time.as_millis() / 1_000, files)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    // All files are there from the start, with times of modification that lie ahead: a batch takes those up to its time.
    #[test]
    fn a_run_with_interruptions_gives_what_one_without_gives(
        files in prop::collection::btree_map("[a-d][a-d]", 100_001..110_000i64, 0..10),
        cuts in prop::collection::btree_map(101..110i64, any::<bool>(), 1..5),
    ) {
        let place = Place::new();
        files.iter().for_each(|(name, modified)| place.put(name, name, *modified));
        let whole = run_until(&place, "whole", 100, 110, false);
        let read: usize = whole.values().map(Vec::len).sum();
        prop_assert_eq!(read, files.len());
        let (mut parts, mut from) = (BTreeMap::new(), 100);
        for (until, fails) in cuts.into_iter().chain([(110, false)]) {
            for (time, files) in run_until(&place, "parts", from, until, fails) {
                if let Some(before) = parts.insert(time, files.clone()) {
                    prop_assert_eq!(before, files, "batch {}", time);
                }
            }
            from = until;
        }
        prop_assert_eq!(parts, whole);
    }
}

const KILLED: &str = "TIDEMILL_TEST_KILLED_FILES";

/// Keeps the lines of each batch in a file that is named by the batch time: one that is run again replaces it. Calls `done`
/// after each batch.
fn lines_to_files(root: &Path, done: impl Fn() + Send + Sync + 'static) -> StreamingContext {
    let ssc = StreamingContext::builder("killed")
        .batch_interval(Duration::millis(10))
        .worker_threads(2)
        .checkpoint(root.join("checkpoint"))
        .build()
        .unwrap();
    let root = root.to_owned();
    let options = FileOptions::new().new_files_only(false);
    let lines = ssc.text_file_stream_with(root.join("in").display().to_string(), options);
    lines.foreach_rdd_with_time(move |rdd, time| -> Result<()> {
        let lines = rdd.collect()?;
        if !lines.is_empty() {
            fs::write(root.join("new"), lines.join("\n")).unwrap();
            fs::rename(root.join("new"), root.join(format!("out-{}", time.as_millis()))).unwrap();
        }
        done();
        Ok(())
    });
    ssc
}

/// The program that [`killed_programs_lose_and_double_no_file`] kills.
#[test]
fn program_to_be_killed() {
    let Ok(root) = std::env::var(KILLED) else { return };
    let ssc = lines_to_files(Path::new(&root), || println!("\nbatch"));
    ssc.start().unwrap();
    ssc.await_termination().unwrap();
}

#[test]
fn killed_programs_lose_and_double_no_file() {
    let place = Place::new();
    let mut names = (0..).map(|n| format!("{n:04}"));
    let mut put = Vec::new();
    let mut put_next = || {
        let name = names.next().unwrap();
        fs::write(place.path("unfinished"), &name).unwrap();
        fs::rename(place.path("unfinished"), place.path("in").join(&name)).unwrap();
        put.push(name);
    };
    for batches in [12, 1, 7, 25] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "engine::files::program_to_be_killed", "--nocapture"])
            .env(KILLED, place.root.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        put_next();
        let mut left = batches;
        for line in BufReader::new(child.stdout.take().unwrap()).lines().map_while(std::io::Result::ok) {
            if line == "batch" {
                put_next();
                left -= 1;
                if left == 0 {
                    child.kill().unwrap();
                }
            }
        }
        assert!(left <= 0, "the program ended by itself");
        child.wait().unwrap();
        put_next();
    }
    put.sort();
    let taken = || {
        let outputs = fs::read_dir(place.root.path()).unwrap().map(|entry| entry.unwrap().path());
        let outputs = outputs.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("out-"));
        let mut lines: Vec<_> = outputs
            .flat_map(|path| fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
            .collect();
        lines.sort();
        lines
    };
    let (sender, batches) = channel();
    let ssc = lines_to_files(place.root.path(), move || sender.send(()).unwrap());
    ssc.start().unwrap();
    // The first batches may be older than the last file.
    batches.iter().take(100).find(|()| taken().len() >= put.len());
    ssc.stop(true).unwrap();
    assert_eq!(taken(), put);
}
