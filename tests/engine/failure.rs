//! What happens when a user's function panics or fails: tried again, told with operator and place, nothing of it shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tidemill::testing::{TestContext, run_batches};
use tidemill::{
    ContextState, DStream, Duration, Error, ErrorKind, KafkaSource, KafkaStream, Rdd, Start, Time,
};

use super::{Pair, at, builder, pairs, without_places};

/// The error's text when `program` runs over two partitions of a batch, after one that is good, with one attempt.
fn failure(program: impl FnOnce(&DStream<Pair>) -> DStream<Pair>) -> String {
    let test = TestContext::from_builder(builder("test").max_attempts(1), Time::ZERO).unwrap();
    let input = test.input_partitions([vec![pairs("a1")], vec![pairs("a2 b3"), pairs("c4 x5 d6")]]);
    test.collect(&program(&input));
    let error = test.run(2).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Task, "{error}");
    without_places(&error.to_string())
}

/// Panics at the pair `x5`.
fn check(pair: Pair) -> Pair {
    assert!(pair.0 != 'x', "no x is wanted");
    pair
}

fn expected(operator: &str) -> String {
    format!(
        "batch 2000 ms: output operation 0 `foreach_rdd`: task of partition 1, attempt 1: operator `{operator}`, element 1 of \
         partition 1: panicked: no x is wanted"
    )
}

#[test]
fn a_panic_is_told_with_operator_partition_and_element() {
    assert_eq!(failure(|p| p.map(check)), expected("map"));
    assert_eq!(failure(|p| p.flat_map(|pair| [check(pair)])), expected("flat_map"));
    assert_eq!(failure(|p| p.flat_map(|pair| [pair].into_iter().map(check))), expected("flat_map"));
    assert_eq!(failure(|p| p.filter(|pair| check(*pair).1 > 0)), expected("filter"));
    assert_eq!(
        failure(|p| p.map_values(|n| {
            assert!(n != 5, "no x is wanted");
            n
        })),
        expected("map_values")
    );
    assert_eq!(failure(|p| p.transform(|rdd| rdd.map(check))), expected("transform"));
}

#[test]
fn of_several_operators_the_one_whose_function_panicked_is_told() {
    let ten = |(key, n): Pair| (key, n * 10);
    assert_eq!(failure(|p| p.map(check).filter(|_| true).flat_map(|pair| [pair])), expected("map"));
    assert_eq!(failure(|p| p.map(ten).filter(|_| true).flat_map(|pair| [check(pair)])), expected("flat_map"));
    assert_eq!(
        failure(|p| p.flat_map(|pair| [pair]).filter(|pair| check(*pair).1 > 0).map(|pair| pair)),
        expected("filter")
    );
    assert_eq!(failure(|p| p.flat_map(|pair| [pair]).map(check)), expected("map"));
}

#[test]
fn an_operator_is_told_with_the_place_where_the_program_made_it() {
    let test = TestContext::from_builder(builder("test").max_attempts(1), Time::ZERO).unwrap();
    let input = test.input([pairs("x5")]);
    let line = line!() + 1;
    test.collect(&input.map(check));
    let error = test.run(1).unwrap_err().to_string();
    let expected =
        format!("operator `map` at tests/engine/failure.rs:{line}:25, element 0 of partition 0: panicked: ");
    assert!(error.contains(&expected), "{error}");
}

#[test]
fn a_function_that_makes_an_rdd_is_told_by_its_operator() {
    assert_eq!(
        failure(|p| p.transform(|rdd| {
            assert!(rdd.num_partitions() < 2, "too many partitions");
            rdd
        })),
        "batch 2000 ms: output operation 0 `foreach_rdd`: operator `transform`: panicked: too many partitions"
    );
}

/// A cluster in this process, whose topic `orders` has one partition with `values`.
fn topic(values: &[&str]) -> MockCluster<'static, rdkafka::producer::DefaultProducerContext> {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("orders", 1, 1).expect("a topic");
    let mut config = rdkafka::ClientConfig::new();
    let producer: BaseProducer =
        config.set("bootstrap.servers", cluster.bootstrap_servers()).create().expect("a producer");
    for value in values {
        producer
            .send(BaseRecord::<(), str>::to("orders").partition(0).payload(value))
            .expect("room in the queue");
    }
    producer.flush(std::time::Duration::from_secs(30)).expect("delivery");
    cluster
}

