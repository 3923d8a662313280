//! What windows give does not depend on restarts: neither partitions nor the order of keys.

use std::path::Path;

use tidemill::testing::TestContext;
use tidemill::{DStream, RddQueue, Time};

use super::{Pair, at, builder, pairs, s};

type Windows = Vec<(Time, Vec<Pair>)>;

/// Runs `program` over batches of partitions, from second to second of `stops`, with a new program for each part.
fn run_in_parts(
    folder: &Path,
    batches: &[&[&str]],
    stops: &[i64],
    program: impl Fn(&DStream<Pair>) -> DStream<Pair>,
) -> Windows {
    let mut windows = Vec::new();
    for part in stops.windows(2) {
        let settings = builder("test").checkpoint(folder).state_partitions(1);
        let test = TestContext::from_builder(settings, at(part[0])).unwrap();
        let queue = RddQueue::new();
        batches.iter().for_each(|batch| queue.push_partitions(batch.iter().map(|p| pairs(p))));
        let output = test.collect(&program(&test.ssc.queue_stream(&queue)));
        test.run((part[1] - part[0]) as usize).unwrap();
        windows.extend(output.take());
    }
    windows
}

#[test]
fn empty_partitions_and_empty_batches_of_a_window_come_back() {
    let batches: &[&[&str]] = &[&["a1", ""], &["", ""], &[], &["", "", "b1 b2", ""]];
    let sizes =
        |p: &DStream<Pair>| p.window(s(3), s(1)).unwrap().map_partitions(|part| [('p', part.len() as i64)]);
    let expected = |sizes: &[&str]| {
        let window = |(i, sizes): (usize, &&str)| (at(i as i64 + 1), pairs(sizes));
        sizes.iter().enumerate().map(window).collect::<Windows>()
    };
    let expected = expected(&[
        "p1 p0",
        "p1 p0 p0 p0",
        "p1 p0 p0 p0",
        "p0 p0 p0 p0 p2 p0",
        "p0 p0 p2 p0",
        "p0 p0 p2 p0",
        "",
    ]);
    for stops in [&[0, 7][..], &[0, 1, 7], &[0, 2, 4, 7], &[0, 1, 2, 3, 4, 5, 6, 7]] {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(run_in_parts(folder.path(), batches, stops, sizes), expected, "{stops:?}");
    }
}

#[test]
fn keys_of_a_reduced_window_come_in_their_order_with_and_without_restarts() {
    let batches: &[&[&str]] = &[&["c1 b1"], &["d1 a1 c1"], &["b1"], &["a1 e1"]];
    for form in 0..2 {
        let sums = move |p: &DStream<Pair>| {
            match form {
                0 => p.reduce_by_key_and_window(|a, b| a + b, s(3), s(1)),
                _ => p.reduce_by_key_and_window_with_inverse_filtered(
                    |a, b| a + b,
                    |a, b| a - b,
                    s(3),
                    s(1),
                    |_, n| *n > 0,
                ),
            }
            .unwrap()
        };
        let windows = ["b1 c1", "a1 b1 c2 d1", "a1 b2 c2 d1", "a2 b1 c1 d1 e1", "a1 b1 e1", "a1 e1", ""];
        let expected: Windows = (1..).map(at).zip(windows.map(pairs)).collect();
        for stops in [&[0, 7][..], &[0, 2, 7], &[0, 1, 2, 3, 4, 5, 6, 7]] {
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(run_in_parts(folder.path(), batches, stops, sums), expected, "{form} {stops:?}");
        }
    }
}
