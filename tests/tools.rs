//! `tidemill state` and `tidemill checkpoint` over checkpoints that programs have made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidemill::testing::TestContext;
use tidemill::{Duration, RddQueue, State, StateSpec, StreamingContext, Time};

const WORDS: [&str; 4] = ["to be or not to be", "that is the question", "", "to sleep to dream"];

/// Runs the binary; gives its exit code, and what it printed to standard output and error.
#[track_caller]
fn run(args: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(args)
        .output()
        .expect("the binary was built for this test");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints UTF-8");
    (status.code().expect("it was not killed"), text(stdout), text(stderr))
}

/// Standard output of a command that must do well.
#[track_caller]
fn done(args: &[&str]) -> String {
    let (code, stdout, stderr) = run(args);
    assert_eq!((code, stderr.as_str()), (0, ""), "{args:?}: {stdout}");
    stdout
}

/// Standard error of a command that must end with `code`.
#[track_caller]
fn refused(code: i32, args: &[&str]) -> String {
    let (found, stdout, stderr) = run(args);
    assert_eq!(found, code, "{args:?}: {stdout}{stderr}");
    stderr
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
}

struct Checkpoint {
    _folder: TempDir,
    path: PathBuf,
}

impl Checkpoint {
    /// That of the words' program, after all batches.
    fn of_words() -> Self {
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("checkpoint");
        words(&path, 4, 0, 3);
        Self { _folder: folder, path }
    }

    fn path(&self) -> &str {
        text(&self.path)
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.path.with_file_name(name)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("it is UTF-8")
}

#[derive(Clone, Serialize, Deserialize)]
struct Seen {
    /// Not in the order of the alphabet.
    total: u64,
    best: f32,
    bytes: Vec<u8>,
}

type Totals = BTreeMap<String, u64>;

/// Runs a program with all kinds of state over the words, from second `from` on for `count` batches; gives the totals
/// that it told last.
fn words(path: &Path, partitions: usize, from: i64, count: usize) -> Totals {
    let s = Duration::seconds;
    let builder = StreamingContext::builder("words").batch_interval(s(1)).worker_threads(2);
    let builder = builder.checkpoint(path).state_partitions(partitions);
    let test = TestContext::from_builder(builder, Time::from_millis(from * 1_000)).unwrap();
    let queue = RddQueue::new();
    WORDS.iter().for_each(|line| queue.push([(*line).to_owned()]));
    let words = test
        .ssc
        .queue_stream(&queue)
        .flat_map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let ones = words.map(|word| (word, 1u64));
    let add = StateSpec::function(|_: &String, n: Option<u64>, state: &mut State<u64>| {
        // Those that time out are not told.
        let total = state.get_option().unwrap_or(&0) + n?;
        state.update(total);
        None::<()>
    });
    let with_timeout = ones.map_with_state(add.timeout(s(100)).initial_state([("hail".to_owned(), 7)]));
    with_timeout.uid("timed").unwrap().foreach_rdd(|_| ());
    let sums =
        ones.update_state_by_key(|new, sum: Option<u64>| Some(sum.unwrap_or(0) + new.iter().sum::<u64>()));
    let totals = test.collect(&sums.uid("totals").unwrap());
    let pairs = words.map(|word| ((word.len() as i64, word.starts_with('t')), 1u64));
    let seen = pairs.update_state_by_key(|new, seen: Option<Seen>| {
        let total = seen.map_or(0, |seen| seen.total) + new.iter().sum::<u64>();
        Some(Seen { total, best: 0.1, bytes: vec![0, 255] })
    });
    seen.uid("seen").unwrap().foreach_rdd(|_| ());
    let windows = ones.reduce_by_key_and_window_with_inverse(|a, b| a + b, |a, b| a - b, s(4), s(2)).unwrap();
    windows.uid("window-sums").unwrap().foreach_rdd(|_| ());
    words.window(s(3), s(1)).unwrap().uid("last").unwrap().foreach_rdd(|_| ());
    test.run(count).expect("no batch fails");
    totals.take().pop().map(|(_, totals)| totals.into_iter().collect()).unwrap_or_default()
}

/// How often each word comes in the first `lines`.
fn truth(lines: usize) -> Totals {
    let mut totals = Totals::new();
    for word in WORDS[..lines].iter().flat_map(|line| line.split_whitespace()) {
        *totals.entry(word.to_owned()).or_default() += 1;
    }
    totals
}

#[test]
fn a_list_shows_every_operator_with_its_types_and_size() {
    let checkpoint = Checkpoint::of_words();
    let shown = done(&["state", "list", "--checkpoint", checkpoint.path()]);
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["UID", "OPERATOR", "KEY", "VALUE", "PARTITIONS", "KEYS", "BYTES"]);
    let uids: Vec<_> = lines[1..].iter().map(|line| line[0]).collect();
    assert_eq!(uids, ["last", "seen", "timed", "totals", "window-sums"]);
    let list: Value = serde_json::from_str(&done(&[
        "state",
        "list",
        "--checkpoint",
        checkpoint.path(),
        "--format",
        "json",
    ]))
    .unwrap();
    let totals = &list[3];
    assert_eq!(totals["operator"], "update_state_by_key");
    assert_eq!(
        (&totals["key_type"], &totals["value_types"]),
        (&json!("alloc::string::String"), &json!(["u64"]))
    );
    // to, be, or, not, that, is, the, question
    assert_eq!((&totals["keys"], &totals["partitions"]), (&json!(8), &json!(4)));
    assert_eq!(list[2]["keys"], 9, "the initial one too");
    assert_eq!((&list[0]["keys"], &list[0]["partitions"]), (&json!(2), &json!(1)), "two batches have words");
    assert_eq!(list[4]["keys"], 8);
}