#[test]
fn over_kafka_the_record_is_told_with_topic_partition_and_offset() {
    let cluster = topic(&["good", "good", "bad", "good"]);
    let error = |program: fn(&KafkaStream) -> DStream<usize>, shared: bool| {
        let test = TestContext::new("test").unwrap();
        let source = KafkaSource::new(cluster.bootstrap_servers(), ["orders"]).start(Start::Earliest);
        let numbers = program(&test.ssc.kafka_direct_stream(source));
        test.collect(&numbers);
        if shared {
            test.collect(&numbers);
            test.collect(&numbers.filter(|n| {
                assert!(*n != 3, "it is bad");
                true
            }));
        }
        let error = without_places(&test.run(1).unwrap_err().to_string());
        let started = test.started_batches().remove(0);
        assert_eq!(
            (started.num_records, test.completed_batches()[0].num_records),
            (4, if shared { 4 } else { 0 })
        );
        let input = &started.stream_id_to_input_info["kafka:orders"];
        assert_eq!((input.num_records, input.description()), (Some(4), "orders-0 [0, 4)"));
        error
    };
    fn len(value: &str) -> usize {
        assert!(value != "bad", "it is bad");
        value.len()
    }
    let expected = |output: usize, operator: &str, place: &str| {
        format!(
            "batch 1000 ms: output operation {output} `foreach_rdd`: task of partition 0, attempt 4: operator `{operator}`, {place}: \
             panicked: it is bad"
        )
    };
    let record = "record orders-0 at offset 2";
    assert_eq!(error(|s| s.map(|r| len(&r.text())), false), expected(0, "map", record));
    assert_eq!(error(|s| s.flat_map(|r| [len(&r.text())]), false), expected(0, "flat_map", record));
    assert_eq!(
        error(|s| s.flat_map_with(|r, emit| emit(len(&r.text()))), false),
        expected(0, "flat_map", record)
    );
    assert_eq!(error(|s| s.text().map(|text| len(&text)), false), expected(0, "map", record));
    assert_eq!(
        error(
            |s| s
                .flat_map_with(|r, emit| emit(r.len()))
                .filter(|n| len(if *n == 3 { "bad" } else { "" }) == 0),
            false
        ),
        expected(0, "filter", record)
    );
    // What several operators read is kept without its offsets.
    assert_eq!(
        error(|s| s.map(|r| r.len()), true),
        expected(2, "filter", "element 2 of partition 0, made of orders-0 [0, 4)")
    );
}

#[test]
fn records_of_attempts_that_failed_are_not_counted() {
    let cluster = topic(&["one", "two", "three"]);
    let test = TestContext::new("test").unwrap();
    let source = KafkaSource::new(cluster.bootstrap_servers(), ["orders"]).start(Start::Earliest);
    let calls = AtomicUsize::new(0);
    let lengths = test.ssc.kafka_direct_stream(source).map(move |record| {
        // The third record breaks at the first three attempts.
        assert!(![3, 6, 9].contains(&(calls.fetch_add(1, Ordering::Relaxed) + 1)), "it broke");
        record.len()
    });
    let output = test.collect(&lengths);
    test.run(2).unwrap();
    output.assert_batches([vec![3, 3, 5], vec![]]);
    let counts: Vec<_> = test.completed_batches().iter().map(|b| (b.num_records, b.num_bytes)).collect();
    assert_eq!(counts, [(3, 11), (0, 0)]);
}

#[test]
fn a_failure_is_told_with_what_caused_it() {
    let test = TestContext::new("test").unwrap();
    test.input([vec![1]]).foreach_rdd(|_| {
        let full = std::io::Error::other("no space left");
        Err(Error::output("cannot write the file").with_source(full))
    });
    let whole = "output operation 0 `foreach_rdd`: cannot write the file: no space left";
    assert_eq!(test.run(1).unwrap_err().to_string(), format!("batch 1000 ms: {whole}"));
    let batch = test.completed_batches().remove(0);
    assert_eq!(batch.failure.as_deref(), Some(whole));
    assert_eq!(batch.output_operations[0].failure.as_deref(), Some("cannot write the file: no space left"));
}

