//! Every metric's name and help, and the buckets of histograms.

pub(super) type Name = (&'static str, &'static str);

/// Buckets in seconds, from an empty batch at a 10 ms interval to a backlog of a minute.
pub(super) const SECONDS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

pub(super) const BUILD_INFO: Name = ("tidemill_build_info", "Always 1; the version of Tidemill as a label.");
pub(super) const BATCH_INTERVAL: Name = ("tidemill_batch_interval_seconds", "The batch interval.");
pub(super) const BATCHES: Name =
    ("tidemill_batches_total", "Batches that completed, by status (succeeded, failed).");
pub(super) const BATCHES_WAITING: Name =
    ("tidemill_batches_waiting", "Batches that are due and wait for their turn.");
pub(super) const BATCHES_SKIPPED: Name = (
    "tidemill_batches_skipped_total",
    "Stretches of batch times in which there was nothing to do, in sources that are sliced by timestamp.",
);
pub(super) const BATCH_ATTEMPTS: Name =
    ("tidemill_batch_attempts_total", "Runs of batches: more than batches where a transaction was aborted.");
pub(super) const SCHEDULING_DELAY: Name =
    ("tidemill_batch_scheduling_delay_seconds", "From a batch's submission to the start of its processing.");
pub(super) const PROCESSING: Name = (
    "tidemill_batch_processing_seconds",
    "From the start of a batch's processing to its commit, with what it waited for the batch before it if it began early.",
);
pub(super) const TOTAL_DELAY: Name =
    ("tidemill_batch_total_delay_seconds", "From a batch's submission to its commit.");
pub(super) const PHASE: Name =
    ("tidemill_batch_phase_seconds", "Time by phase: plan, process, output, commit.");
pub(super) const LAST_COMPLETED: Name =
    ("tidemill_last_batch_completed_timestamp_seconds", "When the last batch was committed.");
pub(super) const SOURCE_RECORDS: Name = ("tidemill_source_records_total", "Records read.");
pub(super) const SOURCE_BYTES: Name = ("tidemill_source_bytes_total", "Bytes of keys and values read.");
pub(super) const BAD_RECORDS: Name = (
    "tidemill_source_bad_records_total",
    "Records that could not be decoded, processed or sent, and were skipped or dead-lettered.",
);
pub(super) const LATE_RECORDS: Name = (
    "tidemill_source_late_records_total",
    "Records from before the interval of their batch, in sources that are sliced by timestamp.",
);
pub(super) const FUTURE_RECORDS: Name = (
    "tidemill_source_future_records_total",
    "Records whose timestamp was too far ahead to be believed, in sources that are sliced by timestamp.",
);
pub(super) const RATE_LIMIT: Name = (
    "tidemill_source_rate_limit_records_per_second",
    "The limit by backpressure under which the last batch was planned; absent without one.",
);
pub(super) const SOURCE_PARTITIONS: Name = ("tidemill_source_partitions", "Partitions that are read.");
pub(super) const RECEIVERS: Name =
    ("tidemill_receivers", "Receivers, by whether they receive (active, inactive).");
pub(super) const LOST_RECORDS: Name = (
    "tidemill_source_lost_records_total",
    "Offsets that were gone before they were read, where the source's `on_data_loss` lets it go on.",
);
pub(super) const LAG_RECORDS: Name =
    ("tidemill_source_lag_records", "Records of the partition not yet processed.");
pub(super) const LAG_SECONDS: Name =
    ("tidemill_source_lag_seconds", "Age of the last record processed while there is lag, else 0.");
pub(super) const AWAY: Name = (
    "tidemill_source_away_seconds",
    "For how long the source's Kafka cluster has not answered, 0 if it does; asked with each scrape.",
);
pub(super) const COMMITTED_OFFSET: Name =
    ("tidemill_source_committed_offset", "The next offset to read, as last committed.");
pub(super) const LATEST_OFFSET: Name =
    ("tidemill_source_latest_offset", "The partition's end at the last plan.");
pub(super) const SINK_RECORDS: Name = ("tidemill_sink_records_total", "Records delivered to output topics.");
pub(super) const TRANSACTIONS: Name = (
    "tidemill_sink_transactions_total",
    "Kafka transactions, by outcome (committed, aborted); batches that commit nothing have none.",
);
pub(super) const STATE_KEYS: Name = ("tidemill_state_keys", "Keys with state, by operator uid.");
pub(super) const STATE_BYTES: Name =
    ("tidemill_state_size_bytes", "Encoded size of the state, by operator uid.");
pub(super) const COMMIT: Name =
    ("tidemill_commit_seconds", "From the last output of a batch to its commit, of batches that succeeded.");
pub(super) const COMMIT_FAILURES: Name =
    ("tidemill_commit_failures_total", "Batches whose commit failed, or whose outcome is unknown.");
pub(super) const DROPPED_EVENTS: Name = (
    "tidemill_listener_events_dropped_total",
    "Events that listeners were too slow for; the streaming page is one, these metrics are none.",
);
pub(super) const SPILLED: Name = (
    "tidemill_spilled_bytes_total",
    "Bytes of rows, persisted partitions, records for Kafka and dead letters that did not fit in memory, and went to temporary files.",
);
pub(super) const STATE_CACHE_HITS: Name = (
    "tidemill_state_cache_hits_total",
    "Keys whose state was found in memory, by operator uid; of operators that read touched keys only.",
);
pub(super) const STATE_CACHE_MISSES: Name =
    ("tidemill_state_cache_misses_total", "Keys that the store had to be asked for, by operator uid.");
pub(super) const STORE_MEMORY: Name = (
    "tidemill_state_memory_bytes",
    "What the state's store takes in memory, by kind (memtables, blocks); asked with each scrape, with a checkpoint.",
);
pub(super) const STORE_FILES: Name = ("tidemill_state_files_bytes", "What the state's store takes on disk.");
pub(super) const STORE_PENDING: Name =
    ("tidemill_state_pending_compaction_bytes", "How far the store's compactions are behind.");
pub(super) const STORE_STALLS: Name =
    ("tidemill_state_write_stalls_total", "Writes that the store slowed down or stopped.");
pub(super) const STORE_STALLED: Name =
    ("tidemill_state_write_stalled", "Whether the store slows down or stops writes at this moment.");
pub(super) const STATE_LIMIT: Name = (
    "tidemill_state_memory_limit_bytes",
    "What all state may take in memory: operators' caches and the store.",
);
pub(super) const ERRORS: Name =
    ("tidemill_errors_total", "Batches that failed, by stage (plan, process, commit) and kind of error.");
