//! Checkpoints on bad disks, and in the wrong hands: errors that say what to do, never a silent reset.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;
use tidemill::testing::TestContext;
use tidemill::{Error, ErrorKind, RddQueue, Result, Time};

use super::{at, builder};

fn folder() -> TempDir {
    tempfile::tempdir().expect("there is room for a folder")
}

/// A checkpoint of a state of `keys` keys, as a good end leaves it.
fn checkpoint(folder: &Path, keys: u32) {
    let test = TestContext::from_builder(builder("test").checkpoint(folder), Time::ZERO).unwrap();
    let queue = RddQueue::new();
    for batch in 0..4 {
        queue.push((0..keys).map(|n| (n * 4 + batch, format!("{n:0>90}"))));
    }
    let states = test
        .ssc
        .queue_stream(&queue)
        .update_state_by_key(|new: Vec<String>, state: Option<String>| new.into_iter().next().or(state));
    states.foreach_rdd(|_| ());
    test.run(4).unwrap();
}

/// Opens the checkpoint, and reads all of its state; gives the number of keys.
fn open(folder: &Path) -> Result<u64> {
    let test = TestContext::from_builder(builder("test").checkpoint(folder), at(4))?;
    let queue = RddQueue::new();
    (0..5).for_each(|_| queue.push(Vec::<(u32, String)>::new()));
    let states = test.ssc.queue_stream(&queue).update_state_by_key(|_, state: Option<String>| state);
    states.foreach_rdd(|rdd| rdd.count().map(|_| ()));
    test.run(1)?;
    Ok(test.completed_batches()[0].state[0].1.keys)
}

fn copied(from: &Path) -> TempDir {
    let to = folder();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

/// The largest file of `folder` whose name ends with `extension`.
fn largest(folder: &Path, extension: &str) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let of_kind = files.filter(|path| path.extension().is_some_and(|e| e == extension));
    of_kind.max_by_key(|path| path.metadata().unwrap().len()).expect("there is such a file")
}

fn damaged(folder: &Path, outcome: Result<u64>, what: &str) {
    let error: Error = outcome.expect_err(what);
    assert_eq!(error.kind(), ErrorKind::Damaged, "{what}: {error}");
    let text = error.to_string();
    assert!(text.contains(&folder.display().to_string()), "{what}: {text}");
    assert!(text.contains("it is damaged: restore a backup"), "{what}: {text}");
}

#[test]
fn a_byte_that_flipped_anywhere_in_the_log_is_an_error_and_changes_nothing() {
    let whole = folder();
    checkpoint(whole.path(), 40);
    assert_eq!(open(copied(whole.path()).path()).unwrap(), 160);
    let log = largest(whole.path(), "log");
    let length = fs::metadata(&log).unwrap().len() as usize;
    assert!(length > 10_000, "the state is in the log");
    // Lengths, checksums, kinds and contents of records, up to the last ones, which nothing had to be on disk for.
    for place in (0..24).chain((24..length - 600).step_by(797)) {
        let bad = copied(whole.path());
        let log = bad.path().join(log.file_name().unwrap());
        let mut bytes = fs::read(&log).unwrap();
        bytes[place] ^= 0x41;
        fs::write(&log, &bytes).unwrap();
        for attempt in 0..2 {
            damaged(bad.path(), open(bad.path()), &format!("byte {place} of {length}, attempt {attempt}"));
        }
        assert!(fs::read(&log).unwrap() == bytes, "the log is as it was");
    }
}

#[test]
fn a_log_whose_end_was_lost_is_an_error_if_it_had_reached_the_disk() {
    let whole = folder();
    checkpoint(whole.path(), 40);
    let log = largest(whole.path(), "log");
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() / 2]).unwrap();
    damaged(whole.path(), open(whole.path()), "half a log");
    fs::remove_file(&log).unwrap();
    damaged(whole.path(), open(whole.path()), "no log");
    fs::write(&log, &bytes).unwrap();
    assert_eq!(open(whole.path()).unwrap(), 160);
}

#[test]
fn a_log_with_a_torn_end_is_read_up_to_there() {
    let whole = folder();
    checkpoint(whole.path(), 40);
    let log = largest(whole.path(), "log");
    let mut bytes = fs::read(&log).unwrap();
    // The head of a record whose rest was not written before the machine failed.
    bytes.extend_from_slice(&[0x12, 0x34, 0x56, 0x78, 0xff, 0x00, 0x01, 0x99]);
    fs::write(&log, &bytes).unwrap();
    assert_eq!(open(whole.path()).unwrap(), 160);
}

#[test]
fn damaged_tables_are_errors() {
    let whole = folder();
    checkpoint(whole.path(), 8_000);
    let table = largest(whole.path(), "sst");
    let name = table.file_name().unwrap();
    let bytes = fs::read(&table).unwrap();
    assert_eq!(open(copied(whole.path()).path()).unwrap(), 32_000);
    for place in [bytes.len() / 7, bytes.len() / 3, bytes.len() / 2] {
        let bad = copied(whole.path());
        let mut bytes = bytes.clone();
        bytes[place] ^= 1;
        fs::write(bad.path().join(name), &bytes).unwrap();
        damaged(bad.path(), open(bad.path()), &format!("byte {place}"));
    }
    let bad = copied(whole.path());
    fs::write(bad.path().join(name), &bytes[..bytes.len() / 2]).unwrap();
    damaged(bad.path(), open(bad.path()), "half a table");
    fs::remove_file(bad.path().join(name)).unwrap();
    damaged(bad.path(), open(bad.path()), "no table");
}