#[test]
fn get_finds_keys_as_text_and_as_json() {
    let checkpoint = Checkpoint::of_words();
    let get = |uid: &str, key: &str| {
        json_lines(&done(&["state", "get", "--checkpoint", checkpoint.path(), uid, key]))
    };
    assert_eq!(
        (&get("totals", "to")[0]["value"], &get("totals", "\"to\"")[0]["value"]),
        (&json!(2), &json!(2))
    );
    let timed = get("timed", "to");
    assert_eq!(
        (&timed[0]["value"], &timed[0]["touched"], &timed[0]["key"]),
        (&json!(2), &json!(1_000), &json!("to"))
    );
    // The words of two letters that begin with a t.
    assert_eq!(get("seen", "[2,true]")[0]["value"]["total"], 2);
    let sums = get("window-sums", "to");
    assert_eq!(sums[0], json!({"key": "to", "pane": 2_000, "value": 2, "partition": sums[0]["partition"]}));
    assert_eq!(sums[1], json!({"key": "to", "total": 2, "partition": sums[0]["partition"]}));
    let error = refused(1, &["state", "get", "--checkpoint", checkpoint.path(), "totals", "nowhere"]);
    assert!(
        error.contains("`totals`") && error.contains("nowhere") && error.contains(checkpoint.path()),
        "{error}"
    );
    let error = refused(1, &["state", "get", "--checkpoint", checkpoint.path(), "none", "to"]);
    assert!(
        error.contains("has no operator `none`; it has: last, seen, timed, totals, window-sums"),
        "{error}"
    );
}

#[test]
fn scan_shows_keys_up_to_a_limit_and_with_a_prefix() {
    let checkpoint = Checkpoint::of_words();
    let scan = |more: &[&str]| {
        json_lines(&done(&[&["state", "scan", "--checkpoint", checkpoint.path(), "totals"], more].concat()))
    };
    let all: Totals = scan(&[])
        .iter()
        .map(|line| (line["key"].as_str().unwrap().to_owned(), line["value"].as_u64().unwrap()))
        .collect();
    assert_eq!(all, truth(3));
    assert_eq!(scan(&["--limit", "3"]).len(), 3);
    assert_eq!(scan(&["--limit", "0"]).len(), 0);
    let mut keys: Vec<_> = scan(&["--prefix", "th"]).iter().map(|line| line["key"].to_string()).collect();
    keys.sort();
    assert_eq!(keys, ["\"that\"", "\"the\""]);
}

