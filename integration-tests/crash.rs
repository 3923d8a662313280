//! Killed at any moment and at every step of a commit, again and again: under exactly-once each record has its effect
//! once in every output, under at-least-once none is missing and what comes again is the same.
//!
//! `make crash KILLS=100` kills as often in each variant. A failure names its seed; `TIDEMILL_CRASH_SEED` repeats it.

use std::env;
use std::time::{Duration, Instant};

use crate::support::crash::{
    Blow, FILE, PARTITIONS, Report, Sender, Slicing, batches, drained, examine, first_batch, kill,
    pipeline_over, read_on,
};
use crate::support::words::Random;
use crate::support::{App, Broker, pause};

const LIMIT: Duration = Duration::from_secs(120);
const ALL: [&str; 6] = ["each", "totals", "windows", "slides", "inverse", "filtered"];

#[test]
fn exactly_once_into_one_topic() {
    // There is no state to apply in pieces.
    let points: Vec<_> = Blow::EXACTLY_ONCE.into_iter().filter(|it| *it != "commit::mid_apply").collect();
    let variant = Variant {
        name: "one-topic",
        delivery: "exactly-once",
        outputs: &ALL[..1],
        bad_records: false,
        slicing: Slicing::Arrival,
    };
    assert_clean(&variant.run(Broker::shared(), 3, &points));
}

#[test]
fn exactly_once_into_two_topics() {
    let variant = Variant {
        name: "two-topics",
        delivery: "exactly-once",
        outputs: &ALL[..2],
        bad_records: false,
        slicing: Slicing::Arrival,
    };
    assert_clean(&variant.run(Broker::shared(), 3, &[]));
}

#[test]
fn exactly_once_with_windows_and_dead_letters_at_every_fail_point() {
    let points = &Blow::EXACTLY_ONCE;
    let variant = Variant {
        name: "all-outputs",
        delivery: "exactly-once",
        outputs: &ALL,
        bad_records: true,
        slicing: Slicing::Arrival,
    };
    assert_clean(&variant.run(Broker::shared(), 7, points));
}

#[test]
fn exactly_once_while_batches_begin_before_the_last_one_is_committed() {
    let points = &Blow::EXACTLY_ONCE;
    let variant = Variant {
        name: "behind",
        delivery: "exactly-once",
        outputs: &ALL,
        bad_records: true,
        slicing: Slicing::Behind,
    };
    assert_clean(&variant.run(Broker::shared(), 7, points));
}

#[test]
fn a_batch_whose_transaction_is_aborted_is_run_again_before_the_next() {
    aborted("aborted", Slicing::Arrival);
}

#[test]
fn a_batch_whose_transaction_is_aborted_is_run_again_before_the_one_that_has_begun_meanwhile() {
    let told = aborted("aborted-behind", Slicing::Behind);
    assert!(told.matches(AHEAD).count() > 10, "{told}");
}

/// Told of a batch that began before the last one was committed.
const AHEAD: &str = "the batch begins while the one before it is being committed";

/// Has transactions refused now and then; tells what the service said.
#[track_caller]
fn aborted(name: &'static str, slicing: Slicing) -> String {
    let variant = Variant { name, delivery: "exactly-once", outputs: &ALL, bad_records: true, slicing };
    let broker = Broker::shared();
    let (app, sender, _) = variant.begin(broker);
    let app = app.env("RUST_LOG", "info,tidemill::batch=debug");
    // Each is tried four times in all; batches that are due meanwhile wait.
    let refused = "2*off->1*return->3*off->3*return->1*off->2*return->5*off->1*return->off";
    let mut run = app.clone().env("FAILPOINTS", format!("commit::refused={refused}")).start();
    let done = batches(&mut run, 0);
    batches(&mut run, done + 20);
    let told = run.stderr();
    assert_eq!(told.matches("running the batch again").count(), 7, "{told}");
    run.stop(LIMIT);
    assert_clean(&variant.end(broker, &app, sender, Report::default()));
    told
}

#[test]
fn at_least_once_loses_nothing_and_repeats_the_same() {
    let points = &Blow::AT_LEAST_ONCE;
    let variant = Variant {
        name: "at-least",
        delivery: "at-least-once",
        outputs: &ALL,
        bad_records: true,
        slicing: Slicing::Arrival,
    };
    let report = variant.run(Broker::shared(), 3, points);
    assert_eq!(report.lost, 0);
}

#[test]
fn by_timestamp_the_batches_are_those_of_an_undisturbed_run() {
    let (name, quiet) = ("by-timestamp", "by-timestamp-undisturbed");
    let broker = Broker::shared();
    let slicing = Slicing::Timestamp;
    let variant = Variant { name, delivery: "exactly-once", outputs: &ALL, bad_records: true, slicing };
    let report = variant.run(broker, 3, &Blow::EXACTLY_ONCE);
    assert_clean(&report);
    let killed = drained(broker, name, &ALL);
    let app = variant.app(broker, quiet);
    let mut run = app.start();
    read_on(&mut run, report.records);
    let undisturbed = drained(broker, quiet, &ALL);
    run.stop(LIMIT);
    for (output, rows) in &undisturbed {
        assert!(rows == &killed[output], "{name}-{output} is not what an undisturbed run gives");
    }
}

