//! What goes wrong at the start of a run: one clear message, and the exit code 2 for a wrong file or 1 for the world.

use std::net::TcpListener;
use std::time::Duration;

use crate::support::{App, Broker, Record, Run, eventually, tidemill, unique_name, word_count_as};

const LIMIT: Duration = Duration::from_secs(60);
const FILE: &str = "pipeline.yaml";

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

#[test]
fn a_wrong_file_is_refused_with_the_place_and_a_hint() {
    let cases = [
        ("reduce_by_key:", "reduce_by_keys:", "unknown operator", "reduce_by_keys", "reduce_by_key"),
        ("slide: 10s", "slied: 10s", "`reduce_by_key_and_window` has no key", "slied", "slide"),
        ("key: [word]", "key: [wrod]", "there is no column", "wrod", "word"),
        ("(value,", "(vlaue,", "there is no column", "vlaue", "value"),
    ];
    for (right, wrong, message, name, meant) in cases {
        let text = word_count_as("wrong", &[(right, wrong)]);
        let (line, column) = place(&text, name);
        for command in ["check", "run"] {
            let shown = failure(&tidemill(&[command, FILE]).file(FILE, &text), 2);
            let message = format!("error: {message} `{name}`");
            let place = format!("--> {FILE}:{line}:{column}\n");
            let hint = format!("did you mean `{meant}`?");
            for part in [message, place, hint] {
                assert!(shown.contains(&part), "no {part}: {shown}");
            }
        }
    }
}

#[test]
fn a_broker_that_does_not_answer_is_named_with_the_time_waited() {
    let text = word_count_as("nobody", &[("wait: 30s", "wait: 2s")]);
    let app = tidemill(&["run", FILE]).file(FILE, &text);
    let shown = failure(&app.env("KAFKA_BROKERS", NOWHERE).env("TIDEMILL_HTTP", "127.0.0.1:0"), 1);
    let message = one_error(&shown);
    for part in [FILE, NOWHERE, "no broker could be reached", "waited 2s"] {
        assert!(message.contains(part), "no {part}: {message}");
    }
}

#[test]
fn a_stop_that_comes_while_something_is_waited_for_is_no_failure() {
    let text = word_count_as(&unique_name("absent"), &[]);
    for brokers in [NOWHERE, Broker::shared().bootstrap()] {
        let app = tidemill(&["run", FILE]).file(FILE, &text).env("KAFKA_BROKERS", brokers);
        let mut run = app.env("TIDEMILL_HTTP", "127.0.0.1:0").start();
        run.wait_for_stderr("waiting for", LIMIT);
        run.sigterm();
        // One question to a broker may take 5 s; 30 s are waited for the answer.
        assert_eq!(run.wait_exit(Duration::from_secs(20)).code(), Some(0), "{}", run.stderr());
    }
}

#[test]
fn a_topic_that_does_not_exist_is_named_with_its_broker() {
    let broker = Broker::shared();
    let name = unique_name("absent");
    let text = word_count_as(&name, &[("wait: 30s", "wait: 1s")]);
    let message = one_error(&failure(&broker.run(FILE).file(FILE, &text), 1));
    for part in
        ["pipeline.yaml:", &format!("`{name}` does not exist"), broker.bootstrap(), "create it", "waited 1s"]
    {
        assert!(message.contains(part), "no {part}: {message}");
    }
}

#[test]
fn a_taken_http_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let app = tidemill(&["run", FILE]).file(FILE, &word_count_as("port", &[]));
    let message = one_error(&failure(&app.env("KAFKA_BROKERS", NOWHERE).env("TIDEMILL_HTTP", &address), 1));
    for part in [address.as_str(), "`http`", "in use"] {
        assert!(message.contains(part), "no {part}: {message}");
    }
}

