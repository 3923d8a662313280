//! RDDs as views, and SQL over them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tidemill::testing::{TestContext, run_batches};
use tidemill::{ErrorKind, RddQueue, Result, SqlSession};

/// A session, with the context that it belongs to.
fn session() -> SqlSession {
    TestContext::new("sql").unwrap().ssc.sql_session()
}

fn texts<const N: usize>(texts: [&str; N]) -> [String; N] {
    texts.map(str::to_owned)
}

/// Runs `each` over every batch, inside `foreach_rdd`, and gives what it gave.
fn over<T: tidemill::Data, R: Send + 'static>(
    batches: Vec<Vec<T>>,
    each: impl Fn(&SqlSession, tidemill::Rdd<T>) -> Result<R> + Send + Sync + 'static,
) -> Result<Vec<R>> {
    let test = TestContext::new("sql")?;
    let queue = RddQueue::new();
    let count = batches.len();
    // In two partitions, so that the order of the rows is the order of the partitions.
    for batch in batches {
        let (first, second) = batch.split_at(batch.len() / 2);
        queue.push_partitions([first.to_vec(), second.to_vec()]);
    }
    let results = Arc::new(Mutex::new(Vec::new()));
    let (session, into) = (test.ssc.sql_session(), results.clone());
    test.ssc.queue_stream(&queue).foreach_rdd(move |rdd| {
        let result = each(&session, rdd)?;
        into.lock().push(result);
        Ok(())
    });
    test.run(count)?;
    Ok(std::mem::take(&mut results.lock()))
}

#[test]
fn each_batch_is_its_own_table() {
    let batches = vec![
        texts(["to", "be", "or", "not", "to", "be"]).to_vec(),
        vec![],
        texts(["that", "is", "the", "question", "is", "it"]).to_vec(),
    ];
    let tables = over(batches, |session, rdd| {
        rdd.create_or_replace_temp_view_with(session, "words", &["word"])?;
        session
            .sql("select word, count(*) as total from words group by word order by total desc, word limit 2")?
            .show_string(20)
    });
    let first = "\
+----+-----+
|word|total|
+----+-----+
|  be|    2|
|  to|    2|
+----+-----+

";
    let empty = "\
+----+-----+
|word|total|
+----+-----+
+----+-----+

";
    let last = "\
+----+-----+
|word|total|
+----+-----+
|  is|    2|
|  it|    1|
+----+-----+

";
    assert_eq!(tables.unwrap(), [first, empty, last]);
}

#[test]
fn an_aggregate_over_an_empty_batch_has_its_row() {
    let sums = over(vec![vec![1, 2, 3], vec![], vec![i64::MIN]], |session, rdd| {
        rdd.create_or_replace_temp_view(session, "numbers")?;
        session.sql("select count(*) as n, sum(value) as s from numbers")?.collect::<(u64, Option<i64>)>()
    });
    assert_eq!(sums.unwrap(), [[(3, Some(6))], [(0, None)], [(1, Some(i64::MIN))]]);
}

#[test]
fn rows_without_an_order_stand_as_they_came() {
    let rows = over(vec![vec![5, 3, 9, 1], vec![]], |session, rdd| {
        rdd.create_or_replace_temp_view(session, "numbers")?;
        session.sql("select value from numbers where value > 2")?.collect::<i32>()
    });
    assert_eq!(rows.unwrap(), [vec![5, 3, 9], vec![]]);
}

