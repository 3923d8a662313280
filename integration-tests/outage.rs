//! Brokers that are away: when a pipeline starts, and while it runs.

use std::time::{Duration, Instant};

use tidemill::{ErrorKind, KafkaSinkSettings, KafkaSource, ProducerRecord, Slicing, Start, StreamingContext};

use crate::support::proxy::FETCH;
use crate::support::{Broker, Http, Run, eventually, pause, tidemill, unique_name, word_count_as};

const LIMIT: Duration = Duration::from_secs(120);
const FILE: &str = "pipeline.yaml";

/// A pipeline that runs, and where it listens.
struct Running {
    app: String,
    run: Run,
    http: Http,
}

impl Running {
    #[track_caller]
    fn committed(&self, count: usize) {
        eventually(LIMIT, "the records", || {
            let read = self.http.metrics().sum("tidemill_source_committed_offset", &[]);
            (read == count as f64).then_some(()).ok_or_else(|| format!("{read} of {count}, {}", self.app))
        });
    }

    #[track_caller]
    fn ready(&self, expected: u16, with: &str) {
        eventually(LIMIT, "what health is to tell", || {
            let (status, text) = self.http.get("/readyz");
            let is_told = status == expected && text.contains(with);
            is_told.then_some(()).ok_or_else(|| format!("{status} {text}, {}", self.app))
        });
    }

    fn away(&self) -> f64 {
        self.http.metrics().one("tidemill_source_away_seconds", &[("source", "kafka:lines")])
    }

    fn cpu(&self) -> f64 {
        self.http.metrics().one("process_cpu_seconds_total", &[])
    }
}

#[test]
fn a_broker_that_is_away_is_waited_for_and_lag_and_health_tell() {
    let mut broker = Broker::start();
    let name = unique_name("away");
    let words = || (0..10).map(|n| format!("word{n}"));
    broker.create_topic(&name, 1);
    broker.produce(&name, words());
    broker.stop();
    // At the start it is waited for, with a message, up to a set time.
    let waiting = ["arrival", "timestamp"].map(|slicing| {
        let app = format!("{name}-{slicing}");
        let topics = format!("topics: [{name}]\n      slicing: {slicing}");
        let own = format!("topics: [{app}]");
        let text = word_count_as(&app, &[("wait: 30s", "wait: 2m"), (own.as_str(), topics.as_str())]);
        let mut run = broker.run(FILE).file(FILE, &text).start();
        let line = run.wait_for_stderr("waiting for", LIMIT);
        assert!(line.contains(broker.bootstrap()) && line.contains("up to 2m"), "{line}");
        (app, run)
    });
    broker.restart();
    let mut running = waiting.map(|(app, mut run)| Running { app, http: run.http(), run });
    for running in &running {
        running.committed(10);
        running.ready(200, "ready");
        assert_eq!(running.away(), 0.0);
    }

    // In the middle it is asked again and again, which takes next to no time of the processor.
    broker.kill();
    running.iter().for_each(|running| running.ready(503, broker.bootstrap()));
    // Whether a plan waits for it or a commit does.
    for running in &running {
        eventually(LIMIT, "the time for which it is away", || {
            let away = running.away();
            if away > 0.0 { Ok(()) } else { Err(running.app.clone()) }
        });
    }
    let before = running.each_ref().map(Running::cpu);
    pause(Duration::from_secs(6));
    for (running, before) in running.iter_mut().zip(before) {
        let used = running.cpu() - before;
        assert!(used <= 2.0, "{} used {used} s of the processor in 6 s of waiting", running.app);
        assert!(running.away() >= 5.0, "away for {} s", running.away());
        assert!(running.run.exit_status().is_none(), "{}", running.run.stderr());
    }

    // Nothing is lost by it, and nothing comes twice.
    broker.restart();
    broker.produce(&name, words());
    for mut running in running {
        running.committed(20);
        running.ready(200, "ready");
        assert_eq!(running.away(), 0.0);
        running.run.stop(LIMIT);
        let count = |text: String| {
            serde_json::from_str::<serde_json::Value>(&text).unwrap()["count"].as_u64().unwrap()
        };
        let counted: u64 =
            broker.read(&format!("{}-counts", running.app)).iter().map(|row| count(row.text())).sum();
        assert_eq!(counted, 20, "{}", running.app);
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "how long a stop takes is what this is about")]
fn a_program_that_is_stopped_does_not_wait_for_a_broker_that_is_away() {
    let (broker, proxy) = Broker::start_with("");
    // Where records say when a batch ends, none has begun; any other may wait for a while.
    for (name, slicing, longest) in [
        ("by-timestamp", Slicing::timestamp(), Duration::from_secs(15)),
        ("by-arrival", Slicing::Arrival, Duration::from_secs(45)),
    ] {
        broker.create_topic(name, 1);
        broker.produce(name, ["a"]);
        let folder = tempfile::tempdir().unwrap();
        let start = || {
            let ssc = StreamingContext::builder(name)
                // So long that nothing is fetched before a batch wants it.
                .batch_interval(Duration::from_millis(500))
                .checkpoint(folder.path())
                .build()
                .unwrap();
            let sink = ssc.kafka_sink(KafkaSinkSettings::new(proxy.bootstrap()));
            let source = KafkaSource::new(proxy.bootstrap(), [name]).start(Start::Earliest).slicing(slicing);
            let texts = ssc.kafka_direct_stream(source).text();
            let sent = texts.map(|text| ProducerRecord::new(text.clone(), text));
            sent.save_to_kafka(&sink, &format!("{name}-out"));
            ssc.start().unwrap();
            ssc
        };
        let written = |expected: &[&str]| {
            eventually(LIMIT, "the output", || {
                let rows = broker.read(&format!("{name}-out"));
                let found: Vec<_> = rows.iter().map(|row| row.text()).collect();
                (found == expected).then_some(()).ok_or_else(|| format!("{name}: {found:?}"))
            });
        };
        let ssc = start();
        written(&["a"]);
        // The next record is known of, and cannot be had.
        proxy.cut_before(FETCH);
        broker.produce(name, ["b"]);
        proxy.wait_until_cut();
        let begun = Instant::now();
        let stopped = ssc.stop(true).map_err(|error| error.kind());
        let time = begun.elapsed();
        let expected = match slicing {
            Slicing::Arrival => Err(ErrorKind::Unavailable),
            Slicing::Timestamp { .. } => Ok(()),
        };
        assert_eq!(stopped, expected, "{name}");
        assert!(time < longest, "{name}: {time:?}");
        drop(ssc);
        proxy.open();
        let ssc = start();
        written(&["a", "b"]);
        ssc.stop(true).unwrap();
    }
}

