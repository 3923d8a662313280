//! RDDs that are saved to files and read again.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tidemill::{Error, ErrorKind, Result, StreamingContext};

use super::context;

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A context and a folder for files.
fn place() -> (StreamingContext, TempDir) {
    (context(), tempfile::tempdir().unwrap())
}

fn failed<T>(outcome: Result<T>, kind: ErrorKind, parts: &[&str]) {
    let error: Error = outcome.err().expect("it fails");
    assert_eq!(error.kind(), kind, "{error}");
    for part in parts {
        assert!(error.to_string().contains(part), "`{part}` is not in: {error}");
    }
}

#[test]
fn text_is_saved_as_a_part_per_partition_and_read_in_their_order() {
    let (ssc, place) = place();
    let folder = place.path().join("deep/er/lines");
    let lines = ssc.parallelize(["a", "b", "", "d ", "é"], 3).filter(|line| *line != "a");
    lines.save_as_text_file(&folder).unwrap();
    assert_eq!(names(&folder), ["_SUCCESS", "part-00000", "part-00001", "part-00002"]);
    assert_eq!(fs::read(folder.join("_SUCCESS")).unwrap(), b"");
    assert_eq!(fs::read_to_string(folder.join("part-00000")).unwrap(), "");
    assert_eq!(fs::read_to_string(folder.join("part-00001")).unwrap(), "b\n\n");
    assert_eq!(fs::read_to_string(folder.join("part-00002")).unwrap(), "d \né\n");
    let read = ssc.text_file(&folder).unwrap();
    assert_eq!(read.glom().collect().unwrap(), [vec![], vec!["b", ""], vec!["d ", "é"]]);
    assert_eq!(ssc.text_file(folder.join("part-00002")).unwrap().collect().unwrap(), ["d ", "é"]);
}

#[test]
fn an_rdd_without_partitions_is_saved_as_an_empty_folder() {
    let (ssc, place) = place();
    let (text, objects) = (place.path().join("text"), place.path().join("objects"));
    ssc.empty_rdd::<i64>().save_as_text_file(&text).unwrap();
    ssc.empty_rdd::<i64>().save_as_object_file(&objects).unwrap();
    assert_eq!((names(&text), names(&objects)), (vec!["_SUCCESS".to_owned()], vec!["_SUCCESS".to_owned()]));
    assert_eq!(ssc.text_file(&text).unwrap().num_partitions(), 0);
    assert_eq!(ssc.object_file::<i64>(&objects).unwrap().collect().unwrap(), [0; 0]);
}

#[test]
fn a_folder_that_exists_is_not_written_to() {
    let (ssc, place) = place();
    let folder = place.path().join("numbers");
    let numbers = ssc.parallelize([1, 2], 1);
    numbers.save_as_text_file(&folder).unwrap();
    let shown = folder.display().to_string();
    failed(numbers.save_as_text_file(&folder), ErrorKind::Output, &[&shown, "exists already"]);
    failed(numbers.save_as_object_file(&folder), ErrorKind::Output, &[&shown, "exists already"]);
    assert_eq!(ssc.text_file(&folder).unwrap().collect().unwrap(), ["1", "2"]);
    let below_a_file = folder.join("part-00000/x");
    failed(
        numbers.save_as_text_file(&below_a_file),
        ErrorKind::Output,
        &[&below_a_file.display().to_string()],
    );
}

#[test]
fn a_task_that_fails_leaves_no_part_and_no_success() {
    let (ssc, place) = place();
    let folder = place.path().join("numbers");
    let broken = ssc.parallelize(0..6i64, 2).map(|n| {
        assert!(n != 5, "not this one");
        n
    });
    failed(broken.save_as_text_file(&folder), ErrorKind::Task, &["not this one"]);
    assert!(!names(&folder).contains(&"part-00001".to_owned()), "{:?}", names(&folder));
    assert!(
        !names(&folder).iter().any(|name| name == "_SUCCESS" || name.starts_with('.')),
        "{:?}",
        names(&folder)
    );
}

#[test]
fn a_task_that_is_tried_again_writes_its_part_once() {
    let (ssc, place) = place();
    let folder = place.path().join("numbers");
    let failed = AtomicBool::new(false);
    let flaky = ssc.parallelize(0..100_000i64, 1).map(move |n| {
        assert!(n < 90_000 || failed.swap(true, Ordering::Relaxed), "the first time");
        n
    });
    flaky.save_as_object_file(&folder).unwrap();
    let read = ssc.object_file::<i64>(&folder).unwrap().collect().unwrap();
    assert!(read.into_iter().eq(0..100_000));
}

#[test]
fn lines_end_with_a_line_feed_or_both_characters() {
    let (ssc, place) = place();
    let lines = |bytes: &[u8]| {
        let file = place.path().join("lines");
        fs::write(&file, bytes).unwrap();
        ssc.text_file(&file).unwrap().collect().unwrap()
    };
    assert_eq!(lines(b"a\r\n\r\nb\n\nc"), ["a", "", "b", "", "c"]);
    assert_eq!(lines(b"a\rb\r\r\n"), ["a\rb\r"]);
    assert_eq!(lines(b""), [""; 0]);
    assert_eq!(lines(b"\n"), [""]);
}

