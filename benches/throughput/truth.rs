//! What the answers must be, counted while the records were made.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use crate::UPDATE_STATE_BY_KEY;
use crate::load::{BASE_MS, SPAN_MS};
use crate::support::Row;

/// The windows slide by this.
const SLIDE_MS: i64 = 10_000;
const SLIDES: usize = (SPAN_MS / SLIDE_MS) as usize + 1;
/// A window of words spans so many slides.
const WINDOW: usize = 3;
/// So many words of each window are the most frequent ones.
const TOP: usize = 10;

pub struct Truth {
    vocabulary: Vec<String>,
    /// Of each word, how often it came in each stretch of ten seconds.
    words: Vec<[u64; SLIDES]>,
    /// The lines with the needle, in order.
    pub lines: Vec<String>,
    views: HashMap<String, [u64; SLIDES]>,
}

fn slide(time: i64) -> usize {
    ((time - BASE_MS) / SLIDE_MS) as usize
}

impl Truth {
    pub fn new(vocabulary: Vec<String>) -> Self {
        let words = vec![[0; SLIDES]; vocabulary.len()];
        Self { vocabulary, words, lines: Vec::new(), views: HashMap::new() }
    }

    pub fn word(&mut self, time: i64, rank: usize) {
        self.words[rank][slide(time)] += 1;
    }

    pub fn view(&mut self, time: i64, campaign: &str) {
        if !self.views.contains_key(campaign) {
            self.views.insert(campaign.to_owned(), [0; SLIDES]);
        }
        self.views.get_mut(campaign).unwrap()[slide(time)] += 1;
    }

    /// How often each word came.
    pub fn totals(&self) -> HashMap<String, u64> {
        let counts = self.vocabulary.iter().cloned().zip(self.words.iter().map(|slides| slides.iter().sum()));
        counts.filter(|(_, n)| *n > 0).collect()
    }

    /// Campaign and end of window, and how often its ads were seen.
    pub fn views(&self) -> HashMap<(String, i64), u64> {
        let windows = self.views.iter().flat_map(|(campaign, slides)| {
            slides
                .iter()
                .enumerate()
                .map(move |(i, n)| ((campaign.clone(), BASE_MS + (i as i64 + 1) * SLIDE_MS), *n))
        });
        windows.filter(|(_, n)| *n > 0).collect()
    }

    /// Word and end of window, and how often it came, for the windows that end within the records and, as they drain, after them.
    fn windows(&self) -> HashMap<(String, i64), u64> {
        let mut windows = HashMap::new();
        for (word, slides) in self.vocabulary.iter().zip(&self.words) {
            for end in 1..SLIDES + WINDOW {
                let within = end.saturating_sub(WINDOW)..end.min(SLIDES);
                let n: u64 = slides[within].iter().sum();
                if n > 0 {
                    windows.insert((word.clone(), BASE_MS + end as i64 * SLIDE_MS), n);
                }
            }
        }
        windows
    }

    /// End of window, word and count of the most frequent words of each window, in their order, as far as `windows` goes.
    fn tops(&self) -> Vec<((String, i64), u64)> {
        let mut windows: Vec<_> = self.windows().into_iter().collect();
        windows.sort_by(|((a, end), n), ((b, other), m)| (end, Reverse(n), a).cmp(&(other, Reverse(m), b)));
        let mut tops: Vec<((String, i64), u64)> = Vec::new();
        for window in windows.chunk_by(|((_, end), _), ((_, other), _)| end == other) {
            tops.extend_from_slice(&window[..window.len().min(TOP)]);
        }
        tops
    }

