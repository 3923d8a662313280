//! What Kafka may do to a running application, and what that does: the rows of "Faults" in docs/architecture.md.
//! That brokers go and come back while it runs is in `crash`.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidemill::{
    Delivery, ErrorKind, KafkaSinkSettings, KafkaSource, OffsetRange, ProducerRecord, Start,
    StreamingContext, Time,
};

use crate::support::crash::{FILE, Sent, application, examine, first_batch, numbers, pipeline, read_on};
use crate::support::proxy::{END_TXN, PRODUCE};
use crate::support::{App, Broker, Proxy, Run, eventually, pause};

const LIMIT: Duration = Duration::from_secs(120);
const OUTPUTS: [&str; 2] = ["each", "totals"];
const RUNNING_AGAIN: &str = "running the batch again";

/// A transaction is given up after this.
const PATIENCE: Duration = Duration::from_secs(6);

/// The pipeline with short patience, reading the topic `name`.
fn impatient(name: &str) -> String {
    let options = format!("options: {{ transaction.timeout.ms: \"{}\" }}, key: k, ", PATIENCE.as_millis());
    pipeline(name, "exactly-once", &OUTPUTS).replace("key: k, partitions", &format!("{options}partitions"))
}

/// A run that has read `sent` numbers.
#[track_caller]
fn started(app: &App, sent: u64) -> Run {
    let mut run = app.start();
    first_batch(&mut run);
    read_on(&mut run, sent);
    run
}

/// The one message of a run that ends by itself with exit code 1.
#[track_caller]
fn failure(run: &mut Run) -> String {
    let code = run.wait_exit(LIMIT).code();
    let shown = run.stderr();
    assert_eq!(code, Some(1), "{shown}");
    assert!(!shown.contains("fault of Tidemill"), "{shown}");
    let message = shown.lines().find(|line| line.starts_with("error: "));
    message.unwrap_or_else(|| panic!("no message: {shown}")).to_owned()
}

#[track_caller]
fn assert_parts(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no {part:?}: {message}");
    }
}

#[test]
fn a_record_that_is_too_large_ends_the_run_and_shows_nothing() {
    let broker = Broker::shared();
    let (name, app) = application(broker, "large", |name| pipeline(name, "exactly-once", &OUTPUTS));
    // The other output could be delivered.
    let topic = format!("{name}-totals");
    broker.create_topic_with(&topic, 2, &[("max.message.bytes", "100")]);
    broker.produce(&name, numbers(0..100));
    let mut run = app.start();
    let message = failure(&mut run);
    assert_parts(&message, &["not delivered", &topic, "key `k", "too large"]);
    assert_eq!(run.stderr().matches(RUNNING_AGAIN).count(), 3, "{}", run.stderr());
    assert!(broker.read(&format!("{name}-each")).is_empty());

    let server = ["--bootstrap-server", broker.bootstrap(), "--alter", "--entity-type", "topics"];
    let change = ["--entity-name", &topic, "--add-config", "max.message.bytes=100000"];
    broker.tool("kafka.admin.ConfigCommand", &[&server[..], &change].concat());
    started(&app, 100).stop(LIMIT);
    assert_eq!(examine(broker, &name, &OUTPUTS, Sent::all(100)), (0, 0));
}

#[test]
fn an_output_topic_that_is_deleted_ends_the_run() {
    let broker = Broker::shared();
    let (name, app) = application(broker, "topic-gone", impatient);
    broker.produce(&name, numbers(0..100));
    let mut run = started(&app, 100);
    let topic = format!("{name}-totals");
    let delete = ["--bootstrap-server", broker.bootstrap(), "--delete", "--topic", &topic];
    broker.tool("org.apache.kafka.tools.TopicCommand", &delete);
    broker.produce(&name, numbers(100..200));
    let message = failure(&mut run);
    // Whichever topic's records librdkafka happens to name, if it has come so far.
    let named = message.contains(&name) || message.contains("an output topic is gone");
    assert!(named, "{message}");
    // Made anew at the next start, it has what came since.
    started(&app, 200).stop(LIMIT);
    assert_eq!(broker.read(&format!("{name}-each")).len(), 200);
    assert!(!broker.read(&topic).is_empty());
}

