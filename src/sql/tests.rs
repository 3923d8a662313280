//! Queries, from SQL text to rows.

use datafusion::arrow::array::AsArray as _;

use super::*;

/// A planner that knows the streams of these tests.
fn planner() -> Planner {
    let text = || data_type("text").unwrap();
    let mut planner = Planner::new();
    planner.register("lines", schema([("value", text())]));
    let tweet = [("id", DataType::Int64), ("text", text()), ("hashtags", data_type("text[]").unwrap())];
    planner.register("tweets", schema(tweet));
    planner.register("trending", schema([("tag", text()), ("n", DataType::Int64)]));
    planner.register("Words", schema([("word", text())]));
    planner.register("users", schema([("tag", text()), ("userName", text())]));
    planner
}

fn lines(values: &[&str]) -> RecordBatch {
    let rows: Vec<_> = values.iter().map(|value| Row::from(vec![(*value).into()])).collect();
    batch_of_rows(&schema([("value", DataType::Utf8View)]), &rows).unwrap()
}

fn trending(rows: &[(&str, i64)]) -> RecordBatch {
    let rows: Vec<_> = rows.iter().map(|(tag, n)| Row::from(vec![(*tag).into(), (*n).into()])).collect();
    batch_of_rows(&schema([("tag", DataType::Utf8View), ("n", DataType::Int64)]), &rows).unwrap()
}

/// The result's rows as JSON, one a line.
fn run(query: &Query, inputs: &Inputs) -> Vec<String> {
    let batches = query.run(inputs).unwrap();
    let rows = batches.iter().flat_map(|batch| encode::rows_as_json(batch).unwrap());
    rows.map(|row| String::from_utf8(row).unwrap()).collect()
}

/// One column of the result, as text.
fn column(query: &Query, inputs: &Inputs) -> Vec<String> {
    let batches = query.run(inputs).unwrap();
    let rows = batches.iter().flat_map(|batch| rows_of_batch(batch).unwrap());
    rows.map(|row| match &row.0[0] {
        Value::Text(text) => text.to_string(),
        other => format!("{other:?}"),
    })
    .collect()
}

#[test]
fn words_are_split_at_blanks_row_by_row() {
    let sql = "select word from (select unnest(string_to_array(translate(value, E'\\t\\r\\n', '   '), ' ')) as word \
               from lines) where word <> ''";
    let query = planner().query(sql).unwrap();
    assert!(query.is_row_wise(), "{query:?}");
    assert_eq!(query.inputs(), ["lines"]);
    let inputs = Inputs::new().with("lines", [lines(&["to be\tor  not", "", "to\r\nbe"])]);
    assert_eq!(column(&query, &inputs), ["to", "be", "or", "not", "to", "be"]);
    assert_eq!(query.run(&Inputs::new().with("lines", [])).unwrap(), vec![]);
    assert_eq!(query.run(&Inputs::new().with("lines", [lines(&[])])).unwrap(), vec![]);
}

#[test]
fn arrays_are_unnested_row_by_row() {
    let query = planner()
        .query("SELECT lower(tag) AS tag FROM (SELECT unnest(Hashtags) AS tag FROM Tweets)")
        .unwrap();
    assert!(query.is_row_wise());
    let tags = |tags: &[&str]| Value::List(tags.iter().map(|tag| Value::from(*tag)).collect());
    let rows = [
        Row::from(vec![1.into(), "".into(), tags(&["Rust", "Kafka"])]),
        Row::from(vec![2.into(), "".into(), tags(&[])]),
        Row::from(vec![3.into(), "".into(), Value::Null]),
        Row::from(vec![4.into(), "".into(), tags(&["RUST"])]),
    ];
    let text = data_type("text").unwrap();
    let tweet = schema([("id", DataType::Int64), ("text", text), ("hashtags", data_type("text[]").unwrap())]);
    let inputs = Inputs::new().with("tweets", [batch_of_rows(&tweet, &rows).unwrap()]);
    assert_eq!(column(&query, &inputs), ["rust", "kafka", "rust"]);
}