#[test]
fn a_checkpoint_has_one_owner_and_goes_with_the_group() {
    let broker = Broker::shared();
    let name = broker.unique_topic("owned", 1);
    broker.produce(&name, ["a b", "a"]);
    let text = word_count_as(&name, &[]);
    let app = broker.run(FILE).file(FILE, &text);
    let mut run = started(&app, 2);

    // A second copy beside the first.
    let message = one_error(&failure(&app, 1));
    for part in ["word-count", "another process has it open"] {
        assert!(message.contains(part), "no {part}: {message}");
    }
    run.stop(LIMIT);

    // Another application with the first one's folder.
    let other = text.replace(&format!("app_id: {name}"), "app_id: other");
    let message = one_error(&failure(&app.clone().file(FILE, &other), 1));
    for part in [format!("belongs to application `{name}`"), "not to `other`".into()] {
        assert!(message.contains(&part), "no {part}: {message}");
    }

    // The application with another folder: it would count again what the group says was counted.
    let moved = app.clone().file(FILE, &text).env("TIDEMILL_DATA", "elsewhere");
    let message = one_error(&failure(&moved, 1));
    let place = format!("{name}-0 at 2");
    let delete = format!("--delete --group {name}");
    for part in [place.as_str(), &delete, "start: committed", "another app_id"] {
        assert!(message.contains(part), "no {part}: {message}");
    }

    // The first way on that the message names.
    broker.produce(&name, ["c"]);
    let committed = text.replace("start: earliest", "start: committed");
    let mut run = started(&moved.file(FILE, &committed), 3);
    run.stop(LIMIT);
    let words: Vec<String> =
        broker.read_counts(&format!("{name}-counts"), "count").into_iter().map(|it| it.word).collect();
    assert_eq!(words.iter().filter(|word| *word == "a").count(), 1, "{words:?}");
    assert!(words.contains(&"c".to_owned()), "{words:?}");
}

#[test]
fn a_second_signal_does_not_wait_for_the_running_batch() {
    let broker = Broker::shared();
    for (number, code) in [(1, 143), (2, 130)] {
        let name = broker.unique_topic(&format!("impatient-{number}"), 1);
        broker.produce(&name, [Record::from("a")]);
        // A batch that never ends.
        let app = broker.run("pipeline.yaml").env("FAILPOINTS", "commit::prepared=pause");
        let mut run = app.file("pipeline.yaml", &word_count_as(&name, &[])).start();
        let http = run.http();
        eventually(LIMIT, "batches that wait for the one that hangs", || {
            let waiting = http.metrics().sum("tidemill_batches_waiting", &[]);
            (waiting >= 2.0).then_some(()).ok_or_else(|| format!("{waiting} batches wait"))
        });
        run.sigterm();
        run.wait_for_stderr("stopping after the running batch", LIMIT);
        if code == 143 {
            run.sigterm()
        } else {
            run.sigint()
        }
        assert_eq!(run.wait_exit(LIMIT).code(), Some(code));
    }
}

/// A run that has read `records` from its topic's one partition.
#[track_caller]
fn started(app: &App, records: u64) -> Run {
    let mut run = app.start();
    run.http().wait_until_read(1, records, LIMIT);
    run
}

/// What the command says on its way to its end with `code`.
#[track_caller]
fn failure(app: &App, code: i32) -> String {
    let mut run = app.start();
    let status = run.wait_exit(LIMIT);
    let shown = run.stderr();
    assert_eq!(status.code(), Some(code), "{shown}");
    for word in ["panic", "backtrace", "fault of Tidemill"] {
        assert!(!shown.contains(word), "{shown}");
    }
    shown
}

/// The one line that is not log.
#[track_caller]
fn one_error(shown: &str) -> String {
    let lines: Vec<&str> = shown.lines().filter(|line| !line.starts_with('{')).collect();
    match lines[..] {
        [line] if line.starts_with("error: ") => line.to_owned(),
        _ => panic!("not one message: {shown}"),
    }
}

/// Line and column of what stands once in a text.
#[track_caller]
fn place(text: &str, part: &str) -> (usize, usize) {
    let at = text.find(part).expect("it was put there");
    let before = &text[..at];
    (before.lines().count(), at - before.rfind('\n').unwrap_or(0))
}
