//! How the store itself is doing: its memory, its files, and whether writes have to wait.

use rocksdb::properties;

use super::StateDb;

/// What RocksDB says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StoreHealth {
    /// Bytes of memtables, and of cached blocks with indexes and filters.
    pub memtables: u64,
    pub blocks: u64,
    /// Bytes of files.
    pub files: u64,
    /// Bytes that compactions are behind.
    pub pending_compaction: u64,
    /// How often a write was slowed down or stopped, since the start, and whether writes are right now.
    pub stalls: u64,
    pub stalled: bool,
}

impl StateDb {
    /// How the store is doing at this moment. Cheap: RocksDB keeps all of it ready.
    pub fn health(&self) -> StoreHealth {
        let schemas = self.schemas.read();
        let families: Vec<_> =
            schemas.values().filter_map(|schema| self.db.cf_handle(&schema.family)).collect();
        let sum = |name: &properties::PropName| -> u64 {
            families
                .iter()
                .filter_map(|family| self.db.property_int_value_cf(family, name).ok().flatten())
                .sum()
        };
        let whole =
            |name: &properties::PropName| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        let stalls = families.iter().filter_map(|family| {
            let told = self.db.property_value_cf(family, STALLS).ok().flatten()?;
            Some(TOLD.iter().map(|name| number_after(&told, name)).sum::<u64>())
        });
        let memtables = sum(properties::CUR_SIZE_ALL_MEM_TABLES);
        StoreHealth {
            memtables,
            // Memtables are charged to the cache, which makes them part of its usage.
            blocks: whole(properties::BLOCK_CACHE_USAGE).saturating_sub(memtables),
            files: sum(properties::TOTAL_SST_FILES_SIZE),
            pending_compaction: sum(properties::ESTIMATE_PENDING_COMPACTION_BYTES),
            stalls: stalls.sum(),
            stalled: whole(properties::IS_WRITE_STOPPED) + whole(properties::ACTUAL_DELAYED_WRITE_RATE) > 0,
        }
    }
}

/// A property of column families, as text, and what of it is asked for.
const STALLS: &str = "rocksdb.cf-write-stall-stats";
const TOLD: [&str; 2] = ["total-delays", "total-stops"];

/// The number that stands behind `name`; 0 if there is none.
fn number_after(text: &str, name: &str) -> u64 {
    let Some((_, rest)) = text.split_once(name) else { return 0 };
    let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Change, Delta, OperatorSchema};

    #[test]
    fn a_store_tells_how_it_is_doing() {
        let store = StateDb::in_memory("app", 2, 64 << 20).expect("a store");
        let schema = OperatorSchema {
            operator: "map_with_state".into(),
            key_type: "text".into(),
            value_type: "bytes".into(),
            partitions: 2,
            exact: true,
        };
        store.register("sums", schema).expect("it is new");
        let mut delta = Delta::default();
        let big = |n: u16| Change::Put(n.to_be_bytes().to_vec(), vec![7; 10_000]);
        delta.add("sums".into(), (0..100).map(big).collect());
        store.apply_changes(&delta).expect("it is written");
        let health = store.health();
        assert!(health.memtables > 1_000_000, "{health:?}");
        // Nothing was written to files yet, so nothing of them is cached; the charge is in steps.
        assert!(health.blocks < 1_000_000, "{health:?}");
        assert!((health.stalls, health.stalled) == (0, false), "{health:?}");
        let family = store.db.cf_handle(&store.schemas.read()["sums"].family).expect("it is there");
        let told = store.db.property_value_cf(&family, STALLS).expect("a property").expect("it is known");
        assert!(TOLD.iter().all(|name| told.contains(name)), "{told}");
        assert_eq!(number_after("a: 1\n total-stops : 12, b: 3", "total-stops"), 12);
    }
}