#[test]
fn views_can_be_joined_with_each_other_and_with_tables_that_stay() {
    let names = [("a", "Ann"), ("b", "Bob")].map(|(id, name)| (id.to_owned(), name.to_owned()));
    let batches = vec![vec![('a', 1_i64), ('c', 7), ('a', 2)], vec![], vec![('b', 5)]];
    let rows = over(batches, move |session, rdd| {
        session
            .create_data_frame_with(names.clone(), &["id", "name"])?
            .create_or_replace_temp_view("users")?;
        rdd.map(|(id, n)| (id.to_string(), n)).create_or_replace_temp_view_with(
            session,
            "clicks",
            &["id", "n"],
        )?;
        let totals = session.sql("select id, sum(n) as n from clicks group by id")?;
        totals.create_or_replace_temp_view("totals")?;
        let joined = "select name, t.n, count(*) as clicks from users u join totals t on u.id = t.id \
                      join clicks c on c.id = u.id group by name, t.n";
        let left = "select c.id, name from clicks c left join users u on u.id = c.id order by c.id, c.n";
        Ok((session.sql(joined)?.to_json()?, session.sql(left)?.collect::<(String, Option<String>)>()?))
    });
    let pair = |id: &str, name: Option<&str>| (id.to_owned(), name.map(str::to_owned));
    let first = vec![r#"{"name":"Ann","n":3,"clicks":2}"#.to_owned()];
    let last = vec![r#"{"name":"Bob","n":5,"clicks":1}"#.to_owned()];
    assert_eq!(
        rows.unwrap(),
        [
            (first, vec![pair("a", Some("Ann")), pair("a", Some("Ann")), pair("c", None)]),
            (vec![], vec![]),
            (last, vec![pair("b", Some("Bob"))]),
        ]
    );
}

#[test]
fn a_stream_goes_on_with_what_sql_gives() {
    let batches = vec![vec![('a', 1), ('b', 2), ('a', 3)], vec![], vec![('b', -2), ('a', 1)]];
    let batches: Vec<Vec<_>> = batches
        .into_iter()
        .map(|batch| batch.into_iter().map(|(key, n)| (String::from(key), n)).collect())
        .collect();
    let out = run_batches(batches, |pairs| {
        pairs
            .sql::<(String, i64)>("pairs", "select _1, sum(_2) as n from pairs group by _1 order by _1")
            .update_state_by_key(|new: Vec<i64>, state: Option<i64>| {
                Some(state.unwrap_or(0) + new.iter().sum::<i64>())
            })
            .map(|(key, total)| format!("{key}{total}"))
    });
    let mut out = out.unwrap();
    out.iter_mut().for_each(|batch| batch.sort());
    assert_eq!(out, [["a4", "b2"], ["a4", "b2"], ["a5", "b0"]]);
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Level {
    Low,
    High,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Place {
    city: String,
    at: (f64, f64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reading {
    sensor: String,
    id: u64,
    small: i8,
    celsius: Option<f64>,
    ratio: f32,
    on: bool,
    level: Level,
    tags: Vec<String>,
    #[serde(rename = "where")]
    place: Option<Place>,
    counts: BTreeMap<String, i64>,
    letter: char,
}

fn readings() -> Vec<Reading> {
    let full = Reading {
        sensor: "kitchen".to_owned(),
        id: u64::MAX,
        small: -8,
        celsius: Some(21.5),
        ratio: 0.25,
        on: true,
        level: Level::High,
        tags: texts(["warm", "größer"]).to_vec(),
        place: Some(Place { city: "Oslo".to_owned(), at: (59.9, 10.75) }),
        counts: BTreeMap::from([("a".to_owned(), 1), ("b".to_owned(), 2)]),
        letter: 'ß',
    };
    let bare = Reading {
        sensor: String::new(),
        id: 0,
        celsius: None,
        level: Level::Low,
        tags: vec![],
        place: None,
        counts: BTreeMap::new(),
        ..full.clone()
    };
    vec![full, bare]
}

#[test]
fn every_type_comes_back_as_it_was() {
    let session = session();
    session.create_data_frame(readings()).unwrap().create_or_replace_temp_view("readings").unwrap();
    let all = session.sql("select * from readings").unwrap();
    assert_eq!(all.collect::<Reading>().unwrap(), readings());
    assert_eq!(session.table("readings").unwrap().collect::<Reading>().unwrap(), readings());

    // Over shuffled columns, too: a struct is read by name.
    let turned = "select letter, counts, \"where\", tags, level, \"on\", ratio, celsius, small, id, sensor from readings";
    assert_eq!(session.sql(turned).unwrap().collect::<Reading>().unwrap(), readings());

    let columns = all.schema();
    let columns: Vec<_> =
        columns.iter().map(|c| (c.name.as_str(), c.data_type.as_str(), c.nullable)).collect();
    assert_eq!(columns[0], ("sensor", "text", false));
    assert_eq!(columns[3], ("celsius", "double", true));
    assert_eq!(columns[4], ("ratio", "real", false));
    assert_eq!(columns[5], ("on", "boolean", false));
    assert_eq!(columns[6], ("level", "text", false));
    assert_eq!(columns[7], ("tags", "text[]", false));
    assert_eq!((columns[8].0, columns[8].2), ("where", true));
}

#[test]
fn sql_looks_into_every_type() {
    let session = session();
    session.create_data_frame(readings()).unwrap().create_or_replace_temp_view("readings").unwrap();
    let row =
        |sql: &str| session.sql(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).to_json().unwrap();
    assert_eq!(row("select sensor from readings where level = 'High'"), [r#"{"sensor":"kitchen"}"#]);
    assert_eq!(row("select unnest(tags) as tag from readings"), [r#"{"tag":"warm"}"#, r#"{"tag":"größer"}"#]);
    assert_eq!(
        row(
            "select \"where\"['city'] as city, \"where\"['at']['_2'] as east from readings where celsius is not null"
        ),
        [r#"{"city":"Oslo","east":10.75}"#]
    );
    assert_eq!(row("select count(*) as n from readings where \"where\" is null"), [r#"{"n":1}"#]);
    assert_eq!(
        row("select sum(small) as s, max(id) as id from readings"),
        [r#"{"s":-16,"id":18446744073709551615}"#]
    );
}

#[test]
fn plain_values_tuples_and_arrays_have_sparks_column_names() {
    let session = session();
    let names = |columns: Vec<tidemill::SqlColumn>| {
        columns.into_iter().map(|column| format!("{} {}", column.name, column.data_type)).collect::<Vec<_>>()
    };
    // No rows at all: the columns come from the types.
    assert_eq!(names(session.create_data_frame::<String>([]).unwrap().schema()), ["value text"]);
    assert_eq!(names(session.create_data_frame::<Option<i64>>([]).unwrap().schema()), ["value bigint"]);
    assert_eq!(names(session.create_data_frame::<Vec<i32>>([]).unwrap().schema()), ["value int[]"]);
    assert_eq!(
        names(session.create_data_frame::<(String, i64, bool)>([]).unwrap().schema()),
        ["_1 text", "_2 bigint", "_3 boolean"]
    );
    assert_eq!(
        names(session.create_data_frame::<[f64; 2]>([]).unwrap().schema()),
        ["_1 double", "_2 double"]
    );

    let rows = [Some(1_i64), None];
    let optional = session.create_data_frame(rows).unwrap();
    assert_eq!(optional.collect::<Option<i64>>().unwrap(), rows);
    let lists = session.create_data_frame([vec![1, 2], vec![]]).unwrap();
    assert_eq!(lists.collect::<Vec<i32>>().unwrap(), [vec![1, 2], vec![]]);
    let nested = [((1_i64, "a".to_owned()), [0.5, 1.5])];
    assert_eq!(
        session.create_data_frame(nested.clone()).unwrap().collect::<((i64, String), [f64; 2])>().unwrap(),
        nested
    );
    let maps = [HashMap::from([("k".to_owned(), 1_i64)])];
    assert_eq!(
        session.create_data_frame(maps.clone()).unwrap().collect::<HashMap<String, i64>>().unwrap(),
        maps
    );
}

#[test]
fn rows_can_be_read_without_a_type_of_ones_own() {
    let session = session();
    let frame = session.create_data_frame_with([("a".to_owned(), 1_i64)], &["k", "n"]).unwrap();
    let row = serde_json::json!({"k": "a", "n": 1});
    assert_eq!(frame.collect::<serde_json::Value>().unwrap(), [row]);
    session
        .create_data_frame_with([(1_i64, 2_i64)], &["x", "y"])
        .unwrap()
        .create_or_replace_temp_view("t")
        .unwrap();
    let rows = session.sql("select * from t").unwrap().collect::<HashMap<String, i64>>().unwrap();
    assert_eq!(rows, [HashMap::from([("x".to_owned(), 1), ("y".to_owned(), 2)])]);
}

#[test]
fn the_session_is_the_same_each_time_and_each_context_has_its_own() {
    let (one, two) = (TestContext::new("one").unwrap(), TestContext::new("two").unwrap());
    one.ssc.sql_session().create_data_frame([1]).unwrap().create_or_replace_temp_view("t").unwrap();
    assert_eq!(one.ssc.clone().sql_session().temp_views(), ["t"]);
    assert!(two.ssc.sql_session().temp_views().is_empty());
}

#[test]
fn a_result_stays_when_its_view_is_replaced_or_dropped() {
    let session = session();
    let view = |rows: &[i64]| {
        session.create_data_frame(rows.to_vec()).unwrap().create_or_replace_temp_view("t").unwrap();
    };
    let sum = || session.sql("select sum(value) as s from t").unwrap();
    view(&[1, 2]);
    let before = sum();
    view(&[10]);
    assert_eq!((before.collect::<i64>().unwrap(), sum().collect::<i64>().unwrap()), (vec![3], vec![10]));
    // Other columns under the same name: the query is planned anew.
    session.create_data_frame([0.5, 0.25]).unwrap().create_or_replace_temp_view("t").unwrap();
    assert_eq!(sum().collect::<f64>().unwrap(), [0.75]);
    assert!(session.drop_temp_view("t"));
    let error = session.sql("select sum(value) as s from t").unwrap_err();
    assert!(error.to_string().contains("there is no view `t`"), "{error}");
    assert_eq!(before.collect::<i64>().unwrap(), [3]);
}

#[test]
fn the_rdd_runs_once_per_view_however_many_queries_read_it() {
    let calls = Arc::new(Mutex::new(0));
    let seen = calls.clone();
    let counts = over(vec![vec![1, 2, 3], vec![]], move |session, rdd| {
        let calls = calls.clone();
        let counted = rdd.map(move |n| {
            *calls.lock() += 1;
            n
        });
        counted.create_or_replace_temp_view(session, "t")?;
        let count = || session.sql("select count(*) as n from t")?.collect::<u64>();
        Ok((count()?, count()?))
    });
    assert_eq!(counts.unwrap(), [(vec![3], vec![3]), (vec![0], vec![0])]);
    assert_eq!(*seen.lock(), 3);
}

#[test]
fn what_is_wrong_with_a_query_is_told_with_what_would_be_right() {
    let session = session();
    session
        .create_data_frame_with([("a".to_owned(), 1)], &["word", "n"])
        .unwrap()
        .create_or_replace_temp_view("words")
        .unwrap();
    let wrong = |sql: &str, expected: &[&str]| {
        let error = session.sql(sql).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{sql}: {error}");
        let text = error.to_string();
        for part in expected {
            assert!(text.contains(part), "{sql}: {text}");
        }
    };
    wrong("select wrd from words", &["there is no column `wrd` (line 1, column 8)", "did you mean `word`?"]);
    wrong("select word\nfrom wordz", &["there is no view `wordz` (line 2, column 6)", "the views are words"]);
    wrong("selec word from words", &["sql `selec word from words`:", "(line 1, column 1)"]);
    wrong("", &["there is no SQL here"]);
    wrong("drop table words", &["only a `select`", "create_or_replace_temp_view"]);
    wrong("select 1 as a; select 2 as b", &["more than one statement", "one after the other"]);
    wrong("select now() as t", &["gives another value each time"]);
    wrong("select a.n, b.n from words a join words b on a.word = b.word", &["two columns are called `n`"]);
    wrong("select a.n from words a join words b on n = 1", &["in more than one of the views"]);
    let error = session.sql("select 1 / (n - 1) as x from words").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error}");
    assert!(error.to_string().starts_with("sql `select 1 / (n - 1) as x from words`: "), "{error}");
    assert_eq!(session.table("word").unwrap_err().kind(), ErrorKind::Config);
    let unnamed = session.create_data_frame([1]).unwrap().create_or_replace_temp_view("").unwrap_err();
    assert_eq!(unnamed.kind(), ErrorKind::Config);
}

#[test]
fn names_for_columns_have_to_be_as_many_and_different() {
    let session = session();
    let named =
        |names: &[&str]| session.create_data_frame_with([("a".to_owned(), 1_i64)], names).unwrap_err();
    for (names, expected) in [
        (&["a"][..], "1 name for the 2 columns of `(String, i64)`: _1 text, _2 bigint"),
        (&["a", "b", "c"], "3 names for the 2 columns of `(String, i64)`: _1 text, _2 bigint"),
        (&["a", "a"], "two columns are called `a`"),
    ] {
        let error = named(names);
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Config, expected));
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Shape {
    Circle(f64),
    Square { side: f64 },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Drawing {
    shape: Shape,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Nothing {}

#[test]
fn types_without_columns_in_sql_are_refused() {
    let session = session();
    let shapes = [Shape::Circle(1.0), Shape::Square { side: 1.0 }].map(|shape| Drawing { shape });
    for (error, expected) in [
        (session.create_data_frame(shapes).unwrap_err(), "`shape` is an enum whose variants hold data"),
        (
            session.create_data_frame([Nothing {}]).unwrap_err(),
            "`Nothing` cannot be the rows of a table: it has no fields",
        ),
        (
            session.create_data_frame([serde_json::json!(1)]).unwrap_err(),
            "`Value` cannot be the rows of a table: what it holds is known only",
        ),
        (session.create_data_frame([("a".to_owned(), ())]).unwrap_err(), "`_2` holds nothing"),
        (session.create_data_frame([1_u128]).unwrap_err(), "`u128` cannot be the rows"),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.to_string().contains("map it to a struct or a tuple"), "{error}");
    }
}

#[derive(Debug, PartialEq, Deserialize)]
struct Total {
    word: String,
    total: i64,
}

#[derive(Debug, PartialEq, Deserialize)]
struct WithDefault {
    word: String,
    #[serde(default)]
    missing: i64,
}

#[test]
fn rows_that_do_not_fit_a_type_are_told_apart_by_what_to_change() {
    let session = session();
    session
        .create_data_frame_with([("a".to_owned(), Some(300_i64)), ("b".to_owned(), None)], &["word", "n"])
        .unwrap()
        .create_or_replace_temp_view("words")
        .unwrap();
    let sql = |sql: &str| session.sql(sql).unwrap();
    let all = sql("select word, n from words");
    for (error, kind, expected) in [
        // The program is wrong.
        (
            all.collect::<Total>().unwrap_err(),
            ErrorKind::Config,
            "there is no column `total`; the columns are word, n",
        ),
        (all.collect::<String>().unwrap_err(), ErrorKind::Config, "rows of 2 columns do not fit `String`"),
        (
            all.collect::<(String, i64, i64)>().unwrap_err(),
            ErrorKind::Config,
            "rows of 2 columns do not fit `(String, i64, i64)`",
        ),
        (
            all.collect::<(i64, i64)>().unwrap_err(),
            ErrorKind::Config,
            "column `word` is text, where `(i64, i64)` has bigint",
        ),
        (
            all.collect::<(String, f64)>().unwrap_err(),
            ErrorKind::Config,
            "write `cast(n as double)` in the query",
        ),
        (
            sql("select n from words where false").collect::<String>().unwrap_err(),
            ErrorKind::Config,
            "column `n` is bigint",
        ),
        // The values are.
        (
            all.collect::<(String, i64)>().unwrap_err(),
            ErrorKind::Data,
            "row 2 does not fit `(String, i64)`: column `n` is NULL, which only",
        ),
        (
            all.collect::<(String, Option<u8>)>().unwrap_err(),
            ErrorKind::Data,
            "row 1 does not fit `(String, Option<u8>)`",
        ),
    ] {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let rows =
        sql("select word, n as total, 1 as other from words where n is not null").collect::<Total>().unwrap();
    assert_eq!(rows, [Total { word: "a".to_owned(), total: 300 }]);
    let rows = sql("select word from words where n is null").collect::<WithDefault>().unwrap();
    assert_eq!(rows, [WithDefault { word: "b".to_owned(), missing: 0 }]);
    assert_eq!(
        sql("select cast(n as double) as n from words").collect::<Option<f64>>().unwrap(),
        [Some(300.0), None]
    );
}

#[test]
fn tables_are_read_from_files() {
    let session = session();
    let folder = tempfile::tempdir().unwrap();
    let file = |text: &str| {
        let path = folder.path().join("table");
        std::fs::write(&path, text).unwrap();
        path
    };
    let csv = |text: &str| session.read_csv(file(text));
    let json = |text: &str| session.read_json(file(text));

    let rows = csv("code,\"long name\",n\n007,\"Amsterdam, \"\"A\"\"\",1\n008,,\n").unwrap();
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(
        rows.collect::<[Option<String>; 3]>().unwrap(),
        [[text("007"), text("Amsterdam, \"A\""), text("1")], [text("008"), None, None]]
    );
    assert_eq!(rows.schema()[1].name, "long name");
    let empty = csv("code,n\n").unwrap();
    assert_eq!((empty.count(), empty.schema().len()), (0, 2));

    let rows = json("{\"z\": 1, \"a\": [\"x\"]}\n\n{\"z\": 2.5, \"more\": {\"on\": true}}\n").unwrap();
    assert_eq!(
        rows.to_json().unwrap(),
        [r#"{"a":["x"],"more":null,"z":1.0}"#, r#"{"a":null,"more":{"on":true},"z":2.5}"#]
    );
    rows.create_or_replace_temp_view("t").unwrap();
    assert_eq!(session.sql("select sum(z) as z from t").unwrap().collect::<f64>().unwrap(), [3.5]);
    assert!(json("").unwrap().is_empty());

    for (error, kind) in [
        (csv("").unwrap_err(), ErrorKind::Data),
        (csv("a,b\n1,2\n3\n").unwrap_err(), ErrorKind::Data),
        (json("[1]\n").unwrap_err(), ErrorKind::Data),
        (json("{\"a\": 1}\n{\"a\": [\n").unwrap_err(), ErrorKind::Data),
        (session.read_csv(folder.path().join("absent")).unwrap_err(), ErrorKind::Unavailable),
        (session.read_json(folder.path().join("absent")).unwrap_err(), ErrorKind::Unavailable),
    ] {
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&*folder.path().to_string_lossy()), "{error}");
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sparse {
    #[serde(skip_serializing_if = "is_zero", default)]
    n: i64,
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

#[test]
fn a_value_without_a_field_of_its_type_is_an_error_of_the_data() {
    let error = over(vec![vec![Sparse { n: 1 }], vec![Sparse { n: 0 }]], |session, rdd| {
        rdd.create_or_replace_temp_view(session, "t")
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Data, "{error}");
    assert!(error.to_string().contains("a value of `Sparse` does not fit its columns"), "{error}");
}

#[test]
fn a_wrong_query_fails_its_batch() {
    let error = over(vec![vec![1]], |session, rdd| {
        rdd.create_or_replace_temp_view(session, "t")?;
        session.sql("select valu from t")
    });
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("did you mean `value`?"), "{error}");
}

#[test]
fn a_stream_whose_query_is_wrong_fails_its_first_batch() {
    for (query, kind) in [
        ("select sum(valu) from numbers", ErrorKind::Config),
        ("select cast(value as text) as t from numbers", ErrorKind::Config),
        ("select 1 / value as n from numbers", ErrorKind::Data),
    ] {
        let batches = vec![vec![0_i64], vec![1]];
        let error = run_batches(batches, |numbers| numbers.sql::<i64>("numbers", query)).unwrap_err();
        assert_eq!(error.kind(), kind, "{query}: {error}");
        assert!(error.to_string().starts_with("batch 1000 ms: "), "{error}");
    }
}

#[test]
fn sessions_work_on_threads_of_any_kind_at_the_same_time() {
    let session = session();
    session
        .create_data_frame((0..10_000).map(|n| (n % 10, n)))
        .unwrap()
        .create_or_replace_temp_view("t")
        .unwrap();
    let query = |session: &SqlSession| {
        let sql = "select _1, sum(_2) as s from t group by _1 order by _1 limit 1";
        session.sql(sql)?.collect::<(i32, i64)>()
    };
    // 0 + 10 + … + 9990
    let expected = vec![(0, 4_995_000)];
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(|| (0..5).map(|_| query(&session)).collect::<Vec<_>>())).collect();
        for thread in threads {
            for result in thread.join().unwrap() {
                assert_eq!(result.unwrap(), expected);
            }
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(runtime.block_on(async { query(&session) }).unwrap(), expected);
    // And within a task of the same workers.
    let inside = over(vec![vec![1, 2, 3], vec![]], |session, rdd| {
        session.create_data_frame([7])?.create_or_replace_temp_view("seven")?;
        let session = session.clone();
        let plus = rdd
            .map(move |n| n + session.sql("select value from seven").unwrap().collect::<i32>().unwrap()[0]);
        plus.collect()
    });
    assert_eq!(inside.unwrap(), [vec![8, 9, 10], vec![]]);
}

#[test]
fn more_rows_than_a_batch_of_them_come_back_in_order() {
    let session = session();
    let rows: Vec<i64> = (0..20_001).rev().collect();
    let frame = session.create_data_frame(rows.clone()).unwrap();
    assert_eq!((frame.count(), frame.is_empty()), (20_001, false));
    assert_eq!(frame.collect::<i64>().unwrap(), rows);
    assert_eq!(frame.rdd::<i64>().unwrap().collect().unwrap(), rows);
    assert_eq!(frame.to_json().unwrap().len(), 20_001);
    assert!(frame.show_string(8_193).unwrap().ends_with("|11808|\n+-----+\nonly showing top 8193 rows\n\n"));
}

type Sample = (Option<i64>, String, Vec<Option<f64>>, bool);

proptest! {
    #[test]
    fn rows_are_the_same_after_sql_as_before(
        rows: Vec<(Option<i64>, String, Vec<Option<i32>>, bool)>,
    ) {
        let rows: Vec<Sample> = rows
            .into_iter()
            .map(|(n, text, list, on)| (n, text, list.into_iter().map(|x| x.map(f64::from)).collect(), on))
            .collect();
        let session = session();
        session.create_data_frame(rows.clone()).unwrap().create_or_replace_temp_view("t").unwrap();
        let back = session.sql("select * from t").unwrap();
        prop_assert_eq!(back.collect::<Sample>().unwrap(), rows.clone());
        prop_assert_eq!(back.to_json().unwrap().len(), rows.len());
        let sorted = session.sql("select _1 from t where _1 is not null order by _1").unwrap().collect::<i64>().unwrap();
        let mut expected: Vec<_> = rows.iter().filter_map(|row| row.0).collect();
        expected.sort();
        prop_assert_eq!(sorted, expected);
    }
}
