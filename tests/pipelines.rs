//! Pipelines of tests, with hand-worked cases and files.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::Running;

#[test]
fn every_operator_gives_what_its_cases_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pipelines");
    for pipeline in ["operators.yaml", "states.yaml", "unions.yaml"] {
        let output = Command::new(env!("CARGO_BIN_EXE_tidemill"))
            .args(["test", pipeline])
            .current_dir(&folder)
            .output()
            .expect("the binary was built for this test");
        let shown =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{shown}");
    }
}

const SOURCE: &str = "
sources:
  orders:
    files: { folder: in }
    format: json
    schema: { id: bigint, what: text, price: double, at: timestamp, paid: boolean, tags: \"text[]\" }
";

const ORDERS: &str = r#"{"id":1,"what":"tea, green","price":2.5,"at":"2026-03-01T12:00:00.25Z","paid":true,"tags":["hot","new"]}
{"id":2,"what":"a \"cup\"","price":-0.125,"at":"1969-12-31T23:59:59Z","paid":false,"tags":[]}
{"id":3,"what":null,"price":1e21,"at":null,"paid":null,"tags":null}
"#;

/// A folder whose `in` has the orders.
fn orders() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("there is room");
    fs::create_dir(folder.path().join("in")).expect("there is room");
    fs::write(folder.path().join("in/orders.jsonl"), ORDERS).expect("there is room");
    folder
}

#[test]
fn files_have_what_their_formats_say() {
    let folder = orders();
    let pipeline = format!(
        "{SOURCE}
streams:
  flat: {{ sql: \"select id, what, price, at, paid from orders order by id\" }}
  words: {{ sql: \"select coalesce(what, '-') as word from orders order by id\" }}
  none: {{ filter: {{ from: flat, where: \"id > 3\" }} }}
outputs:
  - {{ from: words, files: {{ path: as-text, format: text }} }}
  - {{ from: orders, files: {{ path: as-json, format: json }} }}
  - {{ from: flat, files: {{ path: as-csv, format: csv }} }}
  - {{ from: orders, files: {{ path: as-parquet, format: parquet }} }}
  - {{ from: none, files: {{ path: as-nothing, format: csv }} }}
"
    );
    let parquet = {
        let mut running = Running::start(folder.path(), "writes", &pipeline);
        let text = fs::read_to_string(running.written("as-text")).expect("it can be read");
        assert_eq!(text, "tea, green\na \"cup\"\n-\n");
        let json = fs::read_to_string(running.written("as-json")).expect("it can be read");
        assert_eq!(
            json,
            r#"{"id":1,"what":"tea, green","price":2.5,"at":"2026-03-01T12:00:00.250Z","paid":true,"tags":["hot","new"]}
{"id":2,"what":"a \"cup\"","price":-0.125,"at":"1969-12-31T23:59:59Z","paid":false,"tags":[]}
{"id":3,"what":null,"price":1.0e21,"at":null,"paid":null,"tags":null}
"#
        );
        let csv = fs::read_to_string(running.written("as-csv")).expect("it can be read");
        assert_eq!(
            csv,
            "id,what,price,at,paid\n1,\"tea, green\",2.5,2026-03-01T12:00:00.250Z,true\n2,\"a \"\"cup\"\"\",-0.125,\
             1969-12-31T23:59:59Z,false\n3,,1e21,,\n"
        );
        let parquet = running.written("as-parquet");
        let names = fs::read_dir(folder.path()).expect("it is there").flatten();
        assert!(names.into_iter().all(|entry| !entry.file_name().to_string_lossy().contains("as-nothing")));
        parquet
    };
    // What was written as Parquet is read back as a table, all types and NULLs as they were.
    fs::rename(parquet, folder.path().join("orders.parquet")).expect("it is one disk");
    let pipeline = format!(
        "{SOURCE}
tables:
  before: {{ parquet: orders.parquet }}
streams:
  joined:
    sql: \"select o.id, b.what, b.price, b.at, b.paid, b.tags from orders o join before b on o.id = b.id order by o.id\"
outputs:
  - {{ from: joined, files: {{ path: again, format: json }} }}
"
    );
    let mut running = Running::start(folder.path(), "reads", &pipeline);
    let again = fs::read_to_string(running.written("again")).expect("it can be read");
    assert_eq!(again.replace(".250Z", ".25Z").replace("1.0e21", "1e21"), ORDERS);
}

#[test]
fn tables_of_all_formats_are_joined() {
    let folder = orders();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("there is room");
    write("names.csv", "id,name\n1,ann\n2,\"bob, the 2nd\"\n");
    write("cities.jsonl", "{\"id\":3,\"city\":\"Rome\"}\n{\"city\":\"Oslo\",\"id\":1}\n");
    let pipeline = format!(
        "{SOURCE}
tables:
  names: {{ csv: names.csv, schema: {{ id: bigint, name: text }} }}
  cities: {{ json: cities.jsonl, schema: {{ id: bigint, city: text }} }}
streams:
  ids: {{ map: {{ from: orders, select: {{ id: id }} }} }}
  named: {{ left_outer_join: {{ left: ids, right: names, on: [id] }} }}
  placed:
    sql: \"select n.id, n.name, c.city from named n left join cities c on n.id = c.id order by n.id\"
outputs:
  - {{ from: placed, files: {{ path: placed, format: csv }} }}
"
    );
    let mut running = Running::start(folder.path(), "tables", &pipeline);
    let csv = fs::read_to_string(running.written("placed")).expect("it can be read");
    assert_eq!(csv, "id,name,city\n1,ann,Oslo\n2,\"bob, the 2nd\",\n3,,Rome\n");
}

#[test]
fn the_terminal_shows_the_first_rows_of_all_partitions() {
    let folder = tempfile::tempdir().expect("there is room");
    fs::create_dir(folder.path().join("in")).expect("there is room");
    fs::write(folder.path().join("in/0.txt"), "one\ntwo\n").expect("there is room");
    fs::write(folder.path().join("in/1.txt"), "three\nfour\nfive\n").expect("there is room");
    let pipeline = "app_id: shows\nbatch_interval: 100ms\ndelivery: at-least-once\ncheckpoint: data\nsources:\n  \
                    lines: { files: { folder: in }, format: text }\nstreams:\n  long: { map: { from: lines, select: { word: value } } }\n\
                    outputs:\n  - { from: long, console: { rows: 3 } }\n";
    fs::write(folder.path().join("shows.yaml"), pipeline).expect("there is room");
    let mut process = Command::new(env!("CARGO_BIN_EXE_tidemill"))
        .args(["run", "shows.yaml"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary was built for this test");
    let lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
    let mut shown: Vec<String> = Vec::new();
    for line in lines {
        let line = line.expect("it prints UTF-8");
        let is_last = line.contains("more row");
        // Batches without rows have a line with their time alone.
        if line.starts_with("Time: ") {
            shown.clear();
        } else if !line.is_empty() {
            shown.push(line);
        }
        if is_last {
            break;
        }
    }
    process.kill().expect("it runs");
    process.wait().expect("it was killed");
    let expected =
        "+-------+\n| word  |\n+-------+\n| one   |\n| two   |\n| three |\n+-------+\n(2 more rows)";
    assert_eq!(shown.join("\n"), expected);
}