#[test]
fn a_checkpoint_whose_entry_is_missing_is_not_made_anew() {
    let whole = folder();
    checkpoint(whole.path(), 40);
    let current = fs::read(whole.path().join("CURRENT")).unwrap();
    fs::remove_file(whole.path().join("CURRENT")).unwrap();
    damaged(whole.path(), open(whole.path()), "no CURRENT");
    fs::write(whole.path().join("CURRENT"), b"MANIFEST-999999\n").unwrap();
    damaged(whole.path(), open(whole.path()), "another CURRENT");
    fs::write(whole.path().join("CURRENT"), current).unwrap();
    assert_eq!(open(whole.path()).unwrap(), 160);
}

#[test]
fn a_folder_that_cannot_be_is_told_with_its_name() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, b"text").unwrap();
    let error = builder("test").checkpoint(file.join("state")).build().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    assert!(error.to_string().starts_with("cannot make the checkpoint folder "), "{error}");
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
}

#[test]
fn a_folder_that_cannot_be_written_is_told_with_its_name() {
    use std::os::unix::fs::PermissionsExt;
    // SAFETY: it only asks the system who we are.
    if unsafe { libc::geteuid() } == 0 {
        // Nothing is forbidden to root: a folder where the file should be has the same effect.
        let folder = folder();
        fs::create_dir(folder.path().join("SYNCED")).unwrap();
        told(folder.path());
        return;
    }
    let folder = folder();
    checkpoint(folder.path(), 4);
    for file in fs::read_dir(folder.path()).unwrap() {
        fs::set_permissions(file.unwrap().path(), fs::Permissions::from_mode(0o444)).unwrap();
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    told(folder.path());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();

    fn told(folder: &Path) {
        let error = builder("test").checkpoint(folder).build().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Checkpoint);
        let text = error.to_string();
        assert!(text.contains(&folder.display().to_string()) && text.contains("must be writable"), "{text}");
    }
}

const HELD: &str = "TIDEMILL_TEST_HOLDS";

/// Not a test by itself: the other process of the next one.
#[test]
fn another_process() {
    let Ok(folder) = std::env::var(HELD) else { return };
    let _context = TestContext::from_builder(builder("test").checkpoint(folder), Time::ZERO).unwrap();
    println!("\nopen");
    let _ = std::io::stdin().lines().next();
}

#[test]
fn a_folder_that_another_process_has_open_is_refused_and_untouched() {
    let folder = folder();
    checkpoint(folder.path(), 4);
    let mut other = Command::new(std::env::current_exe().unwrap())
        .args(["engine::bad_disks::another_process", "--exact", "--nocapture"])
        .env(HELD, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(other.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "open"), "the other process has it open");
    let error = open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    let text = error.to_string();
    assert!(text.contains("another process has it open: stop that one, or name another folder"), "{text}");
    // A kill takes the lock away.
    other.kill().unwrap();
    other.wait().unwrap();
    assert_eq!(open(folder.path()).unwrap(), 16);
}

const FULL: &str = "TIDEMILL_TEST_FULL";

/// How often each of eight keys came, with much to write for each; `batches` batches from the epoch on, up to the first
/// that fails.
fn counted(folder: &Path, from: i64, batches: usize) -> (Vec<(u32, u64)>, Result<()>) {
    let test = TestContext::from_builder(builder("test").checkpoint(folder), at(from)).unwrap();
    let queue = RddQueue::new();
    (0..400u32).for_each(|batch| queue.push([(batch % 8, batch)]));
    let count = |new: Vec<u32>, state: Option<(u64, String)>| {
        let (n, _) = state.unwrap_or_default();
        let n = n + new.len() as u64;
        Some((n, format!("{n:0>20000}")))
    };
    let counts = test.ssc.queue_stream(&queue).update_state_by_key(count).map(|(key, (n, _))| (key, n));
    let output = test.collect(&counts);
    let outcome = test.run(batches);
    let mut last = output.take().pop().map(|(_, counts)| counts).unwrap_or_default();
    last.sort();
    (last, outcome)
}

/// Not a test by itself: the program of the next one, whose files may not grow beyond a megabyte.
#[test]
fn a_program_on_a_full_disk() {
    let Ok(folder) = std::env::var(FULL) else { return };
    let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
    // SAFETY: plain system calls that change this process alone; a write beyond the limit is to be an error, not a signal.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
    }
    let (_, outcome) = counted(Path::new(&folder), 0, 400);
    let error = outcome.unwrap_err();
    println!("\n{:?}: {error}", error.kind());
}

#[test]
fn a_full_disk_ends_the_run_and_loses_nothing() {
    let folder = folder();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["engine::bad_disks::a_program_on_a_full_disk", "--exact", "--nocapture"])
        .env(FULL, folder.path())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let line = told.lines().find(|line| line.starts_with("Checkpoint: ")).unwrap_or_else(|| panic!("{told}"));
    assert!(line.contains(folder.path().to_str().unwrap()) && line.contains("File too large"), "{line}");
    // With room again all goes on, from the batch that failed: after 400 batches each key has come 50 times.
    let (counts, outcome) = counted(folder.path(), 400, 400);
    outcome.unwrap();
    assert_eq!(counts, (0..8).map(|key| (key, 50)).collect::<Vec<_>>());
}
