//! The store as an administrator sees it.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use super::db::{Db, FORMAT, IDENTITY, Identity, OLDEST_FORMAT};
use super::options::Memory;
use super::*;
use crate::codec::encode_value;
use crate::error::{ErrorKind, Result};

fn store(folder: &Path) -> Arc<StateDb> {
    let store = StateDb::open(folder, "test", 4, 1 << 20).unwrap();
    store.register("counts", schema("u64")).unwrap();
    Arc::new(store)
}

fn schema(value: &str) -> OperatorSchema {
    OperatorSchema {
        operator: "update_state_by_key".into(),
        key_type: "(alloc::string::String, i32)".into(),
        value_type: value.into(),
        partitions: 4,
        exact: false,
    }
}

/// Sets the count of some keys, each in a partition of its own, beside a record of bookkeeping.
fn put(store: &StateDb, counts: &[(&str, u64)]) {
    let mut changes = vec![Change::Put(single_key(0, kind::INITIAL_TAKEN), Vec::new())];
    for (partition, (key, count)) in counts.iter().enumerate() {
        let key = record_key(partition, kind::ENTRY, &(key, partition)).unwrap();
        changes.push(Change::Put(key, encode_value(&json!({"count": count})).unwrap()));
    }
    let mut delta = Delta::default();
    delta.add("counts".into(), changes);
    store.apply(&delta, b"test", &1).unwrap();
}

fn shown(store: &Arc<StateDb>, uid: &str) -> Result<Vec<(usize, Value, Value)>> {
    let mut all = Vec::new();
    store.entries(uid, |entry| {
        all.push((entry.partition, entry.key, entry.value));
        Ok(())
    })?;
    Ok(all)
}

fn entry(partition: usize, key: &str, count: u64) -> (usize, Value, Value) {
    (partition, json!([key, partition]), json!({"count": count}))
}

#[test]
fn a_scan_shows_keys_and_values_without_their_types_as_they_were_when_it_began() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    put(&store, &[("a", 1), ("b", 2)]);
    let mut seen = Vec::new();
    store
        .entries("counts", |e| {
            put(&store, &[("a", 10), ("b", 20), ("c", 30)]);
            seen.push((e.partition, e.key, e.value));
            Ok(())
        })
        .unwrap();
    assert_eq!(seen, [entry(0, "a", 1), entry(1, "b", 2)]);
    assert_eq!(shown(&store, "counts").unwrap(), [entry(0, "a", 10), entry(1, "b", 20), entry(2, "c", 30)]);
}

#[test]
fn a_store_can_be_looked_at_while_it_is_open_and_not_be_changed_then() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    put(&store, &[("a", 1)]);
    let other = Arc::new(StateDb::open_read_only(folder.path()).unwrap());
    put(&store, &[("a", 2)]);
    assert_eq!(shown(&other, "counts").unwrap(), [entry(0, "a", 1)]);
    assert_eq!(other.operators()[0].1, store.registered("counts").unwrap());
    assert_eq!(other.put(b"name", &1).unwrap_err().kind(), ErrorKind::Usage);
    let nothing = tempfile::tempdir().unwrap();
    let error = StateDb::open_read_only(nothing.path()).err().unwrap().to_string();
    assert_eq!(error, format!("there is no checkpoint in {}", nothing.path().display()));
}

#[test]
fn a_backup_is_a_checkpoint_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("copy");
    let original = store(&folder.path().join("original"));
    put(&original, &[("a", 1)]);
    original.backup_to(&copy).unwrap();
    put(&original, &[("a", 2)]);
    assert_eq!(shown(&store(&copy), "counts").unwrap(), [entry(0, "a", 1)]);
    assert_eq!(StateDb::open_read_only(&copy).unwrap().verify().problems, [""; 0]);
    let error = original.backup_to(&copy).unwrap_err().to_string();
    assert!(error.contains(&copy.display().to_string()), "{error}");
}

#[test]
fn an_operator_gets_another_uid_and_its_old_one_is_free() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = store(folder.path());
        put(&store, &[("a", 1)]);
        store.rename_operator("counts", "totals").unwrap();
        store.register("counts", schema("u64")).unwrap();
        put(&store, &[("b", 2)]);
        let error = store.rename_operator("totals", "counts").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage);
        let error = store.rename_operator("sums", "others").unwrap_err().to_string();
        assert!(error.ends_with("has no operator `sums`; it has: counts, totals"), "{error}");
    }
    let store = store(folder.path());
    assert_eq!(shown(&store, "totals").unwrap(), [entry(0, "a", 1)]);
    assert_eq!(shown(&store, "counts").unwrap(), [entry(0, "b", 2)]);
}

#[test]
fn an_operator_that_was_dropped_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    put(&store, &[("a", 1)]);
    store.drop_operator("counts").unwrap();
    assert!(shown(&store, "counts").is_err());
    assert_eq!(store.drop_operator("counts").unwrap_err().kind(), ErrorKind::Usage);
    store.register("counts", schema("u64")).unwrap();
    assert_eq!(shown(&store, "counts").unwrap(), []);
}