/// As a cluster of one does for a moment when its broker was away for longer than its session, or has just started.
#[test]
fn a_cluster_that_names_no_broker_for_a_while_is_found_again() {
    let (broker, proxy) = Broker::start_with("");
    for reader in ["auto", "rdkafka"] {
        let name = unique_name("nameless");
        broker.create_topic(&name, 2);
        let bridge = ["bridge", "generate", "--rate", "100", "--topic", &name, "--state", "bridge"];
        // They ask anew every second.
        let bridge = [&bridge[..], &["--option", "topic.metadata.refresh.interval.ms=1000"]].concat();
        let mut bridge = tidemill(&bridge).env("KAFKA_BROKERS", proxy.bootstrap()).start();
        let options = format!(
            "wait: 30s\n      reader: {reader}\n      options: {{ topic.metadata.refresh.interval.ms: \"1000\" }}"
        );
        let file = word_count_as(&name, &[("wait: 30s", &options)]);
        let mut run = broker.run(FILE).env("KAFKA_BROKERS", proxy.bootstrap()).file(FILE, &file).start();
        let http = run.http();
        let committed = || http.metrics().sum("tidemill_source_committed_offset", &[]);
        let beyond = |records: f64| {
            eventually(LIMIT, "records", || {
                if committed() > records { Ok(()) } else { Err(format!("{}, not {records}", committed())) }
            });
        };
        beyond(100.0);
        proxy.name_no_brokers();
        // Long enough for each client to have asked: records are still read and written by connections that are there.
        pause(Duration::from_secs(3));
        proxy.open();
        let before = committed();
        beyond(before + 500.0);
        for run in [&mut bridge, &mut run] {
            run.sigterm();
            assert_eq!(run.wait_exit(LIMIT).code(), Some(0), "{}", run.stderr());
        }
    }
}
