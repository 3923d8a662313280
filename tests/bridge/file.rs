//! Files, compressed or not, replayed at any speed.

use std::io::Write;

use super::Place;
use crate::ui::browser::eventually;

/// Tweets of these ids, a second apart.
fn tweets(ids: std::ops::RangeInclusive<i64>) -> String {
    let line = |n: i64| {
        format!(
            "{{\"id\":{n},\"created_at\":\"2026-01-01T00:{:02}:{:02}Z\",\"user\":\"user{}\",\"text\":\"tweet {n}\"}}\n",
            n / 60,
            n % 60,
            n % 3
        )
    };
    ids.map(line).collect()
}

#[test]
fn compressed_files_are_read_as_one_and_what_is_no_tweet_is_kept_aside() {
    let place = Place::new();
    let [gz, zst, plain] = ["a.jsonl.gz", "b.zst", "c.jsonl"].map(|name| place.path(name));
    let mut writer =
        flate2::write::GzEncoder::new(std::fs::File::create(&gz).unwrap(), flate2::Compression::fast());
    writer.write_all(tweets(1..=3).as_bytes()).unwrap();
    writer.finish().unwrap();
    std::fs::write(&zst, zstd::encode_all(tweets(4..=6).as_bytes(), 1).unwrap()).unwrap();
    std::fs::write(&plain, format!("{}{{\"id\":1,\"half\n{}", tweets(7..=7), tweets(8..=8))).unwrap();
    let paths = [&gz, &zst, &plain].map(|path| path.to_str().unwrap());
    let mut bridge = place.bridge(&["file", "--speed", "max", paths[0], paths[1], paths[2]]);
    assert_eq!(bridge.end(), Some(0), "{}", bridge.log());
    assert_eq!(place.ids(), (1..=8).collect::<Vec<_>>());
    assert_eq!(place.read("bad").len(), 1);
    // All of it was read: there is nothing left to do.
    let mut again = place.bridge(&["file", "--speed", "max", paths[0], paths[1], paths[2]]);
    assert_eq!(again.end(), Some(0));
    assert_eq!(place.ids(), (1..=8).collect::<Vec<_>>());
}

#[test]
fn a_kill_loses_nothing() {
    let place = Place::new();
    let file = place.path("tweets.jsonl");
    // Ten seconds, ten times as fast.
    std::fs::write(&file, tweets(1..=100)).unwrap();
    let args = ["file", "--speed", "20", file.to_str().unwrap()];
    let mut bridge = place.bridge(&args);
    let cursor = place.path("state/file-tweets.json");
    eventually("a cursor", || {
        let text = std::fs::read_to_string(&cursor).map_err(|error| error.to_string())?;
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        value["cursor"].as_i64().filter(|n| *n >= 10).ok_or(text)
    });
    bridge.kill();
    let before = place.ids().len();
    assert!(before < 100, "all was produced at once");
    let mut bridge = place.bridge(&args);
    assert_eq!(bridge.end(), Some(0), "{}", bridge.log());
    let mut ids = place.ids();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids, (1..=100).collect::<Vec<_>>());
    // What the cursor knew of did not come again: at most about a second's tweets did.
    assert!(all < 100 + before, "{all} of which {before} before the kill");
}

#[test]
fn what_is_no_file_is_told() {
    let place = Place::new();
    let mut bridge = place.bridge(&["file", "/nowhere.jsonl"]);
    assert_eq!(bridge.end(), Some(2));
    assert!(bridge.log().contains("cannot read /nowhere.jsonl"), "{}", bridge.log());
}