#[test]
fn state_is_exported_and_imported_byte_for_byte() {
    let checkpoint = Checkpoint::of_words();
    let file = checkpoint.beside("state.jsonl");
    done(&["state", "export", "--checkpoint", checkpoint.path(), "--all", "--to", text(&file)]);
    let exported = std::fs::read_to_string(&file).unwrap();
    let raw = |uid: &str| {
        let of_uid = done(&["state", "export", "--checkpoint", checkpoint.path(), uid]);
        json_lines(&of_uid).iter().any(|line| line["kind"] == "entry" && !line["raw"].is_null())
    };
    assert_eq!((raw("totals"), raw("timed"), raw("seen")), (false, false, true), "JSON says what it can");
    // What is there already is refused, and nothing of it is taken.
    let error = refused(1, &["state", "import", "--checkpoint", checkpoint.path(), text(&file)]);
    assert!(error.contains("has an operator `last` already"), "{error}");
    for uid in ["last", "seen", "timed", "totals", "window-sums"] {
        done(&["state", "drop", "--checkpoint", checkpoint.path(), uid, "--execute"]);
    }
    assert_eq!(done(&["state", "list", "--checkpoint", checkpoint.path()]), "no operator has state\n");
    done(&["state", "import", "--checkpoint", checkpoint.path(), text(&file)]);
    assert_eq!(done(&["state", "export", "--checkpoint", checkpoint.path(), "--all"]), exported);
    done(&["checkpoint", "verify", "--checkpoint", checkpoint.path()]);
    assert_eq!(words(&checkpoint.path, 4, 3, 1), truth(4));
    let timed = done(&["state", "get", "--checkpoint", checkpoint.path(), "timed", "hail"]);
    assert_eq!(json_lines(&timed)[0]["value"], 7, "the initial state is not taken again");
}

#[test]
fn what_is_changed_in_an_export_is_imported() {
    let checkpoint = Checkpoint::of_words();
    let file = checkpoint.beside("totals.jsonl");
    let exported = done(&["state", "export", "--checkpoint", checkpoint.path(), "totals"]);
    done(&["state", "drop", "--checkpoint", checkpoint.path(), "totals", "--execute"]);
    let mut lines: Vec<String> = exported.lines().map(str::to_owned).collect();
    let wrong = [&lines[..], &["{\"kind\":\"entry\",\"key\":\"x\"".to_owned()]].concat().join("\n");
    std::fs::write(&file, wrong).unwrap();
    let error = refused(1, &["state", "import", "--checkpoint", checkpoint.path(), text(&file)]);
    assert!(error.contains(&format!("line {}", lines.len() + 1)), "{error}");
    assert!(
        done(&["state", "list", "--checkpoint", checkpoint.path()]).lines().all(|l| !l.starts_with("totals"))
    );
    // A line without its partition goes where it belongs.
    lines.push(json!({"kind": "entry", "key": "sleep", "value": 40}).to_string());
    std::fs::write(&file, lines.join("\n")).unwrap();
    done(&["state", "import", "--checkpoint", checkpoint.path(), text(&file)]);
    let mut expected = truth(4);
    *expected.get_mut("sleep").unwrap() += 40;
    assert_eq!(words(&checkpoint.path, 4, 3, 1), expected);
}

#[test]
fn a_drop_shows_first_what_it_would_do() {
    let checkpoint = Checkpoint::of_words();
    let drop = ["state", "drop", "--checkpoint", checkpoint.path(), "totals"];
    let shown = done(&drop);
    assert!(shown.starts_with("would drop `totals` (update_state_by_key, 8 keys, "), "{shown}");
    assert!(shown.contains("--execute"), "{shown}");
    assert!(done(&["state", "get", "--checkpoint", checkpoint.path(), "totals", "to"]).contains("2"));
    assert!(done(&[&drop[..], &["--execute"]].concat()).starts_with("dropped `totals`"));
    assert!(refused(1, &drop).contains("has no operator `totals`"));
    let without_totals = words(&checkpoint.path, 4, 3, 1);
    assert_eq!(without_totals, Totals::from([("to".into(), 2), ("sleep".into(), 1), ("dream".into(), 1)]));
}

