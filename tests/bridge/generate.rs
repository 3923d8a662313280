//! Made-up tweets.

use std::collections::BTreeSet;

use super::Place;

#[test]
fn as_many_as_asked_for_in_the_schema_that_pipelines_read() {
    let place = Place::new();
    let args = ["generate", "--rate", "2000", "--limit", "1000", "--seed", "7", "--users", "50"];
    let mut bridge = place.bridge(&args);
    assert_eq!(bridge.end(), Some(0), "{}", bridge.log());
    let rows = place.read("tweets");
    assert_eq!(place.ids(), (0..1_000).collect::<Vec<_>>());
    let users: BTreeSet<_> = rows.iter().map(|row| row.key.clone().unwrap()).collect();
    assert!((20..=50).contains(&users.len()), "{}", users.len());
    for row in &rows {
        let tweet = &row.value;
        assert_eq!(tweet["user"].as_str(), row.key.as_deref());
        for name in ["created_at", "lang", "text"] {
            assert!(tweet[name].is_string(), "{name} of {tweet}");
        }
        for tag in tweet["hashtags"].as_array().unwrap() {
            assert!(
                tweet["text"].as_str().unwrap().contains(&format!("#{}", tag.as_str().unwrap())),
                "{tweet}"
            );
        }
    }
    // Another thousand come after these.
    let more = ["generate", "--rate", "5000", "--limit", "1500", "--seed", "7", "--users", "50"];
    assert_eq!(place.bridge(&more).end(), Some(0));
    assert_eq!(place.ids(), (0..1_500).collect::<Vec<_>>());
}
