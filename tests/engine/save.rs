//! Batches saved as folders of files: each there once, whole, and under its name only when its batch is committed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tidemill::testing::{Collected, TestContext};
use tidemill::{Error, RddQueue, StreamingContext};

use super::{at, builder};

/// The visible folders in `parent` with the text of all their parts; `_SUCCESS` stands for a complete one.
fn folders(parent: &Path) -> BTreeMap<String, String> {
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().unwrap();
    let read = |folder: fs::DirEntry| {
        let mut files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(Result::unwrap).collect();
        files.sort_by_key(name);
        let text = |file: &fs::DirEntry| match name(file).as_str() {
            "_SUCCESS" => "done".to_owned(),
            part => {
                format!("{part}:{} ", fs::read_to_string(file.path()).unwrap().trim_end().replace('\n', ","))
            }
        };
        let (done, parts): (Vec<_>, Vec<_>) = files.iter().map(text).partition(|text| text == "done");
        (name(&folder), parts.concat() + &done.concat())
    };
    let all = fs::read_dir(parent).unwrap().map(Result::unwrap);
    all.filter(|entry| !name(entry).starts_with('.')).map(read).collect()
}

fn expected(folders: &[(&str, &str)]) -> BTreeMap<String, String> {
    folders.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn words(batches: &[&[&[&str]]]) -> RddQueue<String> {
    let queue = RddQueue::new();
    for partitions in batches {
        queue.push_partitions(partitions.iter().map(|p| p.iter().map(|w| (*w).to_owned()).collect()));
    }
    queue
}

#[test]
fn a_folder_per_batch_and_a_file_per_partition() {
    let out = tempfile::tempdir().unwrap();
    let test = TestContext::new("save").unwrap();
    let stream = test.ssc.queue_stream(&words(&[&[&["to", "be"], &["or"]], &[]]));
    stream.save_as_text_files(out.path().join("words"), "txt");
    stream.save_as_json_files(out.path().join("json"), "");
    test.run(2).unwrap();
    let all = [
        ("json-1000", "part-00000:\"to\",\"be\" part-00001:\"or\" done"),
        ("json-2000", "done"),
        ("words-1000.txt", "part-00000:to,be part-00001:or done"),
        ("words-2000.txt", "done"),
    ];
    assert_eq!(folders(out.path()), expected(&all));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 4, "nothing hidden is left");
}

#[test]
fn objects_come_back() {
    let out = tempfile::tempdir().unwrap();
    let test = TestContext::new("save").unwrap();
    let queue = RddQueue::new();
    queue.push_partitions([vec![("a".to_owned(), Some(1.5))], vec![("b".to_owned(), None)]]);
    test.ssc.queue_stream(&queue).save_as_object_files(out.path().join("pairs"), "obj");
    test.run(1).unwrap();
    let ssc = StreamingContext::builder("reader").build().unwrap();
    let pairs = ssc.object_file::<(String, Option<f64>)>(out.path().join("pairs-1000.obj")).unwrap();
    assert_eq!(pairs.collect().unwrap(), [("a".to_owned(), Some(1.5)), ("b".to_owned(), None)]);
}

#[test]
fn a_batch_that_fails_shows_no_folder_and_the_rerun_shows_one() {
    let (checkpoint, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let run = |from: i64, batches: usize, fails: bool| {
        let builder = builder("save").checkpoint(checkpoint.path()).state_partitions(2);
        let test = TestContext::from_builder(builder, at(from)).unwrap();
        let stream = test.ssc.queue_stream(&words(&[&[&["one"]], &[&["two"]], &[&["three"]]]));
        stream.save_as_text_files(out.path().join("w"), "");
        stream.foreach_rdd_with_time(move |_, time| {
            if fails && time == at(2) { Err(Error::task("as the test wants it")) } else { Ok(()) }
        });
        test.run(batches)
    };
    run(0, 2, true).unwrap_err();
    assert_eq!(folders(out.path()), expected(&[("w-1000", "part-00000:one done")]));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 1, "what the failed batch wrote was taken back");
    // Batch 2 runs again as it was planned; batch 4 finds the queue where batch 2 left it.
    run(3, 1, false).unwrap();
    let all = [
        ("w-1000", "part-00000:one done"),
        ("w-2000", "part-00000:two done"),
        ("w-4000", "part-00000:three done"),
    ];
    assert_eq!(folders(out.path()), expected(&all));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 3, "nothing hidden is left");
}

#[test]
fn a_folder_in_the_way_is_an_earlier_run_of_the_batch() {
    let out = tempfile::tempdir().unwrap();
    fs::create_dir(out.path().join("w-1000")).unwrap();
    fs::write(out.path().join("w-1000/part-00007"), "half a batch").unwrap();
    let test = TestContext::new("save").unwrap();
    test.ssc.queue_stream(&words(&[&[&["one"]]])).save_as_text_files(out.path().join("w"), "");
    test.run(1).unwrap();
    assert_eq!(folders(out.path()), expected(&[("w-1000", "part-00000:one done")]));
}