#[test]
fn exactly_once_while_the_broker_comes_and_goes() {
    let variant = Variant {
        name: "broker-too",
        delivery: "exactly-once",
        outputs: &ALL,
        bad_records: true,
        slicing: Slicing::Arrival,
    };
    let mut broker = Broker::start();
    let kills = kills(4);
    let (app, sender, mut random) = variant.begin(&broker);
    let mut report = Report::default();
    for n in 0..kills {
        let mut run = app.start();
        let done = batches(&mut run, 0);
        pause(Duration::from_millis(random.below(300)));
        match n % 4 {
            0 => {
                broker.pause();
                pause(Duration::from_millis(random.below(3_000)));
                broker.resume();
                batches(&mut run, done);
                kill(&mut run);
            }
            1 => {
                broker.restart();
                batches(&mut run, done);
                kill(&mut run);
            }
            2 => {
                broker.kill();
                broker.restart();
                batches(&mut run, done);
                kill(&mut run);
            }
            _ => {
                broker.kill();
                pause(Duration::from_millis(random.below(500)));
                kill(&mut run);
                // A start that finds nobody waits.
                let mut run = app.start();
                broker.restart();
                first_batch(&mut run);
                kill(&mut run);
                report.kills += 1;
            }
        }
        report.kills += 1;
    }
    assert_clean(&variant.end(&broker, &app, sender, report));
}

#[derive(Clone, Copy)]
struct Variant {
    name: &'static str,
    delivery: &'static str,
    outputs: &'static [&'static str],
    bad_records: bool,
    slicing: Slicing,
}

impl Variant {
    fn begin(self, broker: &Broker) -> (App, Sender, Random) {
        let seed = env::var("TIDEMILL_CRASH_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or(20_260_401);
        eprintln!("{}: TIDEMILL_CRASH_SEED={seed}", self.name);
        let timestamps = match self.slicing {
            Slicing::Arrival | Slicing::Behind => "CreateTime",
            Slicing::Timestamp => "LogAppendTime",
        };
        broker.create_topic_with(self.name, PARTITIONS, &[("message.timestamp.type", timestamps)]);
        let app = self.app(broker, self.name);
        (app, Sender::start(broker, self.name, self.bad_records), Random(seed))
    }

    /// The pipeline as the application `name`.
    fn app(self, broker: &Broker, name: &str) -> App {
        let text = pipeline_over(name, self.name, self.delivery, self.slicing, self.outputs);
        broker.run(FILE).file(FILE, &text)
    }

    fn run(self, broker: &Broker, in_ci: usize, points: &[&'static str]) -> Report {
        let (app, sender, mut random) = self.begin(broker);
        let mut report = Report::default();
        let mut killed = None;
        // Where each point is struck once, or the number is asked for, all take their turn.
        let in_turn = if in_ci == points.len() { 1 } else { 2 };
        for n in 0..kills(in_ci) {
            let n = if in_turn == 1 && n < in_ci { n * 2 } else { n };
            let blow = Blow::nth(n, points, &mut random);
            let first = blow.strike(&app);
            if let (Some(first), Some(killed)) = (first, killed) {
                report.recoveries.push(first - killed);
            }
            killed = Some(now());
            report.kills += 1;
        }
        self.end(broker, &app, sender, report)
    }

    /// A last start that reads everything, and a look at what is there.
    fn end(self, broker: &Broker, app: &App, sender: Sender, mut report: Report) -> Report {
        let mut run = app.start();
        first_batch(&mut run);
        let sent = sender.stop().found_in(broker, self.name);
        read_on(&mut run, sent.records());
        if self.slicing == Slicing::Timestamp {
            drained(broker, self.name, self.outputs);
        }
        run.stop(LIMIT);
        let lag = broker.group_lag(self.name);
        assert!(lag.iter().all(|it| it.lag == Some(0)), "{lag:?}");
        report.records = sent.records();
        (report.lost, report.doubled) = examine(broker, self.name, self.outputs, sent);
        eprintln!("{}: {report}", self.name);
        report
    }
}

#[track_caller]
fn assert_clean(report: &Report) {
    assert_eq!((report.lost, report.doubled), (0, 0));
}

/// How often to kill: as often as is asked for, or a few times.
fn kills(in_ci: usize) -> usize {
    env::var("TIDEMILL_CRASH_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(in_ci)
}

#[allow(clippy::disallowed_methods, reason = "other processes live by the clock on the wall")]
fn now() -> Instant {
    Instant::now()
}