#[test]
fn a_rename_gives_state_another_uid() {
    let checkpoint = Checkpoint::of_words();
    let rename =
        |from: &str, to: &str| run(&["state", "rename", "--checkpoint", checkpoint.path(), from, to]);
    assert_eq!(rename("totals", "sums").0, 0);
    assert!(done(&["state", "get", "--checkpoint", checkpoint.path(), "sums", "to"]).contains("2"));
    assert!(rename("sums", "seen").2.contains("has an operator `seen` already"));
    assert_eq!(rename("sums", "totals").0, 0);
    assert_eq!(words(&checkpoint.path, 4, 3, 1), truth(4));
}

#[test]
fn state_goes_on_in_any_number_of_partitions() {
    for partitions in ["1", "7", "64"] {
        let checkpoint = Checkpoint::of_words();
        let shown = done(&["state", "repartition", "--checkpoint", checkpoint.path(), partitions]);
        assert!(shown.contains(&format!("4 -> {partitions} state partitions")), "{shown}");
        assert!(shown.contains("`last`: kept as it is"), "{shown}");
        done(&["checkpoint", "verify", "--checkpoint", checkpoint.path()]);
        assert_eq!(words(&checkpoint.path, 4, 3, 1), truth(4), "{partitions}");
        let get = |uid: &str, key: &str| {
            json_lines(&done(&["state", "get", "--checkpoint", checkpoint.path(), uid, key]))
        };
        assert_eq!(get("timed", "to")[0]["value"], 4);
        assert_eq!(get("timed", "hail")[0]["value"], 7);
        // At 4 s, the window has all batches.
        assert_eq!(get("window-sums", "to").last().unwrap()["total"], 4);
        assert_eq!(get("window-sums", "be").last().unwrap()["total"], 2);
        // And back, where everything was.
        done(&["state", "repartition", "--checkpoint", checkpoint.path(), "4"]);
        done(&["checkpoint", "verify", "--checkpoint", checkpoint.path()]);
        let again = Checkpoint::of_words();
        words(&again.path, 4, 3, 1);
        // But for when each partition was shown last, which is now the same for all.
        let export = |path| -> Vec<_> {
            let lines = json_lines(&done(&["state", "export", "--checkpoint", path, "--all"]));
            lines.into_iter().filter(|line| line["kind"] != "emitted").collect()
        };
        assert_eq!(export(checkpoint.path()), export(again.path()), "{partitions}");
    }
}