#[test]
fn a_function_of_an_output_operation_is_told_as_that() {
    let text = |output: fn(Rdd<Pair>) -> tidemill::Result<()>| {
        let test = TestContext::from_builder(builder("test").max_attempts(1), Time::ZERO).unwrap();
        test.input([pairs("a1"), pairs("b2 x5")]).map(|pair| pair).foreach_rdd(output);
        test.run(2).unwrap_err().to_string()
    };
    let place = "batch 2000 ms: output operation 0 `foreach_rdd`: task of partition 0, attempt 1: operator `foreach_rdd`";
    assert_eq!(
        text(|rdd| rdd.for_each(|pair| {
            check(pair);
        })),
        format!("{place}, element 1 of partition 0: panicked: no x is wanted")
    );
    // All elements of the partition are at hand, and none of them is the one.
    assert_eq!(
        text(|rdd| rdd.for_each_partition(|pairs| pairs.into_iter().map(check).for_each(drop))),
        format!("{place}: panicked: no x is wanted")
    );
    assert_eq!(
        text(|rdd| match rdd.count()? {
            1 => Ok(()),
            n => panic!("{n} are too many"),
        }),
        "batch 2000 ms: output operation 0 `foreach_rdd`: panicked: 2 are too many"
    );
}

#[test]
fn functions_of_shuffles_and_states_are_told_by_their_operator() {
    let no_five = |a: i64, b: i64| {
        assert!(a != 5 && b != 5, "no five is wanted");
        a + b
    };
    let test = |program: &dyn Fn(&DStream<Pair>) -> DStream<Pair>| {
        let test = TestContext::from_builder(builder("test").max_attempts(1), Time::ZERO).unwrap();
        test.collect(&program(&test.input([pairs("a1"), pairs("a2 a3 a5")])));
        without_places(&test.run(2).unwrap_err().to_string())
    };
    let text = test(&|p| p.reduce_by_key(no_five));
    assert_eq!(
        text,
        "batch 2000 ms: output operation 0 `foreach_rdd`: task of partition 0, attempt 1: operator `reduce_by_key`, element 2 of \
         partition 0: panicked: no five is wanted"
    );
    let text = test(&|p| {
        p.update_state_by_key(move |new, sum: Option<i64>| {
            Some(new.iter().fold(sum.unwrap_or(0), |a, b| no_five(a, *b)))
        })
        .uid("totals")
        .unwrap()
    });
    assert!(text.starts_with("batch 2000 ms: operator `totals`: task of partition "), "{text}");
    assert!(
        text.ends_with(", attempt 1: operator `totals`, key \"a\": panicked: no five is wanted"),
        "{text}"
    );
    // What a state reads is not the state's fault.
    let text = test(&|p| {
        p.map(|(key, n)| {
            assert!(n != 5, "no five is wanted");
            (key, n)
        })
        .update_state_by_key(|new, _| new.first().copied())
    });
    assert_eq!(
        text,
        "batch 2000 ms: operator `update_state_by_key-1`: task of partition 0, attempt 1: operator `map`, element 2 of partition 0: \
         panicked: no five is wanted"
    );
}

#[test]
fn what_was_told_of_one_panic_is_not_told_of_the_next() {
    let test = TestContext::from_builder(builder("test").max_attempts(1), Time::ZERO).unwrap();
    test.input([pairs("x5")]).foreach_rdd(|rdd| -> tidemill::Result<()> {
        rdd.map(check).count().expect_err("there is an x");
        std::panic::catch_unwind(|| panic!("caught by the program")).expect_err("it panics");
        panic!("by itself")
    });
    assert_eq!(
        test.run(1).unwrap_err().to_string(),
        "batch 1000 ms: output operation 0 `foreach_rdd`: panicked: by itself"
    );
}

#[test]
fn nothing_of_a_failed_attempt_shows() {
    let test = TestContext::new("test").unwrap();
    let (calls, seen) = (Arc::new(AtomicUsize::new(0)), test.ssc.long_accumulator("seen").unwrap());
    let (counted, adding) = (calls.clone(), seen.clone());
    // The last element of the second batch breaks three times, after everything else was done with the others.
    let broken = test.input([pairs("a1 b2"), pairs("a3 x5"), vec![], pairs("b4")]).map(move |pair| {
        adding.add(1);
        if pair.0 == 'x' {
            assert!(counted.fetch_add(1, Ordering::Relaxed) >= 3, "it broke");
        }
        pair
    });
    let output = test.collect(&broken);
    let totals = test.collect(
        &broken.update_state_by_key(|new, sum: Option<i64>| Some(sum.unwrap_or(0) + new.iter().sum::<i64>())),
    );
    test.run(4).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 4);
    assert_eq!(seen.value(), 5);
    output.assert_batches([pairs("a1 b2"), pairs("a3 x5"), vec![], pairs("b4")]);
    totals.sorted().assert_batches([pairs("a1 b2"), pairs("a4 b2 x5"), pairs("a4 b2 x5"), pairs("a4 b6 x5")]);
    let records: Vec<_> = test.completed_batches().iter().map(|b| b.num_records).collect();
    assert_eq!(records, [2, 2, 0, 1]);
}

