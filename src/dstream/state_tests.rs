//! The contract of stateful operators with the commit: evaluate, then committed or discard.

use std::sync::Arc;

use proptest::prelude::*;

use super::{DStream, MapWithStateDStream, State, StateSpec, UpdateStateSpec, WindowSpec};
use crate::error::Result;
use crate::source::RddQueue;
use crate::state::{Change, Delta, StateDb};
use crate::testing::TestContext;
use crate::time::{Duration, Time};

type Pair = (char, i64);

fn operators(input: &DStream<Pair>) -> Result<Vec<DStream<Pair>>> {
    let s = Duration::seconds;
    let sums = StateSpec::function(|key: &char, n: Option<i64>, total: &mut State<i64>| {
        match n {
            Some(0) => total.remove(),
            Some(n) => total.update(total.get_option().unwrap_or(&0) + n),
            None => {}
        }
        Some((*key, total.get_option().copied().unwrap_or(-1)))
    });
    let sums: MapWithStateDStream<_, _, _> =
        input.map_with_state_and_snapshots(sums.initial_state([('a', 5)]).timeout(s(2)));
    let counts =
        |new: Vec<i64>, n: Option<i64>| (!new.contains(&0)).then(|| n.unwrap_or(0) + new.len() as i64);
    let add = |a: i64, b: i64| a + b;
    let subtract = |a: i64, b: i64| a - b;
    Ok(vec![
        sums.state_snapshots(),
        sums.into(),
        input.update_state_by_key_with(UpdateStateSpec::function(counts).initial_state([('b', 3)])),
        input.window(s(3), s(2))?,
        input.reduce_by_key_and_window(|_, b| b, s(3), s(1))?,
        input.reduce_by_key_and_window(add, s(4), s(2))?,
        input.reduce_by_key_and_window_with_inverse(add, subtract, s(3), s(1))?,
        input.reduce_by_key_and_window_with(
            WindowSpec::reduce(add).inverse(subtract).filter(|_, n| n % 3 != 0),
            s(4),
            s(2),
        )?,
    ])
}

/// What each operator gave in each batch, and what it changed.
type Seen = Vec<(Vec<Option<Vec<Pair>>>, Vec<Vec<Change>>)>;

/// Runs `batches` as the scheduler does, each as often as `attempts` says: all attempts but the last are given up.
fn run(batches: &[Vec<Pair>], attempts: &[usize], memory: usize) -> Seen {
    let test = TestContext::new("test").unwrap();
    let queue = RddQueue::new();
    batches.iter().for_each(|batch| queue.push(batch.clone()));
    let streams = operators(&test.ssc.queue_stream(&queue)).unwrap();
    streams.iter().for_each(|stream| stream.foreach_rdd(|_| ()));
    let graph = &test.ssc.inner.graph;
    graph.freeze();
    let store = Arc::new(StateDb::in_memory("test", 16, memory).unwrap());
    for operator in graph.stateful().iter() {
        store.register(&operator.uid(), operator.schema()).unwrap();
        operator.restore(&store, None, memory).unwrap();
    }
    let inputs = graph.inputs();
    let mut seen = Seen::new();
    for (batch, attempts) in attempts.iter().take(batches.len()).enumerate() {
        let time = Time::from_millis(1_000 * (batch as i64 + 1));
        inputs[0].begin(time, &inputs[0].plan(time).unwrap()).unwrap();
        graph.begin(time, Duration::seconds(1));
        let mut given = Vec::new();
        let mut delta = Delta::default();
        for attempt in 1..=*attempts {
            let changes: Vec<_> =
                graph.stateful().iter().map(|operator| operator.evaluate(time).unwrap()).collect();
            let output = |stream: &DStream<Pair>| {
                stream.core.get_or_compute(time).unwrap().map(|rdd| rdd.collect().unwrap())
            };
            given.push((streams.iter().map(output).collect::<Vec<_>>(), changes.clone()));
            if attempt < *attempts {
                graph.forget(time).unwrap();
            } else {
                graph.stateful().iter().zip(changes).for_each(|(o, changes)| delta.add(o.uid(), changes));
                store.apply_changes(&delta).unwrap();
                graph.stateful().iter().for_each(|operator| operator.committed());
                graph.clear(time);
            }
        }
        assert!(given.iter().all(|attempt| *attempt == given[0]), "batch {batch}: all attempts see the same");
        seen.push(given.remove(0));
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_batch_that_was_given_up_leaves_no_trace(
        batches in prop::collection::vec(
            prop::collection::vec((prop::char::range('a', 'd'), 0..4i64), 0..5), 1..9,
        ),
        attempts in prop::collection::vec(1..4usize, 9),
        memory in prop::sample::select(vec![0, 2_000, 1 << 20]),
    ) {
        prop_assert_eq!(run(&batches, &attempts, memory), run(&batches, &[1; 9], 1 << 20));
    }
}

#[test]
fn a_slide_writes_only_the_totals_that_changed() {
    let batches = [vec![('a', 1), ('b', 2)], vec![], vec![('a', 4)], vec![], vec![], vec![]];
    let seen = run(&batches, &[1; 6], 1 << 20);
    // Of the window of three seconds with an inverse function, the sixth stateful operator.
    let written: Vec<_> = seen.iter().map(|(_, changes)| changes[5].len()).collect();
    // Two panes and totals; nothing; a's pane and total; both first panes go out of their totals; nothing; a's goes. Each
    // time something changes, its partition notes the window (a and b are in different ones).
    assert_eq!(written, [4 + 2, 0, 2 + 1, 4 + 2, 0, 2 + 1]);
}