#[test]
fn state_goes_from_one_store_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let from = store(&folder.path().join("from"));
    from.register("counts", schema("u32")).unwrap();
    put(&from, &[("a", 1), ("b", 2)]);
    let into = Arc::new(StateDb::open(&folder.path().join("into"), "other", 2, 0).unwrap());
    let mut draft = into.draft("imported", &from.registered("counts").unwrap()).unwrap();
    let mut records = Vec::new();
    from.scan("counts", |key, value| {
        records.push((key.to_vec(), value.to_vec()));
        Ok(())
    })
    .unwrap();
    assert_eq!(records.len(), 3, "bookkeeping too");
    records.iter().for_each(|(key, value)| draft.put(key, value).unwrap());
    let schema = draft.finish().unwrap();
    assert!(shown(&into, "imported").is_err(), "it is no operator's yet");
    into.add_operators([("imported".to_owned(), schema)]).unwrap();
    assert_eq!(shown(&into, "imported").unwrap(), [entry(0, "a", 1), entry(1, "b", 2)]);
    assert_eq!(into.registered("imported").unwrap().written_as(), "u64, then u32");
}

#[test]
fn entries_from_outside_are_counted_before_an_operator_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    put(&store, &[("a", 1), ("b", 2)]);
    let mut draft = store.draft("more", &store.registered("counts").unwrap()).unwrap();
    store.scan("counts", |key, value| draft.put(key, value)).unwrap();
    let key = record_key(1, kind::ENTRY, &("c", 1)).unwrap();
    draft.put(&key, &encode_value(&3).unwrap()).unwrap();
    let outside = record_key(4, kind::ENTRY, &("d", 4)).unwrap();
    assert!(draft.put(&outside, &encode_value(&3).unwrap()).is_err());
    let schema = draft.finish().unwrap();
    store.drop_operator("counts").unwrap();
    store.add_operators([("counts".to_owned(), schema)]).unwrap();
    let verified = store.verify();
    assert_eq!((verified.problems, verified.disagreements), (Vec::new(), Vec::new()));
    let mut own = 0;
    let count = |_: &[u8], _: &[u8]| {
        own += 1;
        Ok(())
    };
    store.scan_family("default", count).unwrap();
    assert_eq!(
        verified.records,
        3 + 1 + 4 + own,
        "entries, the initial state's mark, counters, the checkpoint's own"
    );
    let state = KeyedState::<(String, i32), Cache>::new(4);
    state.open(&store, "counts".into(), 0).unwrap();
    assert_eq!(state.stats().keys, 3);
    let keys = [("c".to_owned(), 1), ("b".to_owned(), 1), ("d".to_owned(), 1)];
    let mut shard = state.begin(1).unwrap();
    let found = state.look_up(&mut shard, 1, keys.iter()).unwrap();
    assert_eq!(found.iter().map(|f| f.value.is_some()).collect::<Vec<_>>(), [true, true, false]);
}

#[test]
fn drafts_do_not_take_each_others_places() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.rename_operator("counts", "counts.2").unwrap();
    store.register("counts", schema("u64")).unwrap();
    store.drop_operator("counts").unwrap();
    let like = store.registered("counts.2").unwrap();
    let drafts: Vec<_> = ["counts", "counts.2", "counts"].map(|uid| store.draft(uid, &like).unwrap()).into();
    let families: std::collections::BTreeSet<_> =
        drafts.into_iter().map(|draft| draft.finish().unwrap().family).collect();
    assert_eq!(families.len(), 3, "{families:?}");
    assert!(!families.contains(&like.family));
    // Nobody has adopted them.
    store.drop_unknown_families().unwrap();
    assert!(families.iter().all(|family| store.family_named(family).is_err()));
    assert_eq!(shown(&store, "counts.2").unwrap(), []);
}

#[test]
fn an_older_checkpoint_is_read_and_then_refused_to_older_programs() {
    let folder = tempfile::tempdir().unwrap();
    let of_format = |format: u32| {
        let store = store(folder.path());
        put(&store, &[("a", 1)]);
        let identity = Identity { format, app_id: "test".into(), state_partitions: 4 };
        store.put(IDENTITY, &identity).unwrap();
    };
    of_format(OLDEST_FORMAT);
    assert_eq!(
        shown(&Arc::new(StateDb::open_read_only(folder.path()).unwrap()), "counts").unwrap(),
        [entry(0, "a", 1)]
    );
    let opened = store(folder.path());
    let format = || opened.get::<Identity>(IDENTITY).unwrap().unwrap().format;
    assert_eq!(format(), OLDEST_FORMAT, "a start may still be refused");
    opened.adopt(&Comparison::default(), Vec::new()).unwrap();
    assert_eq!(format(), FORMAT);
    drop(opened);
    for unknown in [OLDEST_FORMAT - 1, FORMAT + 1] {
        of_format(unknown);
        let error = StateDb::open(folder.path(), "test", 4, 1 << 20).err().unwrap().to_string();
        assert!(
            error.contains(&format!("has format {unknown}, this program reads formats 3 to 4")),
            "{error}"
        );
        // Back to one that can be opened.
        let raw =
            Db::open_cf(&Memory::new(1 << 20).database(), folder.path(), ["default", "op.counts"]).unwrap();
        let identity = Identity { format: FORMAT, app_id: "test".into(), state_partitions: 4 };
        raw.put(IDENTITY, encode_value(&identity).unwrap()).unwrap();
    }
}