#[test]
fn patterns_name_files_and_folders_and_hidden_files_are_left_out() {
    let (ssc, place) = place();
    for (name, text) in [
        ("2026-01/part-1", "b"),
        ("2026-01/part-0", "a"),
        ("2026-01/_SUCCESS", "no"),
        ("2026-01/.part-2.tmp", "no"),
        ("2026-02/part-0", "c"),
        ("2025-12/part-0", "z"),
        ("_2026", "no"),
    ] {
        let file = place.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let read = |pattern: &str| ssc.text_file(place.path().join(pattern)).unwrap().collect().unwrap();
    assert_eq!(read("2026-*"), ["a", "b", "c"]);
    assert_eq!(read("2026-*/part-0"), ["a", "c"]);
    assert_eq!(read("2026-0[1]/*"), ["a", "b"]);
    assert_eq!(read("*2026*"), ["a", "b", "c"]);
    assert_eq!(read("????-12"), ["z"]);
    // A name that has a pattern's characters in it is a name if there is such a file.
    fs::write(place.path().join("20[2]"), "itself").unwrap();
    assert_eq!(read("20[2]"), ["itself"]);
}

#[test]
fn what_cannot_be_read_is_told_by_name() {
    let (ssc, place) = place();
    let path = |name: &str| place.path().join(name);
    let shown = |name: &str| path(name).display().to_string();
    failed(ssc.text_file(path("gone")), ErrorKind::Unavailable, &[&shown("gone")]);
    failed(ssc.object_file::<i64>(path("gone")), ErrorKind::Unavailable, &[&shown("gone")]);
    failed(ssc.text_file(path("gone-*")), ErrorKind::Unavailable, &["matches", &shown("gone-*")]);
    failed(ssc.text_file(path("a[")), ErrorKind::Config, &["no pattern", &shown("a[")]);
    fs::create_dir_all(path("outer/inner")).unwrap();
    failed(ssc.text_file(path("outer")), ErrorKind::Config, &[&shown("outer/inner")]);
    fs::write(path("latin"), b"gut\nsch\xf6n\n").unwrap();
    failed(
        ssc.text_file(path("latin")).unwrap().collect(),
        ErrorKind::Data,
        &["line 2", &shown("latin"), "UTF-8"],
    );
    fs::write(path("short"), "a").unwrap();
    let read = ssc.text_file(path("short")).unwrap();
    fs::remove_file(path("short")).unwrap();
    failed(read.collect(), ErrorKind::Unavailable, &[&shown("short")]);
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Station {
    id: u64,
    name: String,
    level: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct LaterStation {
    id: u64,
    name: String,
    #[serde(default)]
    river: String,
}

fn station(id: u64) -> Station {
    Station { id, name: format!("station {id}"), level: id.is_multiple_of(2).then_some(id as f64 / 3.0) }
}

#[test]
fn objects_come_back_in_their_partitions_and_into_types_with_new_fields() {
    let (ssc, place) = place();
    let folder = place.path().join("stations");
    ssc.parallelize((1..=5).map(station), 2).save_as_object_file(&folder).unwrap();
    assert_eq!(names(&folder), ["_SUCCESS", "part-00000", "part-00001"]);
    let read = ssc.object_file::<Station>(&folder).unwrap();
    assert_eq!(
        read.glom().collect().unwrap(),
        [vec![station(1), station(2)], vec![station(3), station(4), station(5)]]
    );
    assert_eq!(ssc.object_file::<Station>(folder.join("part-00001")).unwrap().count().unwrap(), 3);
    let later = ssc.object_file::<LaterStation>(&folder).unwrap().first().unwrap();
    assert_eq!(later, Some(LaterStation { id: 1, name: "station 1".into(), river: String::new() }));
}

#[test]
fn a_damaged_object_file_is_told_with_its_element() {
    let (ssc, place) = place();
    let folder = place.path().join("stations");
    ssc.parallelize((1..=3).map(station), 1).save_as_object_file(&folder).unwrap();
    let file = folder.join("part-00000");
    let name = file.display().to_string();
    let good = fs::read(&file).unwrap();
    let read = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        ssc.object_file::<Station>(&folder).unwrap().collect()
    };
    assert_eq!(read(&good).unwrap().len(), 3);

    let place_of = |text: &[u8]| good.windows(text.len()).position(|w| w == text).unwrap();
    let mut damaged = good.clone();
    damaged[place_of(b"station 2")] ^= 1;
    failed(read(&damaged), ErrorKind::Data, &[&name, "element 2", "damaged"]);

    // Wherever it is cut off, it is known, and at which element.
    for length in 0..good.len() {
        let outcome = read(&good[..length]);
        let element = match length {
            _ if length < 18 => "is no object file",
            _ if length < place_of(b"station 1") => "element 1",
            _ if length == place_of(b"station 2") => "element 2",
            _ if length == good.len() - 1 => "element 4",
            _ => "element",
        };
        failed(outcome, ErrorKind::Data, &[&name, element]);
    }

    failed(read(&[&good[..], b"x"].concat()), ErrorKind::Data, &[&name, "goes on after its end"]);
    let mut newer = good.clone();
    newer[17] = 2;
    failed(read(&newer), ErrorKind::Data, &[&name, "version 2"]);
    failed(read(b"id,name\n1,North and so on\n"), ErrorKind::Data, &[&name, "is no object file"]);

    fs::write(&file, &good).unwrap();
    failed(ssc.object_file::<i64>(&folder).unwrap().collect(), ErrorKind::Data, &[&name, "element 1", "i64"]);
}