#[test]
fn a_second_instance_with_a_copy_of_the_checkpoint_fences_the_first() {
    let broker = Broker::shared();
    let (name, first) = application(broker, "fenced", |name| pipeline(name, "exactly-once", &OUTPUTS));
    broker.produce(&name, numbers(0..100));
    started(&first, 100).stop(LIMIT);
    let second = broker.run(FILE).file(FILE, &pipeline(&name, "exactly-once", &OUTPUTS));
    copy(&first.dir().join("data"), &second.dir().join("data"));

    let mut former = started(&first, 100);
    let mut latter = started(&second, 100);
    broker.produce(&name, numbers(100..200));
    let message = failure(&mut former);
    assert_parts(&message, &["another instance of", &name, "taken over"]);
    assert!(!former.stderr().contains(RUNNING_AGAIN), "{}", former.stderr());
    broker.produce(&name, numbers(200..300));
    read_on(&mut latter, 300);
    latter.stop(LIMIT);
    assert_eq!(examine(broker, &name, &OUTPUTS, Sent::all(300)), (0, 0));

    // The first one's checkpoint is behind now.
    let message = failure(&mut first.start());
    assert_parts(&message, &["contradict each other", "older checkpoint", "--offsets"]);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to)
        } else {
            drop(fs::copy(entry.path(), to))
        }
    }
}

