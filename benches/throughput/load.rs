//! The topics, which are the same at every run: lines of words, and events of ads.

use std::fmt::Write as _;
#[cfg(target_os = "linux")]
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::support::Broker;
use crate::truth::Truth;
use crate::{PARTITIONS, Setting};

/// The first record's time: a multiple of every window, and long past.
pub const BASE_MS: i64 = 1_600_000_000_000 - 1_600_000_000_000 % 30_000;
/// How much time the records span.
pub const SPAN_MS: i64 = 40_000;
/// What grep looks for.
pub const NEEDLE: &str = "zyzzyva";
const NEEDLE_RANK: usize = 9_000;
const VOCABULARY: usize = 10_000;
const SLOTS: usize = 1 << 20;
pub const CAMPAIGNS: usize = 100;
const ADS: usize = 1_000;

/// Numbers that look random and depend on the seed alone (SplitMix64).
pub struct Numbers(u64);

impl Numbers {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

/// The time of record `i` of `n`.
pub fn time_of(i: u64, n: u64) -> i64 {
    BASE_MS + (i as i128 * i128::from(SPAN_MS) / i128::from(n.max(1))) as i64
}

/// 10,000 words of three to eight letters, by rank. No other holds the needle's `z`.
pub fn vocabulary() -> Vec<String> {
    let (mut numbers, mut seen, mut words) = (Numbers(7), std::collections::HashSet::new(), Vec::new());
    while words.len() < VOCABULARY {
        let length = 3 + numbers.below(6);
        let word: String = (0..length).map(|_| (b'a' + numbers.below(25) as u8) as char).collect();
        if seen.insert(word.clone()) {
            words.push(word);
        }
    }
    words[NEEDLE_RANK] = NEEDLE.to_owned();
    words
}

/// Ranks, each as often as Zipf's law has it.
fn zipf() -> Vec<u16> {
    let total: f64 = (1..=VOCABULARY).map(|rank| 1.0 / rank as f64).sum();
    let (mut slots, mut sum) = (Vec::with_capacity(SLOTS), 0.0);
    for rank in 0..VOCABULARY {
        sum += 1.0 / (rank + 1) as f64;
        slots.resize(((sum / total * SLOTS as f64) as usize).min(SLOTS), rank as u16);
    }
    slots.resize(SLOTS, 0);
    slots
}

fn id(numbers: &mut Numbers) -> String {
    let (a, b) = (numbers.next(), numbers.next());
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}

/// Makes the topics and fills them; gives what the answers must be.
pub fn load(broker: &Broker, setting: &Setting, compression: &str) -> Truth {
    for topic in ["words", "ads"] {
        // The records are older than what a broker keeps unless told.
        broker.create_topic_with(topic, PARTITIONS, &[("retention.ms", "-1"), ("retention.bytes", "-1")]);
    }
    let mut sender = Sender::new(broker, compression);
    let mut truth = Truth::new(vocabulary());
    words(&mut sender, setting.records, &mut truth);
    ads(&mut sender, setting.records / 2, &mut truth, setting);
    sender.flush();
    hold(broker);
    truth
}

/// Maps the topics' files for as long as this process runs.
fn hold(broker: &Broker) {
    for (topic, partition) in
        ["words", "ads"].iter().flat_map(|topic| (0..PARTITIONS).map(move |p| (topic, p)))
    {
        let first = broker.log_segment(topic, partition);
        for entry in std::fs::read_dir(first.parent().unwrap()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                hold_file(&path);
            }
        }
    }
}

/// Maps a file for as long as this process runs: a system may take out of memory what nobody has mapped, though it is read
/// again and again, and whose turn it is then would be measured reading a disk.
#[cfg(target_os = "linux")]
pub fn hold_file(path: &Path) {
    let file = std::fs::File::open(path).unwrap();
    let length = file.metadata().unwrap().len() as usize;
    let (read, shared) = (libc::PROT_READ, libc::MAP_SHARED | libc::MAP_POPULATE);
    // SAFETY: where the pages go is for the system to choose, and nobody reads them here.
    unsafe { libc::mmap(std::ptr::null_mut(), length, read, shared, file.as_raw_fd(), 0) };
}