#[test]
fn the_first_failure_stops_the_context_after_the_other_output_operations_have_run() {
    let test = TestContext::new("test").unwrap();
    let input = test.input([pairs("a1"), pairs("a2"), pairs("a3")]);
    let before = test.collect(&input);
    input.foreach_rdd_with_time(
        |_, time| {
            if time == at(2) { Err(Error::output("the disk is full")) } else { Ok(()) }
        },
    );
    input.foreach_rdd_with_time(|_, time| assert!(time != at(2), "me too"));
    let after = test.collect(&input);
    test.ssc.start().unwrap();
    test.step().unwrap();
    let error = test.step().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Output);
    assert_eq!(error.to_string(), "batch 2000 ms: output operation 1 `foreach_rdd`: the disk is full");
    assert_eq!(test.ssc.state(), ContextState::Stopped);
    let told = |outcome: tidemill::Result<()>| outcome.unwrap_err().to_string();
    assert_eq!(told(test.ssc.await_termination()), error.to_string());
    assert_eq!(told(test.ssc.stop(true)), error.to_string());
    assert_eq!(
        test.ssc.await_termination_or_timeout(Duration::ZERO).unwrap_err().to_string(),
        error.to_string()
    );
    test.clock.advance(Duration::seconds(5));
    before.assert_batches([pairs("a1"), pairs("a2")]);
    after.assert_batches([pairs("a1"), pairs("a2")]);
    let last = test.completed_batches().pop().unwrap();
    assert_eq!(last.failure.as_deref(), Some("output operation 1 `foreach_rdd`: the disk is full"));
    let failures: Vec<_> = last.output_operations.iter().map(|o| o.failure.as_deref()).collect();
    assert_eq!(failures, [None, Some("the disk is full"), Some("panicked: me too"), None]);
}

#[test]
fn a_failed_state_fails_the_batch_before_the_output_operations_that_read_it() {
    let test = TestContext::from_builder(builder("test").max_attempts(2), Time::ZERO).unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let states = test.input([pairs("a1"), pairs("a5")]).update_state_by_key(move |new, _: Option<i64>| {
        if new.contains(&5) {
            counted.fetch_add(1, Ordering::Relaxed);
            panic!("no five is wanted");
        }
        new.first().copied()
    });
    let output = test.collect(&states);
    test.run(2).unwrap_err();
    output.assert_batches([pairs("a1")]);
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert!(test.completed_batches()[1].failure.as_deref().unwrap().contains("attempt 2"));
}

#[test]
fn a_batch_with_no_element_calls_no_function_that_could_fail() {
    let out =
        run_batches(vec![vec![], vec![]], |n: &DStream<i32>| n.map(|_| -> i32 { panic!("not called") }));
    assert_eq!(out.unwrap(), [vec![0i32; 0], vec![]]);
}

#[test]
fn a_source_that_is_called_as_another_one_is_numbered_is_refused() {
    let test = TestContext::new("test").unwrap();
    // The second one is `kafka:orders-2`, unless it is given a name.
    for uid in ["orders", "orders", "orders-2"] {
        test.ssc.kafka_direct_stream(KafkaSource::new("nowhere:9", ["t"]).uid(uid)).text().print();
    }
    let error = test.ssc.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("two inputs are called `kafka:orders-2`"), "{error}");
}

#[test]
fn what_does_not_read_a_failed_state_still_runs() {
    let test = TestContext::from_builder(builder("test").max_attempts(1), Time::ZERO).unwrap();
    let input = test.input([pairs("a1"), pairs("a5")]);
    let seen = test.collect(&input);
    let states = input.update_state_by_key(|new: Vec<i64>, _: Option<i64>| {
        assert!(!new.contains(&5), "no five is wanted");
        new.first().copied()
    });
    let failed = test.collect(&states);
    let downstream = test.collect(&states.window(Duration::seconds(1), Duration::seconds(1)).unwrap());
    let error = test.run(2).unwrap_err();
    assert!(error.to_string().contains("operator `update_state_by_key-1`"), "{error}");
    seen.assert_batches([pairs("a1"), pairs("a5")]);
    failed.assert_batches([pairs("a1")]);
    downstream.assert_batches([pairs("a1")]);
    let failures: Vec<_> = test.completed_output_operations().iter().map(|o| o.failure.is_some()).collect();
    assert_eq!(failures, [false, false, false, false, true, true]);
}
