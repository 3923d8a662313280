//! What a start does, by what the checkpoint and the consumer group say: each row of the table of `commit::start`.

use std::time::Duration;

use crate::support::crash::{PARTITIONS, Sent, examine, first_batch, numbers, pipeline};
use crate::support::{App, Broker, Run, unique_name};

const FILE: &str = "pipeline.yaml";
const LIMIT: Duration = Duration::from_secs(120);
const OUTPUTS: [&str; 2] = ["each", "totals"];
const GROUPS: &str = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";

const AGAIN: &str = "running an unfinished batch again";
const DROPPED: &str = "a batch was prepared and not committed";
const FINISHED: &str = "finishing a batch that was committed";

/// An application, how many numbers it was sent, and its name.
struct Tried {
    broker: &'static Broker,
    app: App,
    name: String,
    sent: u64,
}

impl Tried {
    fn new(prefix: &str, delivery: &str) -> Tried {
        let broker = Broker::shared();
        let name = unique_name(prefix);
        broker.create_topic(&name, PARTITIONS);
        let app = broker.run(FILE).file(FILE, &pipeline(&name, delivery, &OUTPUTS));
        Tried { broker, app, name, sent: 0 }
    }

    fn send(&mut self, count: u64) {
        self.broker.produce(&self.name, numbers(self.sent..self.sent + count));
        self.sent += count;
    }

    /// Crashes at `point` when a batch comes by it that has read `count` more numbers.
    fn crash(&mut self, point: &str, count: u64) {
        // Batches that read nothing come by `planned` and `ran`, too: the numbers are there before the start.
        self.send(count);
        let mut run = self.app.clone().env("FAILPOINTS", format!("{point}=return")).start();
        let status = run.wait_exit(LIMIT);
        assert_eq!(status.code(), None, "{point}: {}", run.stderr());
    }

    /// Starts with `arguments`, reads to the end, and stops.
    fn read_on(&self, arguments: &[&str]) -> String {
        let arguments = [&["run", FILE], arguments].concat();
        let mut run = self.app.arguments(&arguments).start();
        read_to_the_end(&mut run, self.sent);
        run.stop(LIMIT);
        run.stderr()
    }

    /// What it says before it ends with exit code 1.
    fn refused(&self) -> String {
        let mut run = self.app.start();
        let code = run.wait_exit(LIMIT).code();
        let shown = run.stderr();
        assert_eq!(code, Some(1), "{shown}");
        shown.lines().find(|line| line.starts_with("error: ")).expect("a message").to_owned()
    }

    fn groups(&self, arguments: &[&str]) -> String {
        let server = ["--bootstrap-server", self.broker.bootstrap(), "--group", &self.name];
        self.broker.tool(GROUPS, &[&server[..], arguments].concat())
    }

    #[track_caller]
    fn assert_once(&self) {
        assert_eq!(examine(self.broker, &self.name, &OUTPUTS, Sent::all(self.sent)), (0, 0));
    }
}

#[track_caller]
fn read_to_the_end(run: &mut Run, sent: u64) {
    first_batch(run);
    run.http().wait_until_read(PARTITIONS as usize, sent, LIMIT);
}

#[test]
fn each_step_of_a_commit_has_one_way_on() {
    let mut tried = Tried::new("steps", "exactly-once");
    // The first batch of all, and then others.
    for _ in 0..2 {
        for (point, does, does_not) in [
            ("commit::planned", vec![AGAIN], vec![DROPPED, FINISHED]),
            ("commit::ran", vec![AGAIN], vec![DROPPED, FINISHED]),
            ("commit::prepared", vec![DROPPED, AGAIN], vec![FINISHED]),
            ("commit::offsets_sent", vec![DROPPED, AGAIN], vec![FINISHED]),
            ("commit::in_transaction", vec![FINISHED], vec![AGAIN, DROPPED]),
            ("commit::mid_apply", vec![FINISHED], vec![AGAIN, DROPPED]),
            ("commit::applied", vec![], vec![AGAIN, DROPPED, FINISHED]),
        ] {
            tried.crash(point, 50);
            let said = tried.read_on(&[]);
            assert!(does.iter().all(|text| said.contains(text)), "{point}: {said}");
            assert!(!does_not.iter().any(|text| said.contains(text)), "{point}: {said}");
            tried.assert_once();
        }
    }
}

#[test]
fn a_first_batch_is_settled_as_any_other() {
    for point in ["commit::prepared", "commit::offsets_sent", "commit::in_transaction"] {
        let mut tried = Tried::new("first", "exactly-once");
        tried.crash(point, 50);
        tried.read_on(&[]);
        tried.assert_once();
    }
}