#[cfg(not(target_os = "linux"))]
pub fn hold_file(_: &Path) {}

fn words(sender: &mut Sender, records: u64, truth: &mut Truth) {
    let (vocabulary, zipf) = (vocabulary(), zipf());
    let mut line = String::new();
    for i in 0..records {
        let mut numbers = Numbers(i.wrapping_mul(0x2545_f491_4f6c_dd1d));
        line.clear();
        let (time, mut found) = (time_of(i, records), false);
        for place in 0..14 + numbers.below(5) {
            if place > 0 {
                line.push(' ');
            }
            let rank = usize::from(zipf[numbers.below(SLOTS)]);
            line.push_str(&vocabulary[rank]);
            truth.word(time, rank);
            found |= rank == NEEDLE_RANK;
        }
        if found {
            truth.lines.push(line.clone());
        }
        sender.send("words", i, time, line.as_bytes());
    }
}

fn ads(sender: &mut Sender, records: u64, truth: &mut Truth, setting: &Setting) {
    let mut numbers = Numbers(11);
    let mut ids = |count: usize| (0..count).map(|_| id(&mut numbers)).collect::<Vec<_>>();
    let (campaigns, ads, users, pages) = (ids(CAMPAIGNS), ids(ADS), ids(100), ids(100));
    let campaign_of = |ad: usize| &campaigns[ad / (ADS / CAMPAIGNS)];
    let csv: String = ads.iter().enumerate().map(|(i, ad)| format!("{ad},{}\n", campaign_of(i))).collect();
    std::fs::write(setting.folder.join("campaigns.csv"), &csv).unwrap();
    std::fs::write(setting.folder.join("campaigns-with-header.csv"), format!("ad_id,campaign_id\n{csv}"))
        .unwrap();
    let mut event = String::new();
    for i in 0..records {
        let mut numbers = Numbers(i.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 5);
        let (ad, kind, time) = (numbers.below(ADS), numbers.below(3), time_of(i, records));
        event.clear();
        write!(
            event,
            r#"{{"user_id":"{}","page_id":"{}","ad_id":"{}","ad_type":"{}","event_type":"{}","event_time":"{time}","ip_address":"1.2.3.4"}}"#,
            users[numbers.below(100)],
            pages[numbers.below(100)],
            ads[ad],
            ["banner", "modal", "sponsored-search", "mail", "mobile"][numbers.below(5)],
            ["view", "click", "purchase"][kind],
        )
        .unwrap();
        if kind == 0 {
            truth.view(time, campaign_of(ad));
        }
        sender.send("ads", i, time, event.as_bytes());
    }
}

struct Sender(BaseProducer);

impl Sender {
    fn new(broker: &Broker, compression: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", broker.bootstrap())
            .set("linger.ms", "50")
            .set("batch.size", "262144")
            .set("batch.num.messages", "100000")
            .set("acks", "1")
            .set("compression.type", compression)
            .set("queue.buffering.max.messages", "1000000")
            .create()
            .unwrap();
        Self(producer)
    }

    fn send(&mut self, topic: &str, i: u64, time: i64, value: &[u8]) {
        let partition = (i % PARTITIONS as u64) as i32;
        let record = || BaseRecord::<(), [u8]>::to(topic).partition(partition).timestamp(time).payload(value);
        while self.0.send(record()).is_err() {
            self.0.poll(Duration::from_millis(10));
        }
        if i.is_multiple_of(10_000) {
            self.0.poll(Duration::ZERO);
        }
    }

    fn flush(&self) {
        self.0.flush(Duration::from_secs(300)).unwrap();
    }
}
