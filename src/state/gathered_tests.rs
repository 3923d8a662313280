use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::codec::{decode_key, decode_value, encode_value};
use crate::error::ErrorKind;
use crate::state::{Delta, OperatorSchema, record_key};

const WINDOW: &str = "sums";

fn store(folder: &Path) -> StateDb {
    let store = StateDb::open(folder, "test", 2, crate::state::DEFAULT_MEMORY_LIMIT).unwrap();
    let schema = OperatorSchema {
        operator: "reduce_by_key_and_window".into(),
        key_type: "String".into(),
        value_type: "u64".into(),
        partitions: 2,
        exact: false,
    };
    store.register(WINDOW, schema).unwrap();
    store
}

fn apply(store: &StateDb, changes: Vec<Change>) {
    store
        .apply(&Delta { operators: vec![(Arc::from(WINDOW), changes)], records: Vec::new() }, b"test", &1)
        .unwrap();
}

fn entry(partition: usize, pane: i64, key: &str, value: u64) -> Change {
    let place = record_key(partition, kind::ENTRY, &(pane, key)).unwrap();
    Change::Put(place, encode_value(&value).unwrap())
}

/// Adds entries of pane 20 to what is gathered in `partition`.
fn gather(
    store: &StateDb,
    partition: usize,
    gathered: Gathered,
    anew: bool,
    entries: &[(&str, u64)],
) -> Gathered {
    let mut gatherer = Gatherer::new(partition, gathered, anew);
    for (key, value) in entries {
        gatherer.put(&(20, key), value).unwrap();
    }
    let (mut changes, after) = gatherer.finish();
    if anew {
        changes.extend(gathered.deletions(partition));
    }
    apply(store, changes);
    after
}

/// What a reader sees: partition, kind, pane, key, value.
fn seen(store: &StateDb) -> Vec<(usize, i64, String, u64)> {
    let mut seen = Vec::new();
    store
        .scan(WINDOW, |place, value| {
            let (partition, of, key) = crate::state::split_key(place)?;
            assert_eq!(of, kind::ENTRY);
            let (pane, key): (i64, String) = decode_key(key)?;
            seen.push((partition, pane, key, decode_value(value)?));
            Ok(())
        })
        .unwrap();
    seen
}

fn shown(partition: usize, pane: i64, key: &str, value: u64) -> (usize, i64, String, u64) {
    (partition, pane, key.to_owned(), value)
}

#[test]
fn the_newest_gathered_entry_is_seen_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    apply(&store, vec![entry(0, 10, "a", 1), entry(0, 20, "b", 2), entry(1, 20, "z", 3)]);
    let first = gather(&store, 0, Gathered::default(), false, &[("b", 20), ("c", 30)]);
    gather(&store, 0, first, false, &[("a", 40), ("c", 31)]);
    gather(&store, 1, Gathered::default(), false, &[("y", 5)]);
    let expected = [
        shown(0, 10, "a", 1),
        shown(0, 20, "a", 40),
        shown(0, 20, "b", 20),
        shown(0, 20, "c", 31),
        shown(1, 20, "y", 5),
        shown(1, 20, "z", 3),
    ];
    assert_eq!(seen(&store), expected);
    drop(store);
    assert_eq!(seen(&StateDb::open_read_only(folder.path()).unwrap()), expected);
}

#[test]
fn what_is_gathered_anew_replaces_all_that_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let first = gather(&store, 1, Gathered::default(), false, &[("a", 1), ("b", 2)]);
    let second = gather(&store, 1, first, true, &[("b", 3)]);
    assert_eq!((first.entries(), second.entries()), (2, 1));
    assert_eq!(seen(&store), [shown(1, 20, "b", 3)]);
    apply(&store, second.deletions(1).collect());
    assert_eq!(seen(&store), []);
}

#[test]
fn a_start_finds_how_much_is_gathered() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let first = gather(&store, 1, Gathered::default(), false, &[("a", 1)]);
    let first = gather(&store, 1, first, true, &[("a", 2), ("b", 3)]);
    // More than a record holds.
    let long: Vec<String> = (0..40).map(|n| format!("{n:010000}")).collect();
    let many: Vec<(&str, u64)> = long.iter().map(|key| (key.as_str(), 7)).collect();
    let written = gather(&store, 1, first, false, &many);
    let (mut found, mut records, mut keys) = (Gathered::default(), 0, Vec::new());
    store
        .scan_records(WINDOW, |place, record| {
            let (partition, of, number) = crate::state::split_key(place)?;
            assert_eq!((partition, of), (1, kind::GATHERED));
            records += 1;
            found.restore(partition, number, record, |place, _| {
                let (_, _, key) = crate::state::split_key(place)?;
                keys.push(decode_key::<(i64, String)>(key)?.1);
                Ok(())
            })
        })
        .unwrap();
    assert_eq!((found, records), (written, 3));
    assert_eq!(keys, [vec!["a".to_owned(), "b".to_owned()], long].concat());
    apply(&store, found.deletions(1).collect());
    assert_eq!(seen(&store), []);
}

#[test]
fn a_record_that_is_cut_short_is_told_as_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut gatherer = Gatherer::new(1, Gathered::default(), false);
    gatherer.put(&(20, "a"), &1).unwrap();
    let (mut changes, _) = gatherer.finish();
    if let Change::Put(_, record) = &mut changes[0] {
        record.pop();
    }
    apply(&store, changes);
    let error = store.scan(WINDOW, |_, _| Ok(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("partition 1"), "{error}");
}