#[test]
fn a_commit_whose_outcome_is_unknown_is_settled_by_the_next_start() {
    let (broker, proxy) = Broker::start_with("");
    for (prefix, committed) in [("was-committed", true), ("was-not", false)] {
        let (name, app) = application(&broker, prefix, impatient);
        let app = app.env("KAFKA_BROKERS", proxy.bootstrap());
        broker.produce(&name, numbers(0..100));
        let mut run = started(&app, 100);
        if committed {
            proxy.cut_after(END_TXN)
        } else {
            proxy.cut_before(END_TXN)
        }
        broker.produce(&name, numbers(100..200));
        proxy.wait_until_cut();
        assert_parts(&failure(&mut run), &["cannot commit the transaction", "the next start"]);
        proxy.open();

        let mut run = started(&app, 200);
        let (does, does_not) =
            ("finishing a batch that was committed", "a batch was prepared and not committed");
        let (does, does_not) = if committed { (does, does_not) } else { (does_not, does) };
        assert!(
            run.stderr().contains(does) && !run.stderr().contains(does_not),
            "{prefix}: {}",
            run.stderr()
        );
        run.stop(LIMIT);
        assert_eq!(examine(&broker, &name, &OUTPUTS, Sent::all(200)), (0, 0), "{prefix}");
    }
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again() {
    let (broker, proxy) = Broker::start_with("");
    for (prefix, request) in [("end", END_TXN), ("produce", PRODUCE)] {
        for after in [true, false] {
            let (name, app) = application(&broker, prefix, |name| pipeline(name, "exactly-once", &OUTPUTS));
            let app = app.env("KAFKA_BROKERS", proxy.bootstrap());
            broker.produce(&name, numbers(0..100));
            let mut run = started(&app, 100);
            if after {
                proxy.cut_after(request)
            } else {
                proxy.cut_before(request)
            }
            broker.produce(&name, numbers(100..200));
            proxy.wait_until_cut();
            pause(Duration::from_millis(500));
            proxy.open();
            read_on(&mut run, 200);
            run.stop(LIMIT);
            assert_eq!(examine(&broker, &name, &OUTPUTS, Sent::all(200)), (0, 0), "{prefix} {after}");
        }
    }
}

#[test]
fn a_broker_that_is_away_for_longer_than_a_transaction_may_take_ends_the_run() {
    let (broker, proxy) =
        Broker::start_with("transaction.abort.timed.out.transaction.cleanup.interval.ms=500");
    for (prefix, how) in [("cut", Proxy::cut as fn(&Proxy)), ("frozen", Proxy::freeze)] {
        let (name, app) = application(&broker, prefix, impatient);
        let app = app.env("KAFKA_BROKERS", proxy.bootstrap());
        broker.produce(&name, numbers(0..100));
        let mut run = started(&app, 100);
        // In the middle of a transaction: its records are delivered, its end is not.
        proxy.cut_before(END_TXN);
        broker.produce(&name, numbers(100..200));
        proxy.wait_until_cut();
        how(&proxy);
        let message = failure(&mut run);
        assert_parts(&message, &["commit", "the next start"]);
        proxy.open();
        started(&app, 200).stop(LIMIT);
        assert_eq!(examine(&broker, &name, &OUTPUTS, Sent::all(200)), (0, 0), "{prefix}");
    }
}

#[test]
fn a_delivery_that_times_out_is_taken_back_and_the_batch_runs_again() {
    let (broker, proxy) = Broker::start_with("");
    let options = "options: { message.timeout.ms: \"2000\" }, key: k, partitions";
    let text = |name: &str| pipeline(name, "exactly-once", &OUTPUTS).replace("key: k, partitions", options);
    let (name, app) = application(&broker, "late", text);
    let app = app.env("KAFKA_BROKERS", proxy.bootstrap());
    broker.produce(&name, numbers(0..100));
    let mut run = started(&app, 100);
    proxy.cut_before(PRODUCE);
    broker.produce(&name, numbers(100..200));
    proxy.wait_until_cut();
    // The 2 s after which a delivery is given up, and plenty for the client to look for such ones. No attempt follows
    // meanwhile: without the broker the transaction cannot be aborted.
    pause(Duration::from_secs(10));
    proxy.open();
    read_on(&mut run, 200);
    // The same process goes on with what the batch left.
    broker.produce(&name, numbers(200..300));
    read_on(&mut run, 300);
    assert!(run.stderr().contains(RUNNING_AGAIN), "{}", run.stderr());
    run.stop(LIMIT);
    assert_eq!(examine(&broker, &name, &OUTPUTS, Sent::all(300)), (0, 0));
}

#[test]
fn a_client_that_does_not_come_back_from_a_call_is_replaced() {
    let broker = Broker::shared();
    let (name, app) = application(broker, "stuck", |name| pipeline(name, "exactly-once", &OUTPUTS));
    broker.produce(&name, numbers(0..100));
    let stuck = "sink::send_offsets=1*off->1*pause->off";
    let mut run = started(&app.clone().env("FAILPOINTS", stuck), 100);
    broker.produce(&name, numbers(100..200));
    read_on(&mut run, 200);
    let told = run.stderr();
    assert_parts(&told, &["Kafka's client has not answered for 3", "a new producer takes over"]);
    assert_eq!(told.matches(RUNNING_AGAIN).count(), 1, "{told}");
    broker.produce(&name, numbers(200..300));
    read_on(&mut run, 300);
    run.stop(LIMIT);
    assert_eq!(examine(broker, &name, &OUTPUTS, Sent::all(300)), (0, 0));
}

#[test]
fn a_stop_does_not_wait_for_a_client_that_does_not_come_back() {
    let broker = Broker::shared();
    let (name, app) = application(broker, "stuck-stop", |name| pipeline(name, "exactly-once", &OUTPUTS));
    broker.produce(&name, numbers(0..100));
    let mut run = app.clone().env("FAILPOINTS", "sink::send_offsets=pause").start();
    let http = run.http();
    eventually(LIMIT, "a batch with records that does not end", || {
        let (_, batches) = http.get("/api/v1/batches?status=processing");
        let batches: serde_json::Value = serde_json::from_str(&batches).expect("batches are JSON");
        (batches[0]["inputSize"].as_u64() > Some(0)).then_some(()).ok_or(batches.to_string())
    });
    run.sigterm();
    assert_parts(&failure(&mut run), &["cannot put the offsets", "has not answered"]);
    started(&app, 100).stop(LIMIT);
    assert_eq!(examine(broker, &name, &OUTPUTS, Sent::all(100)), (0, 0));
}

#[test]
fn a_transaction_timeout_above_the_brokers_cap_is_refused() {
    let broker = Broker::shared();
    let options = "options: { transaction.timeout.ms: \"1000000\" }, key: k, partitions";
    let text = |name: &str| pipeline(name, "exactly-once", &OUTPUTS).replace("key: k, partitions", options);
    let (_, app) = application(broker, "cap", text);
    let mut run = app.start();
    assert_eq!(run.wait_exit(LIMIT).code(), Some(2), "{}", run.stderr());
    assert_parts(&run.stderr(), &["transaction.max.timeout.ms", "transaction.timeout.ms"]);
}

#[test]
fn a_stop_while_the_broker_is_away_leaves_the_batch_to_the_next_start() {
    let (broker, proxy) = Broker::start_with("");
    let (name, app) = application(&broker, "stopped", |name| pipeline(name, "exactly-once", &OUTPUTS));
    let app = app.env("KAFKA_BROKERS", proxy.bootstrap());
    broker.produce(&name, numbers(0..100));
    let mut run = started(&app, 100);
    proxy.cut_before(END_TXN);
    broker.produce(&name, numbers(100..200));
    proxy.wait_until_cut();
    run.sigterm();
    assert_parts(&failure(&mut run), &["cannot commit the transaction", "the next start"]);
    proxy.open();
    started(&app, 200).stop(LIMIT);
    assert_eq!(examine(&broker, &name, &OUTPUTS, Sent::all(200)), (0, 0));
}

/// A program of numbers, each sent on, that lives in this process.
fn program(
    broker: &Broker,
    name: &str,
    folder: &Path,
    timeout: Duration,
) -> (StreamingContext, tidemill::KafkaSink) {
    let ssc = StreamingContext::builder(name)
        .batch_interval(Duration::from_millis(100))
        .delivery(Delivery::ExactlyOnce)
        .checkpoint(folder)
        .build()
        .unwrap();
    let sink = ssc.kafka_sink(KafkaSinkSettings::new(broker.bootstrap()).transaction_timeout(timeout));
    (ssc, sink)
}

fn source(broker: &Broker, topic: &str) -> KafkaSource {
    KafkaSource::new(broker.bootstrap(), [topic]).start(Start::Earliest)
}

fn texts(broker: &Broker, topic: &str) -> Vec<String> {
    broker.read(topic).iter().map(|row| row.text()).collect()
}

#[test]
fn a_batch_that_takes_longer_than_its_transaction_may_is_told_what_to_change() {
    let (broker, _proxy) =
        Broker::start_with("transaction.abort.timed.out.transaction.cleanup.interval.ms=500");
    let (topic, folder) = (broker.unique_topic("slow", 1), tempfile::tempdir().unwrap());
    broker.produce(&topic, ["a", "b"]);
    let run = |slow: bool| {
        // The one that is to succeed has time for it on a busy machine, too.
        let timeout = Duration::from_secs(if slow { 2 } else { 60 });
        let (ssc, sink) = program(&broker, &topic, folder.path(), timeout);
        let texts = ssc.kafka_direct_stream(source(&broker, &topic)).text();
        texts.map(|text| ProducerRecord::new(text.clone(), text)).save_to_kafka(&sink, "slow-out");
        // An output operation after the one that opened the transaction.
        texts.foreach_rdd(move |rdd| {
            if slow && rdd.count().unwrap() > 0 {
                pause(Duration::from_secs(5));
            }
        });
        ssc
    };
    let ssc = run(true);
    ssc.start().unwrap();
    let error = ssc.await_termination().unwrap_err();
    assert_parts(&error.to_string(), &["longer than", "2s", "max_records_per_batch"]);
    assert_eq!(error.kind(), ErrorKind::Output);
    assert!(texts(&broker, "slow-out").is_empty());
    drop(ssc);

    let ssc = run(false);
    ssc.start().unwrap();
    eventually(LIMIT, "the batch, run again", || {
        let found = texts(&broker, "slow-out");
        (found == ["a", "b"]).then_some(()).ok_or_else(|| format!("{found:?}"))
    });
    ssc.stop(true).unwrap();
}

#[test]
fn a_task_that_fails_at_first_puts_nothing_twice_into_the_output() {
    let broker = Broker::shared();
    let (topic, folder) = (broker.unique_topic("flaky", 1), tempfile::tempdir().unwrap());
    let out = format!("{topic}-out");
    broker.produce(&topic, (0..100).map(|n| n.to_string()));
    let (ssc, sink) = program(broker, &topic, folder.path(), Duration::from_secs(60));
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = attempts.clone();
    let mapped = ssc.kafka_direct_stream(source(broker, &topic)).text().map(move |text| {
        // Fails in the middle of its partition, three times.
        if text == "50" && counted.fetch_add(1, Ordering::Relaxed) < 3 {
            panic!("not yet");
        }
        ProducerRecord::new(text.clone(), text)
    });
    mapped.save_to_kafka(&sink, &out);
    ssc.start().unwrap();
    eventually(LIMIT, "the output", || {
        let found = texts(broker, &out).len();
        (found >= 100).then_some(()).ok_or_else(|| format!("{found}"))
    });
    ssc.stop(true).unwrap();
    assert!(attempts.load(Ordering::Relaxed) >= 4);
    let mut found: Vec<u32> = texts(broker, &out).iter().map(|text| text.parse().unwrap()).collect();
    found.sort_unstable();
    assert_eq!(found, (0..100).collect::<Vec<_>>());
}

#[test]
fn a_batch_that_is_run_again_has_its_time_and_its_ranges() {
    let broker = Broker::shared();
    let (topic, folder) = (broker.unique_topic("idempotent", 2), tempfile::tempdir().unwrap());
    broker.produce(&topic, ["a", "b", "c"]);
    type Seen = Arc<Mutex<Vec<(Time, Vec<OffsetRange>, Vec<String>)>>>;
    let seen = Seen::default();
    // An outside world without transactions, and a crash after it was told.
    let run = |fails: bool| {
        let (ssc, sink) = program(broker, &topic, folder.path(), Duration::from_secs(60));
        let texts = ssc.kafka_direct_stream(source(broker, &topic)).text();
        texts
            .map(|text| ProducerRecord::new(text.clone(), text))
            .save_to_kafka(&sink, &format!("{topic}-out"));
        let seen = seen.clone();
        texts.foreach_rdd_with_time(move |rdd, time| {
            let (ranges, records) = (rdd.offset_ranges().unwrap().to_vec(), rdd.collect()?);
            if !ranges.is_empty() {
                seen.lock().unwrap().push((time, ranges, records));
                if fails {
                    return Err(tidemill::Error::task("the world ends"));
                }
            }
            Ok(())
        });
        ssc.start().unwrap();
        ssc
    };
    assert!(run(true).await_termination().unwrap_err().to_string().contains("the world ends"));
    // What comes meanwhile belongs to a later batch.
    broker.produce(&topic, ["d", "e"]);
    let ssc = run(false);
    eventually(LIMIT, "all batches", || {
        let read: usize = seen.lock().unwrap().iter().map(|(_, _, records)| records.len()).sum();
        (read >= 8).then_some(()).ok_or_else(|| format!("{read}"))
    });
    ssc.stop(true).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0].2.len(), 3);
    assert!(seen[2].0 > seen[1].0);
    let mut out = texts(broker, &format!("{topic}-out"));
    out.sort();
    assert_eq!(out, ["a", "b", "c", "d", "e"]);
}