#[test]
fn a_group_that_was_moved_by_hand_is_told_and_goes_either_way() {
    let mut tried = Tried::new("moved", "exactly-once");
    tried.send(400);
    tried.read_on(&[]);
    let reset = |tried: &Tried| {
        tried.groups(&["--topic", &tried.name, "--reset-offsets", "--to-offset", "40", "--execute"])
    };
    reset(&tried);
    let told = tried.refused();
    for p in 0..PARTITIONS {
        let (mine, theirs) = (format!("{}-{p} at 100", tried.name), format!("{}-{p} at 40", tried.name));
        assert!(told.contains(&mine) && told.contains(&theirs), "{told}");
    }
    assert!(told.contains("--offsets checkpoint") && told.contains("--offsets group"), "{told}");

    // The checkpoint's side: as if nothing had been moved.
    tried.send(40);
    tried.read_on(&["--offsets", "checkpoint"]);
    tried.assert_once();
    tried.send(40);
    tried.read_on(&[]);
    tried.assert_once();

    // The group's side: what comes after its offsets is read again, and what was counted stays counted.
    reset(&tried);
    tried.read_on(&["--offsets", "group"]);
    let again = 480 - 4 * 40;
    let count = |tried: &Tried| tried.broker.read(&format!("{}-each", tried.name)).len() as u64;
    assert_eq!(count(&tried), 480 + again);
    // From there on there is nothing to settle.
    tried.send(40);
    tried.read_on(&[]);
    assert_eq!(count(&tried), 480 + again + 40);
    let mut totals = std::collections::BTreeMap::new();
    for row in tried.broker.read(&format!("{}-totals", tried.name)) {
        let value: serde_json::Value = serde_json::from_slice(row.value.as_deref().unwrap()).unwrap();
        totals.insert(row.key_text(), value["total"].as_u64().unwrap());
    }
    assert_eq!(totals.values().sum::<u64>(), 480 + again + 40);
}

#[test]
fn a_group_that_was_moved_while_a_batch_was_prepared_goes_either_way() {
    for (point, side, expected) in [
        ("commit::prepared", "checkpoint", 200),
        ("commit::prepared", "group", 100 + 200),
        // What is half applied is finished, whatever the group says.
        ("commit::mid_apply", "checkpoint", 200),
    ] {
        let mut tried = Tried::new("moved-prepared", "exactly-once");
        tried.send(100);
        tried.read_on(&[]);
        tried.crash(point, 100);
        tried.groups(&["--topic", &tried.name, "--reset-offsets", "--to-earliest", "--execute"]);
        assert!(tried.refused().contains("--offsets group"));
        tried.read_on(&["--offsets", side]);
        let count = tried.broker.read(&format!("{}-each", tried.name)).len();
        assert_eq!(count, expected, "{point} {side}");
        tried.read_on(&[]);
        if side == "checkpoint" {
            tried.assert_once();
        }
    }
}

#[test]
fn a_group_that_was_deleted_changes_nothing() {
    let mut tried = Tried::new("deleted", "exactly-once");
    tried.send(100);
    tried.read_on(&[]);
    tried.groups(&["--delete"]);
    tried.send(100);
    tried.read_on(&[]);
    tried.assert_once();
    assert!(tried.broker.group_lag(&tried.name).iter().all(|it| it.current_offset == Some(50)));

    // A planned batch is run again; the checkpoint knows all there is to know.
    tried.crash("commit::ran", 100);
    tried.groups(&["--delete"]);
    assert!(tried.read_on(&[]).contains(AGAIN));
    tried.assert_once();

    // With a batch prepared, nobody can tell any more whether it happened.
    tried.crash("commit::in_transaction", 100);
    tried.groups(&["--delete"]);
    assert!(tried.refused().contains("no offsets"));
}

#[test]
fn at_least_once_the_group_may_be_behind() {
    let mut tried = Tried::new("behind", "at-least-once");
    tried.send(100);
    tried.read_on(&[]);
    tried.crash("commit::applied", 100);
    let behind: i64 = tried.broker.committed(&tried.name, &tried.name).values().sum();
    assert_eq!(behind, 100);
    let said = tried.read_on(&[]);
    assert!(!said.contains(AGAIN), "{said}");
    tried.assert_once();
    assert!(tried.broker.group_lag(&tried.name).iter().all(|it| it.lag == Some(0)));
}

#[test]
fn delivery_can_be_changed_between_two_runs() {
    let mut tried = Tried::new("changed", "exactly-once");
    for (point, next) in [
        ("commit::prepared", "at-least-once"),
        ("commit::applied", "exactly-once"),
        ("commit::in_transaction", "at-least-once"),
        ("commit::ran", "exactly-once"),
        ("commit::offsets_sent", "at-least-once"),
        ("commit::planned", "exactly-once"),
        ("commit::ran", "at-least-once"),
    ] {
        tried.crash(point, 100);
        tried.app = tried.app.clone().file(FILE, &pipeline(&tried.name, next, &OUTPUTS));
        tried.read_on(&[]);
        tried.assert_once();
    }
}