#[test]
fn a_repartitioning_that_is_killed_has_happened_as_a_whole_or_not_at_all() {
    for (step, partitions) in [("state::spread", 4), ("state::switched", 8)] {
        let checkpoint = Checkpoint::of_words();
        let killed = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .args(["state", "repartition", "--checkpoint", checkpoint.path(), "8"])
            .env("FAILPOINTS", format!("{step}=return"))
            .output()
            .unwrap();
        assert_eq!(killed.status.code(), None, "{step}: it was not killed");
        done(&["checkpoint", "verify", "--checkpoint", checkpoint.path()]);
        let shown = done(&["checkpoint", "show", "--checkpoint", checkpoint.path(), "--format", "json"]);
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(shown["state_partitions"], partitions, "{step}");
        assert_eq!(words(&checkpoint.path, 4, 3, 1), truth(4), "{step}");
        // What it left behind is in nobody's way.
        done(&["state", "repartition", "--checkpoint", checkpoint.path(), "8"]);
        done(&["checkpoint", "verify", "--checkpoint", checkpoint.path()]);
        assert_eq!(words(&checkpoint.path, 4, 4, 1), truth(4), "{step}");
    }
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
struct Place {
    town: String,
    house: u32,
}

#[test]
fn keys_whose_partition_only_the_program_knows_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    {
        let builder = StreamingContext::builder("places").checkpoint(&path).state_partitions(4);
        let test = TestContext::from_builder(builder, Time::ZERO).unwrap();
        let queue = RddQueue::new();
        queue.push([(Place { town: "York".into(), house: 1 }, 1u64)]);
        let sums =
            test.ssc.queue_stream(&queue).update_state_by_key(|new, _: Option<u64>| new.last().copied());
        sums.uid("places").unwrap().foreach_rdd(|_| ());
        test.run(1).unwrap();
    }
    let error = refused(1, &["state", "repartition", "--checkpoint", text(&path), "8"]);
    assert!(error.contains("operator `places`") && error.contains("York"), "{error}");
    assert!(error.contains("named members, whose order in the program decides"), "{error}");
    let shown = done(&["checkpoint", "show", "--checkpoint", text(&path), "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["state_partitions"], 4);
    done(&["checkpoint", "verify", "--checkpoint", text(&path)]);
}

#[test]
fn a_backup_is_restored_where_nothing_is() {
    let checkpoint = Checkpoint::of_words();
    let (backup, restored) = (checkpoint.beside("backups/monday"), checkpoint.beside("restored"));
    let shown = done(&["state", "backup", "--checkpoint", checkpoint.path(), text(&backup)]);
    assert!(shown.ends_with("as batch 3000 ms left it\n"), "{shown}");
    assert_eq!(words(&checkpoint.path, 4, 3, 1), truth(4));
    let error = refused(1, &["state", "restore", "--checkpoint", checkpoint.path(), text(&backup)]);
    assert!(error.contains("is not empty"), "{error}");
    let error = refused(1, &["state", "backup", "--checkpoint", checkpoint.path(), text(&backup)]);
    assert!(error.contains("is there already"), "{error}");
    std::fs::create_dir(&restored).unwrap();
    done(&["state", "restore", "--checkpoint", text(&restored), text(&backup)]);
    assert_eq!(words(&restored, 4, 3, 1), truth(4));
    // The backup is still one.
    let again = checkpoint.beside("again");
    done(&["state", "restore", "--checkpoint", text(&again), text(&backup)]);
    assert_eq!(words(&again, 4, 3, 1), truth(4));
}

#[test]
fn a_damaged_backup_is_not_restored() {
    let checkpoint = Checkpoint::of_words();
    let (backup, restored) = (checkpoint.beside("backup"), checkpoint.beside("restored"));
    done(&["state", "backup", "--checkpoint", checkpoint.path(), text(&backup)]);
    flip_a_byte_of_a_table(&backup);
    let error = refused(1, &["state", "restore", "--checkpoint", text(&restored), text(&backup)]);
    assert!(error.contains("is damaged"), "{error}");
    assert!(!restored.exists());
    let (code, shown, _) = run(&["checkpoint", "verify", "--checkpoint", text(&backup)]);
    assert_eq!(code, 1);
    assert!(shown.contains("Corruption"), "{shown}");
}

/// In the first block, which has records.
fn flip_a_byte_of_a_table(folder: &Path) {
    let is_table = |path: &PathBuf| path.extension().is_some_and(|e| e == "sst");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let table = files.filter(is_table).max_by_key(|path| path.metadata().unwrap().len()).expect("a table");
    let mut bytes = std::fs::read(&table).unwrap();
    bytes[20] ^= 1;
    let _ = std::fs::remove_file(&table);
    std::fs::write(&table, bytes).unwrap();
}

#[test]
fn what_is_written_while_a_program_runs_can_be_looked_at_and_not_changed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    let builder = StreamingContext::builder("words").checkpoint(&path).state_partitions(4);
    let test = TestContext::from_builder(builder, Time::ZERO).unwrap();
    let queue = RddQueue::new();
    queue.push([("a".to_owned(), 1u64)]);
    let sums = test.ssc.queue_stream(&queue).update_state_by_key(|new, _: Option<u64>| new.last().copied());
    sums.uid("totals").unwrap().foreach_rdd(|_| ());
    test.ssc.start().unwrap();
    test.step().unwrap();
    let on = ["--checkpoint", text(&path)];
    let found = done(&[&["state", "get"][..], &on, &["totals", "a"]].concat());
    assert_eq!(json_lines(&found)[0]["value"], 1);
    done(&[&["checkpoint", "show"][..], &on].concat());
    done(&[&["checkpoint", "verify"][..], &on].concat());
    let changes: [&[&str]; 3] =
        [&["drop", "totals", "--execute"], &["rename", "totals", "sums"], &["repartition", "8"]];
    for change in changes {
        let error = refused(1, &[&["state"][..], change, &on].concat());
        assert!(error.contains("another process has it open: stop that one"), "{change:?}: {error}");
    }
    let backup = folder.path().join("backup");
    let error = refused(1, &[&["state", "backup", text(&backup)][..], &on].concat());
    assert!(error.contains("--http ADDRESS"), "{error}");
    test.step().unwrap();
}

#[test]
fn show_tells_where_a_checkpoint_stands() {
    let checkpoint = Checkpoint::of_words();
    let shown = done(&["checkpoint", "show", "--checkpoint", checkpoint.path()]);
    let facts = |name: &str| {
        let line = shown.lines().find(|line| line.starts_with(name)).expect("the fact is told");
        line[name.len()..].trim().to_owned()
    };
    assert_eq!(facts("application"), "words");
    assert_eq!(facts("last committed batch"), "3000 ms");
    assert_eq!(facts("unfinished batch"), "none");
    assert_eq!(facts("prepared batch"), "none");
    assert!(facts("queue_stream-1").ends_with('3'), "{shown}");
    let shown = done(&["checkpoint", "show", "--checkpoint", checkpoint.path(), "--format", "json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["app_id"], &shown["committed"]["batch"]), (&json!("words"), &json!(3_000)));
    assert_eq!(shown["unfinished"], Value::Null);
    assert_eq!(shown["operators"].as_array().unwrap().len(), 5);
}

#[test]
fn wrong_words_and_folders_are_told() {
    let nothing = tempfile::tempdir().unwrap();
    let folder = text(nothing.path());
    let error = refused(1, &["state", "list", "--checkpoint", folder]);
    assert_eq!(error, format!("error: there is no checkpoint in {folder}\n"));
    assert!(
        refused(1, &["state", "drop", "--checkpoint", folder, "a", "--execute"]).contains("no checkpoint")
    );
    assert_eq!(std::fs::read_dir(nothing.path()).unwrap().count(), 0, "nothing was made");
    assert!(refused(2, &["state", "get", "--checkpoint", folder, "a"]).contains("UID KEY"));
    assert!(refused(2, &["state", "list"]).contains("FILE or `--checkpoint DIR`"));
    assert!(refused(2, &["state", "list", "no-such-file.yaml"]).contains("cannot read the pipeline file"));
    assert!(refused(1, &["checkpoint", "show", "--checkpoint", folder]).contains("no checkpoint"));
}

/// A pipeline with these streams, over a checkpoint that a program of the same types has made.
fn pipeline(folder: &Path, app_id: &str, more: &str, streams: &str) -> PathBuf {
    let file = folder.join("pipeline.yaml");
    let text = format!(
        "app_id: {app_id}\nbatch_interval: 1s\ndelivery: exactly-once\ncheckpoint: {}\n{more}\nsources:\n  lines:\n    kafka: \
         {{ brokers: \"localhost:9092\", topics: [lines] }}\n    format: text\nstreams:\n{streams}\noutputs:\n  - {{ from: \
         totals, console: {{}} }}\n",
        folder.join("checkpoint").display()
    );
    std::fs::write(&file, text).unwrap();
    file
}

const TOTALS: &str =
    "  totals:\n    map_with_state: { from: lines, key: [value], state: { n: \"count(*)\" }, uid: UID }";

/// State as the pipeline above has it under `words`.
const EXPORT: &str = r#"{"tidemill_state":1,"uid":"words","operator":"map_with_state","key_type":"value text","value_types":["count bigint"],"partitions":4,"state_partitions":4}
{"kind":"entry","time":1000,"key":"to","value":2}
"#;

#[test]
fn diff_tells_what_becomes_of_the_state_and_whether_a_start_would_work() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint");
    {
        let builder = StreamingContext::builder("app").checkpoint(&path).state_partitions(4);
        let test = TestContext::from_builder(builder, Time::ZERO).unwrap();
        test.ssc.queue_stream(&RddQueue::<u64>::new()).foreach_rdd(|_| ());
        test.run(1).unwrap();
    }
    let diff = |app_id: &str, more: &str, uid: &str| {
        let file = pipeline(folder.path(), app_id, more, &TOTALS.replace("UID", uid));
        let (code, stdout, stderr) = run(&["checkpoint", "diff", text(&file), "--format", "json"]);
        assert_eq!(stderr, "");
        (code, serde_json::from_str::<Value>(&stdout).expect("it is JSON"))
    };
    let nowhere = tempfile::tempdir().unwrap();
    let file = pipeline(nowhere.path(), "app", "", &TOTALS.replace("UID", "words"));
    let shown = done(&["checkpoint", "diff", text(&file)]);
    assert!(shown.contains("there is no checkpoint yet"), "{shown}");
    assert!(shown.ends_with("a start begins anew\n"), "{shown}");
    let elsewhere = ["checkpoint", "diff", text(&file), "--checkpoint", text(nowhere.path())];
    assert!(refused(1, &elsewhere).contains("there is no checkpoint in"));
    let (code, found) = diff("app", "", "words");
    assert_eq!(
        (code, &found["new"], &found["inputs"]["new"]),
        (0, &json!(["words"]), &json!(["kafka:lines"]))
    );
    // The types that such a stream has are told by what an error says of it.
    let export = folder.path().join("export.jsonl");
    std::fs::write(&export, EXPORT.replace("value text", "another")).unwrap();
    done(&["state", "import", "--checkpoint", text(&path), text(&export)]);
    let (code, found) = diff("app", "", "words");
    assert_eq!((code, &found["refused"]), (1, &json!(["words"])));
    let error = found["errors"][0].as_str().unwrap().to_owned();
    let types = error.split(" is a map_with_state from ").nth(1).and_then(|rest| rest.split(", but").next());
    let (key, value) = types.and_then(|types| types.split_once(" to ")).expect("the types are told");
    done(&["state", "drop", "--checkpoint", text(&path), "words", "--execute"]);
    std::fs::write(&export, EXPORT.replace("value text", key).replace("count bigint", value)).unwrap();
    done(&["state", "import", "--checkpoint", text(&path), text(&export)]);

    let (code, found) = diff("app", "", "words");
    assert_eq!((code, &found["kept"], &found["starts"]), (0, &json!(["words"]), &json!(true)));
    let (code, found) = diff("app", "", "other");
    assert_eq!((code, &found["orphaned"], &found["new"]), (1, &json!(["words"]), &json!(["other"])));
    assert!(found["errors"][0].as_str().unwrap().contains("remove_state: [words]"), "{found}");
    let (code, found) = diff("app", "", "other, was: words");
    assert_eq!((code, &found["renamed"]), (0, &json!([{"from": "words", "to": "other"}])));
    let (code, found) = diff("app", "remove_state: [words]", "other");
    assert_eq!((code, &found["removed"]), (0, &json!(["words"])));
    let (code, found) = diff("another", "", "words");
    assert_eq!(code, 1);
    assert!(found["errors"][0].as_str().unwrap().contains("belongs to application `app`"), "{found}");
    // For people, and by a pipeline file.
    let file = pipeline(folder.path(), "app", "", &TOTALS.replace("UID", "other"));
    let (code, shown, _) = run(&["checkpoint", "diff", text(&file)]);
    assert_eq!(code, 1);
    assert!(shown.contains("orphaned  words") && shown.ends_with("a start is refused\n"), "{shown}");
    assert_eq!(json_lines(&done(&["state", "get", text(&file), "words", "to"]))[0]["value"], 2);
    let file = pipeline(folder.path(), "app", "", "  totals: { windows: {} }");
    assert!(refused(2, &["checkpoint", "diff", text(&file)]).contains("unknown operator"));
}
