//! The shipped pipelines' queries over records as they come.

use super::*;
use crate::sql::{Decoder, Inputs, RecordBatch, encode};

/// A file of `config/`, checked.
fn shipped(name: &str) -> Config {
    let path = format!("{}/config/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).expect("it is shipped");
    let mut report = Report::new(path, text);
    let config = check(&mut report);
    assert!(report.is_empty(), "{}", report.render(false));
    config.expect("it has no errors")
}

/// What the query of the stream `name` gives for these records of the one source, as JSON.
fn run(config: &Config, name: &str, records: &[&str]) -> Vec<String> {
    let source = &config.sources[0];
    let decoder = Decoder::new(source.format.clone()).expect("the types can be read");
    let values: Vec<Option<&[u8]>> = records.iter().map(|record| Some(record.as_bytes())).collect();
    let decoded = decoder.decode_values(&values);
    assert!(decoded.bad.is_empty(), "{:?}", decoded.bad);
    let stream = config.streams.iter().find(|stream| stream.name == name).expect("the stream is in the file");
    let Step::Query(query) = &stream.step else { panic!("`{name}` is no query") };
    let rows: Vec<RecordBatch> =
        query.run(&Inputs::new().with(&source.name, vec![decoded.batch])).expect("it can be run");
    let as_json = |batch| encode::rows_as_json(batch).expect("text can be written");
    rows.iter().flat_map(as_json).map(|row| String::from_utf8(row).expect("JSON is UTF-8")).collect()
}

#[test]
fn words_are_separated_by_any_ascii_white_space() {
    let config = shipped("word-count");
    let words = run(&config, "words", &["a  b\tc\r", "", " \u{b}d\u{c}e ", "f\u{a0}g h\u{2003}i", "Ä-b,c."]);
    let expected = ["a", "b", "c", "d", "e", "f\u{a0}g", "h\u{2003}i", "Ä-b,c."];
    assert_eq!(words, expected.map(|word| format!("{{\"word\":\"{word}\"}}")));
}

#[test]
fn hashtags_are_found_in_the_text_of_a_tweet() {
    let config = shipped("trending");
    let tweet =
        |text: &str| format!("{{\"id\":1,\"user\":\"u\",\"text\":\"{text}\",\"hashtags\":[\"ignored\"]}}");
    let tweets = [
        tweet("#Rust is #FUN, (#kafka) #a#b ##double #"),
        tweet("no tag: c# a#b & #Größe_1! #東京"),
        "{\"id\":2,\"text\":null}".to_owned(),
        tweet("one\\ntwo #three"),
    ];
    let tweets: Vec<&str> = tweets.iter().map(String::as_str).collect();
    let expected = ["rust", "fun", "kafka", "a", "double", "größe_1", "東京", "three"];
    assert_eq!(run(&config, "hashtags", &tweets), expected.map(|tag| format!("{{\"tag\":\"{tag}\"}}")));
}

#[test]
fn outputs_are_what_is_relied_on_from_outside() {
    let columns = |config: &Config| -> Vec<String> {
        let of = |name: &str| {
            config.streams.iter().find(|stream| stream.name == name).expect("checked").schema.clone()
        };
        let shown = |output: &Output| {
            let names: Vec<String> =
                of(&output.from).fields().iter().map(|field| field.name().clone()).collect();
            let Sink::Kafka(to) = &output.sink else { panic!("all go to Kafka") };
            assert_eq!(to.settings, TopicSettings::new().partitions(4));
            format!("{} {}: {}", to.topic, to.key.as_deref().unwrap_or("-"), names.join(","))
        };
        config.outputs.iter().map(shown).collect()
    };
    let words = shipped("word-count");
    let expected = [
        "word-counts word: word,count",
        "word-window-counts word: word,count",
        "word-totals word: word,total",
    ];
    assert_eq!(
        (words.app_id.as_str(), columns(&words)),
        ("word-count", expected.map(str::to_owned).to_vec())
    );
    let tags = shipped("trending");
    let expected = ["trending tag: tag,n", "hashtag-totals tag: tag,total"];
    assert_eq!((tags.app_id.as_str(), columns(&tags)), ("trending", expected.map(str::to_owned).to_vec()));
    assert!(words.streams.iter().chain(&tags.streams).all(|stream| stream.slide >= Duration::seconds(1)));
}