#[test]
fn a_place_that_cannot_be_written_fails_the_batch_with_its_name() {
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("file");
    fs::write(&file, "").unwrap();
    let test = TestContext::new("save").unwrap();
    test.ssc.queue_stream(&words(&[&[&["one"]]])).save_as_text_files(file.join("w"), "");
    let error = test.run(1).unwrap_err().to_string();
    assert!(error.contains("save_as_text_files") && error.contains("file/.w-1000.staged"), "{error}");
}

#[test]
fn two_outputs_into_one_folder_are_refused() {
    let out = tempfile::tempdir().unwrap();
    let test = TestContext::new("save").unwrap();
    let stream = test.ssc.queue_stream(&words(&[&[&["one"]]]));
    stream.save_as_text_files(out.path().join("w"), "");
    stream.save_as_text_files(out.path().join("w"), "");
    let error = test.run(1).unwrap_err().to_string();
    assert!(error.contains("two output operations write the folder") && error.contains("w-1000"), "{error}");
}

/// A context with a checkpoint that saves the words of its queue, and counts its batches in another stream.
fn saving(checkpoint: &Path, out: &Path, now: i64) -> (TestContext, Collected<(char, u64)>) {
    let builder = builder("save").checkpoint(checkpoint).state_partitions(2);
    let test = TestContext::from_builder(builder, at(now)).unwrap();
    let stream = test.ssc.queue_stream(&words(&[&[&["one"]], &[&["two"]]]));
    stream.save_as_text_files(out.join("w"), "");
    let count = stream
        .map(|_| ('n', 1))
        .update_state_by_key(|new: Vec<u64>, n: Option<u64>| Some(n.unwrap_or(0) + new.iter().sum::<u64>()));
    let counts = test.collect(&count);
    (test, counts)
}

#[test]
fn a_committed_batch_whose_folder_cannot_get_its_name_is_not_lost_and_not_run_again() {
    let (checkpoint, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let in_the_way = out.path().join("w-1000");
    fs::write(&in_the_way, "no folder").unwrap();
    let (test, counts) = saving(checkpoint.path(), out.path(), 0);
    let error = test.run(1).unwrap_err().to_string();
    assert!(error.contains("w-1000"), "{error}");
    drop((test, counts));

    fs::remove_file(&in_the_way).unwrap();
    let (test, counts) = saving(checkpoint.path(), out.path(), 1);
    test.run(1).unwrap();
    let all = [("w-1000", "part-00000:one done"), ("w-2000", "part-00000:two done")];
    assert_eq!(folders(out.path()), expected(&all));
    counts.assert_batches([vec![('n', 2)]]);
}

#[test]
fn a_committed_batch_whose_folder_somebody_took_is_no_obstacle() {
    let (checkpoint, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let in_the_way = out.path().join("w-1000");
    fs::write(&in_the_way, "no folder").unwrap();
    let (test, counts) = saving(checkpoint.path(), out.path(), 0);
    test.run(1).unwrap_err();
    drop((test, counts));
    fs::remove_file(&in_the_way).unwrap();
    fs::remove_dir_all(out.path().join(".w-1000.staged")).unwrap();
    let (test, _counts) = saving(checkpoint.path(), out.path(), 1);
    test.run(1).unwrap();
    assert_eq!(folders(out.path()), expected(&[("w-2000", "part-00000:two done")]));
}

#[test]
fn an_rdd_saved_in_an_output_operation_replaces_what_the_batch_wrote_before_it_was_run_again() {
    let (checkpoint, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let context = |now| {
        let builder = builder("save").checkpoint(checkpoint.path());
        let test = TestContext::from_builder(builder, at(now)).unwrap();
        let stream = test.ssc.queue_stream(&words(&[&[&["one"]]]));
        let folder = out.path().to_owned();
        stream.foreach_rdd_with_time(move |rdd, time| {
            rdd.save_as_text_file(folder.join(format!("w-{}", time.as_millis())))
        });
        let output = test.collect(&stream);
        (test, output)
    };
    let (test, output) = context(0);
    test.ssc.start().unwrap();
    test.step_and_crash().unwrap();
    drop((test, output));
    let (test, _output) = context(1);
    test.run(1).unwrap();
    assert_eq!(folders(out.path())["w-1000"], "part-00000:one done");
    // Outside of a batch nothing is replaced.
    let error = test.ssc.parallelize([1], 1).save_as_text_file(out.path().join("w-1000")).unwrap_err();
    assert!(error.to_string().contains("exists already"), "{error}");
}