    /// Whether `rows` are what the workload must give, as `system` gives it.
    pub fn check(&self, system: &str, workload: &str, rows: &[Row]) -> bool {
        let right = match workload {
            "grep" => {
                let (mut found, mut wanted): (Vec<_>, _) =
                    (rows.iter().map(line).collect(), self.lines.clone());
                found.sort();
                wanted.sort();
                found == wanted
            }
            "wordcount" => {
                let mut counts: HashMap<String, u64> = HashMap::new();
                for row in rows {
                    *counts.entry(row.key_text()).or_default() += number(&row.text());
                }
                counts == self.totals()
            }
            // The last record of a word is its total, and each is larger than the one before; where all totals come with each batch, some stay.
            "statecount" => {
                let may_stay = system == UPDATE_STATE_BY_KEY;
                let mut totals: HashMap<String, u64> = HashMap::new();
                let rise = rows.iter().all(|row| {
                    let n = number(&row.text());
                    let before = totals.insert(row.key_text(), n);
                    before.is_none_or(|before| before < n || may_stay && before == n)
                });
                rise && totals == self.totals()
            }
            "windowcount" => windowed(rows).is_some_and(|found| {
                let truth = self.windows();
                let right = covers(&found, &truth);
                if !right {
                    let ends: BTreeMap<i64, usize> =
                        found.keys().fold(BTreeMap::new(), |mut ends, (_, end)| {
                            *ends.entry(*end - BASE_MS).or_default() += 1;
                            ends
                        });
                    let wrong = found.iter().find(|(key, n)| truth.get(*key) != Some(*n));
                    println!("words by end of window: {ends:?}; a wrong one: {wrong:?}");
                }
                right
            }),
            // In their order, which is that of the topic's one partition; windows that drain need not be there.
            "topk" => counted(rows).is_some_and(|found| {
                let tops = self.tops();
                let within = tops.iter().filter(|((_, end), _)| *end <= BASE_MS + SPAN_MS).count();
                found.len() >= within && tops.starts_with(&found)
            }),
            "ysb" => windowed(rows).is_some_and(|found| found == self.views()),
            _ => false,
        };
        if !right {
            let last = rows.last().map(|row| (row.key_text(), row.text()));
            println!(
                "{workload}: {} records that are not what they must be; the last one: {last:?}",
                rows.len()
            );
        }
        right
    }
}

/// Windows that drain after the last record need not be there; all others must, and each that is there must be right.
fn covers(found: &HashMap<(String, i64), u64>, truth: &HashMap<(String, i64), u64>) -> bool {
    let within = |end: &i64| *end <= BASE_MS + SPAN_MS;
    found.iter().all(|(key, n)| truth.get(key) == Some(n))
        && truth.keys().filter(|(_, end)| within(end)).all(|key| found.contains_key(key))
}

/// A line, as it is or as the one member of an object.
fn line(row: &Row) -> String {
    match serde_json::from_str::<BTreeMap<String, String>>(&row.text()) {
        Ok(mut object) => object.remove("line").unwrap_or_default(),
        Err(_) => row.text(),
    }
}

fn number(text: &str) -> u64 {
    // A pipeline file's output is an object with one number in it.
    match serde_json::from_str::<BTreeMap<String, serde_json::Value>>(text) {
        Ok(object) => object.values().find_map(serde_json::Value::as_u64).unwrap_or(u64::MAX),
        Err(_) => text.parse().unwrap_or(u64::MAX),
    }
}

/// Key, end of window, and count of each record; none if one tells something else.
fn counted(rows: &[Row]) -> Option<Vec<((String, i64), u64)>> {
    let count = |row: &Row| {
        let text = row.text();
        let (end, n) = match serde_json::from_str::<BTreeMap<String, serde_json::Value>>(&text) {
            // Records of a batch bear its time.
            Ok(object) => (row.timestamp, object.get("n")?.as_u64()?),
            Err(_) => text.split_once(' ').and_then(|(end, n)| Some((end.parse().ok()?, n.parse().ok()?)))?,
        };
        Some(((row.key_text(), end), n))
    };
    rows.iter().map(count).collect()
}

/// The same by key and end of window; none if a key came twice for a window.
fn windowed(rows: &[Row]) -> Option<HashMap<(String, i64), u64>> {
    let found: HashMap<_, _> = counted(rows)?.into_iter().collect();
    (found.len() == rows.len()).then_some(found)
}
