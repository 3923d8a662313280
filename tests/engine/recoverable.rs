//! `get_or_create`, and the context that is active.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use tidemill::testing::{Collected, TestContext};
use tidemill::{ErrorKind, ManualClock, Result, StreamingContext};

use super::state::running_sum;
use super::{Pair, at, builder, queue_of, s, shown};

/// A running sum over the batches `a1`, `a2`, … on a clock that shows `now` seconds.
fn create(folder: &Path, now: i64) -> Result<(StreamingContext, ManualClock, Collected<Pair>)> {
    let test = TestContext::from_builder(builder("test").checkpoint(folder).state_partitions(2), at(now))?;
    let sums = test.ssc.queue_stream(&queue_of(&["a1", "a2", "a4"])).update_state_by_key(running_sum);
    let output = test.collect(&sums);
    Ok((test.ssc, test.clock, output))
}

/// One batch of the program that `get_or_create` gives.
fn one_batch(folder: &Path, now: i64, anew: bool) -> Result<Vec<String>> {
    let made = Mutex::new(None);
    let create = || {
        let (ssc, clock, output) = create(folder, now)?;
        *made.lock().unwrap() = Some((clock, output));
        Ok(ssc)
    };
    let ssc = if anew {
        StreamingContext::get_or_create_anew(folder, create)?
    } else {
        StreamingContext::get_or_create(folder, create)?
    };
    let (clock, output) = made.into_inner().unwrap().unwrap();
    ssc.start()?;
    clock.advance(s(1));
    ssc.stop(true)?;
    Ok(shown(output.take()))
}

#[test]
fn a_program_goes_on_where_its_checkpoint_ended() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("checkpoint");
    assert_eq!(one_batch(&folder, 0, false).unwrap(), ["1s: a1"]);
    assert_eq!(one_batch(&folder, 1, false).unwrap(), ["2s: a3"]);
    assert_eq!(one_batch(&folder, 2, true).unwrap(), ["3s: a7"], "nothing is wrong with it");
}

#[test]
fn the_context_must_have_that_checkpoint() {
    let (asked, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for other in [Some(other.path()), None] {
        let made = StreamingContext::get_or_create(asked.path(), || match other {
            Some(folder) => Ok(create(folder, 0)?.0),
            None => builder("test").build(),
        });
        let error = made.err().unwrap();
        let named = other.map_or("made with none".to_owned(), |folder| folder.display().to_string());
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(&named), "{error}");
        assert!(error.to_string().contains(asked.path().to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_damaged_checkpoint_is_an_error_unless_asked_otherwise() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("checkpoint");
    one_batch(&folder, 0, false).unwrap();
    let manifest = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
    let manifest = manifest.into_iter().find(|p| p.to_string_lossy().contains("MANIFEST")).unwrap();
    fs::write(&manifest, "not what was written").unwrap();

    let error = one_batch(&folder, 1, false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged, "{error}");
    assert!(error.to_string().contains("restore a backup"), "{error}");
    assert_eq!(one_batch(&folder, 1, true).unwrap(), ["2s: a1"], "from the beginning");
    assert!(parent.path().join("checkpoint.damaged").is_dir(), "nothing is thrown away");
}

#[test]
fn a_checkpoint_in_use_is_not_moved_away() {
    let folder = tempfile::tempdir().unwrap();
    let (_open, ..) = create(folder.path(), 0).unwrap();
    let error = one_batch(folder.path(), 0, true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
}

#[test]
fn a_context_is_active_from_its_start_to_its_stop() {
    // Other tests start contexts at the same time: this one is told by its name, and started until it was the last.
    let is_active = || StreamingContext::get_active().is_some_and(|ssc| ssc.app_name() == "the-active-one");
    let start = || {
        let test = TestContext::from_builder(builder("the-active-one"), at(0)).unwrap();
        test.collect(&test.ssc.queue_stream(&queue_of(&[])));
        assert!(!is_active(), "not before it is started");
        test.ssc.start().unwrap();
        test
    };
    let found = (0..100).any(|_| {
        let test = start();
        let found = is_active();
        test.ssc.stop(false).unwrap();
        assert!(!is_active(), "not after it is stopped");
        found
    });
    assert!(found);
}
