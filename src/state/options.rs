//! How RocksDB is set up, in one place, with the reasons.
//!
//! `state_memory_limit` is shared out so: five eighths to the operators' own caches, the rest to RocksDB's block cache,
//! which is for its memtables (a third of it), indexes and filters. What the operators' caches miss is read from the
//! operating system's page cache.

use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options,
    ReadOptions, WriteBufferManager, WriteOptions,
};

const MIB: usize = 1 << 20;
/// What the state of all operators may take in memory unless the program says otherwise.
pub(crate) const DEFAULT_MEMORY_LIMIT: usize = 256 * MIB;
/// RocksDB works badly with less: every few writes would become a file.
const LEAST_BLOCK_CACHE: usize = 16 * MIB;

/// The memory that all column families of a store share.
pub(super) struct Memory {
    blocks: Cache,
    buffers: WriteBufferManager,
    memtables: usize,
}

/// What the operators' caches may hold of `limit`, all together.
pub(crate) fn cache_share(limit: usize) -> usize {
    limit / 8 * 5
}

impl Memory {
    pub fn new(limit: usize) -> Self {
        let size = (limit - cache_share(limit)).max(LEAST_BLOCK_CACHE);
        let memtables = (size / 3).max(LEAST_BLOCK_CACHE / 2);
        // Its lookups take no lock, and there are three to each key.
        let blocks = Cache::new_hyper_clock_cache(size, 0);
        // Memtables of all families are charged to the block cache, so that the two together stay in bounds. Writers
        // are not stalled: there is one, and it writes a batch at a time.
        let buffers =
            WriteBufferManager::new_write_buffer_manager_with_cache(memtables, false, blocks.clone());
        Self { blocks, buffers, memtables }
    }

    pub fn database(&self) -> Options {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        // A kill tears the end of the log; anything else that is wrong in it must be an error, not a silent cut. What this
        // mode cannot tell from a torn end, `Synced` can.
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_paranoid_checks(true);
        options.set_write_buffer_manager(&self.buffers);
        // One family that is written rarely must not keep old logs alive, which a start would have to read.
        options.set_max_total_wal_size(self.memtables as u64);
        options.set_max_open_files(512);
        options.set_max_background_jobs(2);
        // Write-back in small steps, so that a batch's fsync does not wait for a compaction's pages.
        options.set_bytes_per_sync(MIB as u64);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(4 * MIB);
        options
    }

    /// The options of a database that lives in memory and is lost with it.
    pub fn volatile_database(&self) -> Options {
        let mut options = self.database();
        options.set_log_level(LogLevel::Error);
        options
    }

    pub fn family(&self) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.blocks);
        // Filters of 20 million keys take 25 MB: they live in the block cache like data, cut into pieces, of which only
        // the small top level is always there.
        table.set_cache_index_and_filter_blocks(true);
        table.set_cache_index_and_filter_blocks_with_high_priority(true);
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_partition_filters(true);
        table.set_metadata_block_size(4 << 10);
        table.set_pin_top_level_index_and_filter(true);
        // A key that is new to the state, the common miss, costs no block.
        table.set_bloom_filter(10.0, false);
        table.set_whole_key_filtering(true);
        // Of a block that is read for one key the rest is of no use.
        table.set_block_size(2 << 10);
        table.set_format_version(5);

        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(self.memtables.min(64 * MIB));
        // The first piece of an empty family's memtable; there may be many families.
        options.set_arena_block_size(256 << 10);
        // Most keys that are read were not written lately: that costs no way through the memtable.
        options.set_memtable_prefix_bloom_ratio(0.02);
        options.set_memtable_whole_key_filtering(true);
        options.set_target_file_size_base(32 * MIB as u64);
        options
    }
}

/// Reads the keys of `range` in order. `fill_cache` is for what is read batch after batch.
pub(super) fn range(range: std::ops::Range<Vec<u8>>, fill_cache: bool) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(range.start);
    options.set_iterate_upper_bound(range.end);
    options.fill_cache(fill_cache);
    options
}

/// Reads single keys. Blocks of data are not kept: the operators' own caches keep the keys that come again, in less room, and indexes
/// and filters are kept since their file was opened.
pub(super) fn keys() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options
}

/// How a write reaches the log: with `synced`, it is on disk when the write returns; without a `log` not at all.
pub(super) fn write(synced: bool, log: bool) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(synced && log);
    options.disable_wal(!log);
    options
}