#[test]
fn every_hashtag_of_a_text_is_found() {
    let sql = r"
        select lower(word) as tag
        from (select unnest(string_to_array(regexp_replace(value, '[^#\w]+|(#)', ' \1', 'g'), ' ')) as word from lines)
        where word ~ '^#\w'";
    let query = planner().query(sql).unwrap();
    assert!(query.is_row_wise());
    let inputs =
        Inputs::new().with("lines", [lines(&["I love #Rust, #kafka!", "#a#B no # here", "über #Größe."])]);
    assert_eq!(column(&query, &inputs), ["#rust", "#kafka", "#a", "#b", "#größe"]);
}

#[test]
fn the_top_rows_need_the_whole_batch() {
    let query = planner().query("select tag, n from trending order by n desc, tag limit 2").unwrap();
    assert!(!query.is_row_wise());
    let inputs =
        Inputs::new().with("trending", [trending(&[("b", 3), ("a", 1)]), trending(&[("c", 9), ("a2", 3)])]);
    let expected = [r#"{"tag":"c","n":9}"#, r#"{"tag":"a2","n":3}"#];
    assert_eq!(run(&query, &inputs), expected);
    // Nothing of one run is left in the next.
    assert_eq!(
        run(&query, &Inputs::new().with("trending", [trending(&[("z", 1)])])),
        [r#"{"tag":"z","n":1}"#]
    );
    assert_eq!(run(&query, &inputs), expected);
}

#[test]
fn what_looks_at_several_rows_is_not_row_wise() {
    let planner = planner();
    for sql in [
        "select count(*) as n from lines",
        "select tag, sum(n) as n from trending group by tag",
        "select distinct value from lines",
        "select value from lines limit 1",
        "select value from lines where value <> '' limit 1",
        "select value from lines order by value",
        "select tag, row_number() over (order by n) as r from trending",
        "select tag from trending union all select value from lines",
        "select tag from trending union all select tag from trending",
        "select t.tag, u.n from trending t join trending u on t.tag = u.tag",
        "select tag from trending where n = (select max(n) from trending)",
        "select 1 as one",
    ] {
        assert!(!planner.query(sql).unwrap().is_row_wise(), "{sql}");
    }
    for sql in [
        "select * from lines",
        "select n + 1 as m from trending where n % 2 = 0",
        "select 1 as one from lines",
    ] {
        assert!(planner.query(sql).unwrap().is_row_wise(), "{sql}");
    }
}

#[test]
fn operators_of_every_kind_run_on_this_thread_and_again() {
    let planner = planner();
    let inputs = Inputs::new()
        .with("trending", [trending(&[("a", 1), ("b", 2)]), trending(&[("b", 5)])])
        .with("lines", [lines(&["a", "x"])]);
    for (sql, expected) in [
        ("select count(*) as n from trending", vec![r#"{"n":3}"#]),
        (
            "select tag, sum(n) as n from trending group by tag",
            vec![r#"{"tag":"a","n":1}"#, r#"{"tag":"b","n":7}"#],
        ),
        (
            "select tag from trending union all select value from lines",
            vec![r#"{"tag":"a"}"#, r#"{"tag":"b"}"#, r#"{"tag":"b"}"#, r#"{"tag":"a"}"#, r#"{"tag":"x"}"#],
        ),
        (
            "select tag from trending union select value from lines order by tag",
            vec![r#"{"tag":"a"}"#, r#"{"tag":"b"}"#, r#"{"tag":"x"}"#],
        ),
        (
            "(select tag from trending union all select value from lines) limit 4",
            vec![r#"{"tag":"a"}"#, r#"{"tag":"b"}"#, r#"{"tag":"b"}"#, r#"{"tag":"a"}"#],
        ),
        (
            "select value, n from lines left join trending on tag = value order by value",
            vec![r#"{"value":"a","n":1}"#, r#"{"value":"x","n":null}"#],
        ),
        ("select tag from trending where n = (select max(n) from trending)", vec![r#"{"tag":"b"}"#]),
        (
            "select t.tag, u.n from trending t join trending u on t.n < u.n where t.tag = 'a' order by u.n",
            vec![r#"{"tag":"a","n":2}"#, r#"{"tag":"a","n":5}"#],
        ),
        (
            "select tag, row_number() over (partition by tag order by n desc) as r from trending order by tag, r",
            vec![r#"{"tag":"a","r":1}"#, r#"{"tag":"b","r":1}"#, r#"{"tag":"b","r":2}"#],
        ),
        ("with t as (select distinct tag from trending) select count(*) as n from t", vec![r#"{"n":2}"#]),
        ("select value from lines where value in (select tag from trending)", vec![r#"{"value":"a"}"#]),
        ("select tag from trending intersect select value from lines", vec![r#"{"tag":"a"}"#]),
    ] {
        let query = planner.query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        for _ in 0..3 {
            assert_eq!(run(&query, &inputs), expected, "{sql}\n{query:?}");
        }
    }
}

#[test]
fn runs_of_one_query_may_be_concurrent() {
    let query = planner()
        .query("select t.tag, sum(u.n) as n from trending t join trending u on t.tag = u.tag group by t.tag")
        .unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let query = &query;
            scope.spawn(move || {
                for n in 0..20 {
                    let inputs = Inputs::new().with("trending", [trending(&[("a", thread * 100 + n)])]);
                    assert_eq!(run(query, &inputs), [format!(r#"{{"tag":"a","n":{}}}"#, thread * 100 + n)]);
                }
            });
        }
    });
}

#[test]
fn a_run_on_a_thread_of_an_async_runtime_ends() {
    let sql = "select tag, count(*) as n from (select tag from trending union all select value from lines) \
               group by tag order by n desc, tag";
    let query = planner().query(sql).unwrap();
    let many: Vec<_> = (0..2000).map(|n| trending(&[("a", n), ("b", n)])).collect();
    let inputs = Inputs::new().with("trending", many).with("lines", [lines(&["b"])]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let result = runtime.block_on(async { tokio::spawn(async move { run(&query, &inputs) }).await.unwrap() });
    assert_eq!(result, [r#"{"tag":"b","n":2001}"#, r#"{"tag":"a","n":2000}"#]);
}

#[test]
fn an_aggregate_over_no_rows_gives_its_row() {
    let query = planner().query("select count(*) as n, max(n) as m from trending").unwrap();
    assert_eq!(run(&query, &Inputs::new().with("trending", [])), [r#"{"n":0,"m":null}"#]);
}

#[test]
fn a_run_without_a_stream_or_with_other_columns_is_a_wrong_call() {
    let query = planner().query("select tag from trending").unwrap();
    assert_eq!(query.run(&Inputs::new()).unwrap_err().kind(), crate::ErrorKind::Usage);
    let other = Inputs::new().with("trending", [lines(&["a"])]);
    assert_eq!(query.run(&other).unwrap_err().kind(), crate::ErrorKind::Usage);
}

#[test]
fn a_value_that_cannot_be_worked_with_is_an_error_of_the_data() {
    let query = planner().query("select cast(value as bigint) as n from lines").unwrap();
    let error = query.run(&Inputs::new().with("lines", [lines(&["12", "x"])])).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Data);
    assert!(error.to_string().contains("'x'"), "{error}");
    let query = planner().query("select 1 / n as m from trending").unwrap();
    assert!(query.run(&Inputs::new().with("trending", [trending(&[("a", 0)])])).is_err());
}

#[test]
fn errors_name_the_place_and_what_would_be_right() {
    let planner = planner();
    let error = |sql: &str| {
        let error = planner.query(sql).unwrap_err();
        (error.message, error.offset, error.hint.unwrap_or_default())
    };
    let (message, offset, hint) = error("select tag,\n  nn from trending");
    assert_eq!((message.as_str(), offset), ("there is no column `nn`", Some((2, 3))));
    assert_eq!(hint, "did you mean `n`? the columns are tag, n");

    let (message, offset, hint) = error("select * from trendin");
    assert_eq!((message.as_str(), offset), ("there is no stream `trendin`", Some((1, 15))));
    assert_eq!(hint, "did you mean `trending`? the streams are Words, lines, trending, tweets, users");

    let (message, _, hint) = error("select * from Words");
    assert!(message == "there is no stream `words`" && hint.contains("\"Words\" in double quotes"), "{hint}");
    assert!(planner.query("select * from \"Words\"").is_ok());

    let (message, offset, hint) = error("select userName from users");
    assert_eq!((message.as_str(), offset), ("there is no column `username`", Some((1, 8))));
    assert!(hint.contains("\"userName\" in double quotes"), "{hint}");
    assert!(planner.query("select \"userName\" from users").is_ok());

    let (message, offset, _) = error("select tag frm trending x y");
    assert_eq!(offset, Some((1, 16)), "{message}");

    let (message, offset, hint) = error("select lowr(tag) as t from trending");
    assert_eq!((message.as_str(), offset), ("there is no function `lowr`", Some((1, 8))));
    assert!(hint.contains("lower"), "{hint}");

    let (message, _, hint) = error("select t.tag, u.tag from trending t join trending u on t.n = u.n");
    assert_eq!(message, "two columns are called `tag`", "{hint}");

    let (message, offset, _) = error("select tag from trending join users on n = 1");
    assert_eq!(
        (message.as_str(), offset),
        ("column `tag` is in more than one of the streams that are read", Some((1, 8)))
    );

    let (message, ..) = error("select (tag from trending");
    assert!(message.contains("Expected"), "{message}");
    assert!(planner.query("select tag and n as x from trending").is_err());
    assert!(planner.query("").is_err());
}

#[test]
fn for_a_program_an_error_has_the_text_and_the_hint() {
    let mut planner = Planner::of_views();
    planner.register("words", schema([("word", data_type("text").unwrap())]));
    let error = |planner: &Planner, sql: &str| crate::Error::from(planner.query(sql).unwrap_err());
    let short = error(&planner, "select  wrd\nfrom words");
    assert_eq!(short.kind(), crate::ErrorKind::Config);
    assert_eq!(
        short.to_string(),
        "sql `select wrd from words`: there is no column `wrd` (line 1, column 9); did you mean `word`? the columns are word"
    );
    // Cut after eighty characters, not bytes.
    let long = error(&planner, &format!("select '{}' as x, wrd from words", "ß".repeat(90)));
    assert!(long.to_string().starts_with(&format!("sql `select '{}…`: there", "ß".repeat(72))), "{long}");
    assert!(planner.deregister("words") && !planner.deregister("words"));
    assert!(error(&planner, "select word from words").to_string().ends_with("there are no views here"));
}

#[test]
fn only_one_select_can_stand_here() {
    let planner = planner();
    for sql in [
        "insert into lines values ('x')",
        "create table t as select 1",
        "create external table t stored as csv location '/etc/passwd'",
        "copy lines to '/tmp/x.csv'",
        "drop table lines",
        "set datafusion.execution.batch_size = 1",
        "explain select * from lines",
        "select 1 as a; select 2 as b",
        "select 1 as a into t",
        "show tables",
        "select * from information_schema.tables",
        "select * from '/etc/passwd.csv'",
        "select * from generate_series(1, 3)",
        "with recursive t as (select 1 as n union all select n + 1 from t) select * from t",
    ] {
        assert!(planner.query(sql).is_err(), "{sql}");
    }
    assert!(planner.query("select 1 as a;").is_ok());
}

#[test]
fn what_a_replay_could_not_repeat_is_refused() {
    let planner = planner();
    for (sql, offset) in [
        ("select now() as t from lines", (1, 8)),
        ("select value from lines\nwhere current_timestamp > '2020-01-01'", (2, 7)),
        ("select current_date as d from lines", (1, 8)),
        ("select current_time as d from lines", (1, 8)),
        ("select random() as r from lines", (1, 8)),
        ("select uuid() as r from lines", (1, 8)),
        ("select value from lines where value in (select cast(random() as text) from lines)", (1, 53)),
        ("select value from lines order by random()", (1, 34)),
    ] {
        let error = planner.query(sql).unwrap_err();
        assert!(error.message.contains("another value each time"), "{sql}: {error}");
        assert_eq!(error.offset, Some(offset), "{sql}");
    }
}

/// Whoever runs the batch again may find the disk well; to look at the rows would be of no use.
#[cfg(target_os = "linux")]
#[test]
fn rows_that_cannot_be_read_back_are_the_disks_fault() {
    let folder = tempfile::tempdir().unwrap();
    let memory = std::sync::Arc::new(Memory::new(0, &crate::rdd::Disk::new(folder.path())));
    let mut spool = Spool::new(&memory);
    spool.push(&lines(&["a", "b"])).unwrap();
    let rows = spool.finish().unwrap();
    assert!(rows.in_memory().is_empty());
    let query = planner().query("select value from lines").unwrap();
    let run = || query.run_spooled(&Inputs::new().with("lines", rows.clone()), &memory);
    assert_eq!(run().unwrap().num_rows(), 2);
    // The file has no name, but the process has it open.
    let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten().map(|entry| entry.path());
    let ours = |path: &std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|target| target.starts_with(folder.path()))
    };
    let cut = open.filter(ours).map(|path| std::fs::File::options().write(true).open(path).unwrap());
    assert!(cut.map(|file| file.set_len(0).unwrap()).count() > 0);
    let error = run().unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("cannot read rows back from a temporary file"), "{error}");
}

/// Rows that come one by one are not kept one by one.
#[test]
fn single_rows_that_wait_have_their_memory_in_common() {
    let folder = tempfile::tempdir().unwrap();
    let memory = std::sync::Arc::new(Memory::new(64 << 20, &crate::rdd::Disk::new(folder.path())));
    let mut spool = Spool::new(&memory);
    let texts: Vec<_> = (0..500).map(|n| format!("line {n:03}, too long to stand in a view")).collect();
    texts.iter().for_each(|text| spool.push(&lines(&[text])).unwrap());
    let rows = spool.finish().unwrap();
    let [batch] = rows.in_memory() else { panic!("{} batches", rows.in_memory().len()) };
    let column = batch.column(0).as_string_view();
    assert_eq!(column.iter().flatten().collect::<Vec<_>>(), texts);
    // Whenever there are 64 pieces, they become one, which is the first of the next 64; at the end one is whole, and 58 came since.
    assert_eq!(column.data_buffers().len(), 1 + (500 - 64) % 63);
}

#[test]
fn elements_stand_beside_their_row_and_arrays_without_any_are_no_rows() {
    let sql = "select id, unnest(hashtags) as tag, text from tweets";
    let query = planner().query(sql).unwrap();
    assert!(format!("{query:?}").contains("FlatExec"), "{query:?}");
    let of = schema([
        ("id", DataType::Int64),
        ("text", DataType::Utf8View),
        ("hashtags", data_type("text[]").unwrap()),
    ]);
    let tags = |tags: &[&str]| Value::List(tags.iter().map(|tag| Value::from(*tag)).collect());
    let row = |id: i64, tags: Value| {
        Row::from(vec![id.into(), "a text that is too long to be in a view".into(), tags])
    };
    let rows = [row(1, tags(&["a", "b"])), row(2, Value::Null), row(3, tags(&[])), row(4, tags(&["c"]))];
    let found = |rows: &[Row]| -> Vec<(Value, Value)> {
        let batches = query.run(&Inputs::new().with("tweets", [batch_of_rows(&of, rows).unwrap()])).unwrap();
        let rows = batches.iter().flat_map(|batch| rows_of_batch(batch).unwrap());
        rows.map(|row| (row.0[0].clone(), row.0[1].clone())).collect()
    };
    let expected = [(1.into(), "a".into()), (1.into(), "b".into()), (4.into(), "c".into())];
    assert_eq!(found(&rows), expected);
    assert_eq!(found(&[rows[0].clone(), rows[3].clone()]), expected);
    // More than goes into one batch, and a row that alone is more.
    let many: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let found = found(&[row(1, tags(&many[..5_000])), row(2, tags(&many)), row(3, tags(&many[..1]))]);
    assert_eq!(found.len(), 25_001);
    assert_eq!(found[5_001], (2.into(), "1".into()));
    assert_eq!(found[25_000], (3.into(), "0".into()));
}
