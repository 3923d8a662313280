//! The shipped trending pipeline over tweets whose hashtags were counted by hand, and some records that are no tweets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Broker, Record, Row, eventually, shipped};

const LIMIT: Duration = Duration::from_secs(60);

/// Texts of tweets, and how often each is tweeted.
const TWEETS: [(&str, usize); 6] = [
    ("#Rust #kafka #Spark", 2),
    ("#RUST, (#Kafka) #spark!", 3),
    ("#Größe und #東京", 4),
    ("#data|#SQL", 3),
    ("#batch #micro #ops #yaml", 2),
    ("no tag: c# a#b & #", 5),
];
const LAST_TWEET: &str = "only #rust";

/// All hashtags, most used first and by name where they are equal; the eleventh is too many.
const TOTALS: [(&str, u64); 11] = [
    ("rust", 6),
    ("kafka", 5),
    ("spark", 5),
    ("größe", 4),
    ("東京", 4),
    ("data", 3),
    ("sql", 3),
    ("batch", 2),
    ("micro", 2),
    ("ops", 2),
    ("yaml", 2),
];

#[test]
fn hashtags_are_ranked_and_what_is_no_tweet_is_kept_aside() {
    let broker = Broker::shared();
    broker.create_topic("tweets", 4);
    let texts: Vec<&str> = TWEETS.iter().flat_map(|(text, times)| vec![*text; *times]).collect();
    broker
        .produce("tweets", texts.iter().enumerate().map(|(i, text)| tweet(i, text).partition(i as i32 % 4)));
    let first_bad = broker.read("tweets").iter().filter(|row| row.partition == 2).count() as i64;
    let bad = [
        Record::from(("ann", r##"{"id": 1, text: "#bad"}"##)).header("trace", "42"),
        Record::from(r##"{"id": 2, "text": "#truncated"##).header("empty", ""),
        Record::from("[1, 2]"),
        Record::from(""),
        Record::bytes([0xff, 0x00, b'#', 0xfe]),
        Record::tombstone("gone"),
    ];
    let bad_count = bad.len();
    broker.produce("tweets", bad.map(|record| record.partition(2)));
    broker.produce("tweets", [tweet(99, LAST_TWEET).partition(2)]);
    let tweets = broker.read("tweets");

    let mut run = broker.run(&shipped("trending")).start();
    let http = run.http();
    http.wait_until_read(4, tweets.len() as u64, LIMIT);
    let expected: Vec<(String, u64)> = TOTALS[..10].iter().map(|(tag, n)| ((*tag).to_owned(), *n)).collect();
    eventually(LIMIT, "the window with all tweets", || {
        let ranking = windows(&broker.read("trending")).pop_last().map(|(_, rows)| ranked(rows));
        if ranking.as_ref() == Some(&expected) { Ok(()) } else { Err(format!("{ranking:?}")) }
    });
    assert_eq!(http.metrics().one("tidemill_source_bad_records_total", &[]), bad_count as f64);
    run.stop(LIMIT);
    assert!(broker.group_lag("trending").iter().all(|it| it.lag == Some(0)));

    for (time, rows) in windows(&broker.read("trending")) {
        assert_eq!(time % 10_000, 0);
        assert!(rows.len() <= 10, "{rows:?}");
        // Within a partition, the order of the ranking is that of the records.
        for partition in 0..4 {
            let of_partition: Vec<_> =
                rows.iter().filter(|row| row.partition == partition).cloned().collect();
            let in_order: Vec<_> = of_partition.iter().map(|row| tag_and(row, "n")).collect();
            assert_eq!(in_order, ranked(of_partition));
        }
    }
    let totals: BTreeMap<_, _> =
        broker.read("hashtag-totals").iter().map(|row| tag_and(row, "total")).collect();
    assert_eq!(totals, TOTALS.map(|(tag, total)| (tag.to_owned(), total)).into());

    let sent: Vec<&Row> = tweets.iter().filter(|row| row.partition == 2).collect();
    let sent = &sent[first_bad as usize..][..bad_count];
    assert_dead_letters(&broker.read("tweets.dlq"), sent);
}

fn tweet(id: usize, text: &str) -> Record {
    let value = json!({
        "id": id, "created_at": "2026-01-02T03:04:05.678Z", "user": "ann", "lang": "en", "text": text, "hashtags": ["x"],
    });
    Record::from(value.to_string()).key("ann")
}

/// The row's tag and number, after a look at key and value.
#[track_caller]
fn tag_and(row: &Row, field: &str) -> (String, u64) {
    let value: Value = serde_json::from_slice(row.value.as_deref().unwrap()).unwrap();
    let n = value[field].as_u64().unwrap_or_else(|| panic!("no {field} in {value}"));
    assert_eq!(value, json!({ "tag": row.key_text(), field: n }));
    (row.key_text(), n)
}

/// The rows by the batch that wrote them.
fn windows(rows: &[Row]) -> BTreeMap<i64, Vec<Row>> {
    let mut windows: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    for row in rows {
        windows.entry(row.timestamp).or_default().push(row.clone());
    }
    windows
}

/// Most used first, by name where they are equal.
fn ranked(rows: Vec<Row>) -> Vec<(String, u64)> {
    let mut tags: Vec<_> = rows.iter().map(|row| tag_and(row, "n")).collect();
    tags.sort_by(|(tag, n), (other_tag, other_n)| other_n.cmp(n).then(tag.cmp(other_tag)));
    tags
}

/// Each as it had come, with all of its own headers and then those that say where it came from and what is wrong.
#[track_caller]
fn assert_dead_letters(letters: &[Row], sent: &[&Row]) {
    let place = |letter: &Row| letter.noted("partition") + " " + &letter.noted("offset");
    let by_place: BTreeMap<String, &Row> = letters.iter().map(|letter| (place(letter), letter)).collect();
    assert_eq!((letters.len(), by_place.len()), (sent.len(), sent.len()), "{letters:#?}");
    for row in sent {
        let letter = by_place[&format!("{} {}", row.partition, row.offset)];
        assert_eq!((&letter.key, &letter.value), (&row.key, &row.value));
        let (own, added) = letter.headers.split_at(row.headers.len());
        assert_eq!(own, row.headers);
        let names: BTreeSet<&str> = added.iter().map(|(name, _)| name.as_str()).collect();
        let expected = [
            "app_id",
            "batch_time",
            "message",
            "offset",
            "operator",
            "partition",
            "stage",
            "timestamp",
            "topic",
        ]
        .map(|name| format!("__tidemill.errors.{name}"));
        assert_eq!(names, expected.iter().map(String::as_str).collect());
        assert_eq!(letter.noted("topic"), "tweets");
        assert_eq!(letter.noted("timestamp"), row.timestamp.to_string());
        assert_eq!(letter.noted("stage"), "decode");
        assert_eq!(letter.noted("operator"), "tweets");
        assert_eq!(letter.noted("app_id"), "trending");
        assert!(!letter.noted("message").is_empty());
    }
}
