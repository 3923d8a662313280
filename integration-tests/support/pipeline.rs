//! Pipelines: the shipped files, and variants of them that share a broker with other tests.

use super::{App, Broker, tidemill};

/// The path of `config/NAME.yaml` as it is shipped.
pub fn shipped(name: &str) -> String {
    format!("{}/config/{name}.yaml", env!("CARGO_MANIFEST_DIR"))
}

/// The text of the shipped word count with `app_id`, input topic and output topics of its own: `NAME`, and `NAME-counts`,
/// `NAME-window-counts`, `NAME-totals`. `changes` are made besides; each must find its place.
pub fn word_count_as(name: &str, changes: &[(&str, &str)]) -> String {
    let text = std::fs::read_to_string(shipped("word-count")).expect("it is shipped");
    let own = [
        ("app_id: word-count", format!("app_id: {name}")),
        ("topics: [lines]", format!("topics: [{name}]")),
        ("topic: word-", format!("topic: {name}-")),
    ];
    let own = own.iter().map(|(from, to)| (*from, to.as_str()));
    own.chain(changes.iter().copied()).fold(text, |text, (from, to)| {
        assert!(text.contains(from), "config/word-count.yaml has no {from:?} any more");
        text.replace(from, to)
    })
}

impl Broker {
    /// `tidemill run FILE` against this broker, with its data in its own folder and HTTP on any free port.
    pub fn run(&self, file: &str) -> App {
        tidemill(&["run", file]).env("KAFKA_BROKERS", self.bootstrap()).env("TIDEMILL_HTTP", "127.0.0.1:0")
    }
}
