//! Words to count, the truth about them by other tools, and what a word count has written about them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::process::output;
use super::{Broker, Row};

/// How often each word was there.
pub type Counts = BTreeMap<String, u64>;

/// Numbers that look random, the same ones for the same seed (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// Lines of about four words each, of which some are frequent and most are rare; separated and surrounded by blanks and
/// tabs in all ways, some lines without a word.
pub fn lines(count: usize, seed: u64) -> Vec<String> {
    const FREQUENT: [&str; 8] = ["the", "größe", "日本", "\"quoted\"", "back\\slash", "The", "it's", "#tag,"];
    const KINDS: f64 = 5_000.0;
    const BLANKS: [&str; 8] = [" ", " ", " ", " ", " ", "  ", "\t", " \t "];
    let mut random = Random(seed);
    let line = |_| {
        let mut line = String::new();
        if random.below(10) == 0 {
            line.push_str(BLANKS[random.below(8) as usize]);
        }
        for word in 0..random.below(9) {
            if word > 0 {
                line.push_str(BLANKS[random.below(8) as usize]);
            }
            // The word of rank r has a share of about 1/r (Zipf's law).
            let share = random.below(1 << 53) as f64 / (1_u64 << 53) as f64;
            let rank = KINDS.powf(share) as usize - 1;
            match FREQUENT.get(rank) {
                Some(word) => line.push_str(word),
                None => line.push_str(&format!("w{rank}")),
            }
        }
        if random.below(10) == 0 {
            line.push_str(BLANKS[random.below(8) as usize]);
        }
        line
    };
    (0..count).map(line).collect()
}

/// The words of a text file as `sort | uniq -c` counts them.
pub fn counted_by_sort_and_uniq(file: &Path) -> Counts {
    let mut command = Command::new("sh");
    let pipeline = "tr -s '[:space:]' '\\n' < \"$0\" | grep -v '^$' | sort | uniq -c";
    command.env("LC_ALL", "C").args(["-c", pipeline]).arg(file);
    let counted = |line: &str| {
        let (count, word) = line.trim_start().split_once(' ').expect("a count and a word");
        (word.to_owned(), count.parse().expect("a count"))
    };
    output(command, "").lines().map(counted).collect()
}

/// A record of a word count's output: at the batch time `time`, `word` had `count`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub partition: i32,
    pub time: i64,
    pub word: String,
    pub count: u64,
}

impl Broker {
    /// The records of an output topic, which must be `{"word": KEY, FIELD: a number}` and nothing else.
    #[track_caller]
    pub fn read_counts(&self, topic: &str, field: &str) -> Vec<Counted> {
        let counted = |row: &Row| {
            let word = row.key_text();
            let value: serde_json::Value = serde_json::from_slice(row.value.as_deref().unwrap()).unwrap();
            let count = value[field].as_u64().unwrap_or_else(|| panic!("{topic}: no {field} in {value}"));
            assert_eq!(value, serde_json::json!({ "word": word, field: count }), "{topic}");
            Counted { partition: row.partition, time: row.timestamp, word, count }
        };
        self.read(topic).iter().map(counted).collect()
    }
}

/// The sum of what was counted, by word.
pub fn sums<'a>(counted: impl IntoIterator<Item = &'a Counted>) -> Counts {
    let mut sums = Counts::new();
    for it in counted {
        *sums.entry(it.word.clone()).or_default() += it.count;
    }
    sums
}

/// The last count of each word.
pub fn last(counted: &[Counted]) -> Counts {
    counted.iter().map(|it| (it.word.clone(), it.count)).collect()
}

/// Panics where a word's count follows a greater one, or, if `strictly`, the same one.
#[track_caller]
pub fn assert_growing(counted: &[Counted], strictly: bool) {
    let mut before = BTreeMap::new();
    for it in counted {
        let place = (it.partition, &it.word);
        if let Some(before) = before.insert(place, it.count) {
            assert!(before < it.count || !strictly && before == it.count, "{it:?} follows {before}");
        }
    }
}

/// Panics if two maps differ, with the first differences and not with all that they have in common.
#[track_caller]
pub fn assert_same_counts(found: &Counts, expected: &Counts) {
    let words = found.keys().chain(expected.keys());
    let differing = words.filter(|word| found.get(*word) != expected.get(*word));
    let shown: Vec<_> = differing.map(|word| (word, found.get(word), expected.get(word))).take(10).collect();
    assert!(shown.is_empty(), "word, found, expected: {shown:?}");
}
