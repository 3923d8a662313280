//! What every reader of slices must give: the same records, whatever way the broker has them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tidemill::testing::TestContext;
use tidemill::{ConsumerRecord, KafkaSource, Reader, Start, StreamingContext};

use crate::support::{Broker, certificate, eventually, unique_name};

const LIMIT: Duration = Duration::from_secs(60);
const READERS: [Reader; 2] = [Reader::Native, Reader::RdKafka];
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// All records of `source`, which one batch has, in order of partition and offset.
fn read(source: KafkaSource) -> Vec<ConsumerRecord> {
    let test = TestContext::new(&unique_name("readers")).unwrap();
    let records = test.collect(&test.ssc.kafka_direct_stream(source).records());
    test.run(1).unwrap();
    let mut records: Vec<_> = records.take().into_iter().flat_map(|(_, records)| records).collect();
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

fn source(broker: &Broker, topic: &str, reader: Reader) -> KafkaSource {
    KafkaSource::new(broker.bootstrap(), [topic]).start(Start::Earliest).reader(reader)
}

fn producer(bootstrap: &str, settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("linger.ms", "20").set("message.max.bytes", "3000000");
    settings.iter().fold(&mut config, |config, (name, value)| config.set(*name, *value)).create().unwrap()
}

/// A record of any kind: with and without key, value and headers, and now and then a large one.
fn any_record(topic: &str, i: i64) -> ConsumerRecord {
    let value = match i % 7 {
        0 => None,
        1 => Some(Vec::new()),
        _ if i == 500 => {
            Some((0..900_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect())
        }
        _ => Some(format!("value {i} ").repeat(1 + (i % 40) as usize).into_bytes()),
    };
    let header = |name: &str, value: Option<&[u8]>| (name.to_owned(), value.map(<[u8]>::to_vec));
    ConsumerRecord {
        topic: topic.to_owned(),
        partition: (i % 2) as i32,
        offset: i / 2,
        timestamp: Some(1_700_000_000_000 + i * 3 % 1_000),
        key: (i % 3 > 0).then(|| format!("key {i}").into_bytes()),
        value,
        headers: if i % 5 == 0 {
            vec![header("h", Some(b"1")), header("h", None), header("naïve", Some(&[0xff, 0]))]
        } else {
            Vec::new()
        },
    }
}

fn send(producer: &BaseProducer, record: &ConsumerRecord) {
    let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: value.as_deref() })
    });
    let message = BaseRecord::<[u8], [u8]> {
        partition: Some(record.partition),
        timestamp: record.timestamp,
        key: record.key.as_deref(),
        payload: record.value.as_deref(),
        headers: Some(headers),
        ..BaseRecord::to(&record.topic)
    };
    producer.send(message).map_err(|(error, _)| error).unwrap();
}

#[test]
fn records_of_every_kind_come_through_every_compression() {
    let broker = Broker::shared();
    for codec in CODECS {
        let topic = unique_name("codec");
        broker.create_topic_with(&topic, 2, &[("max.message.bytes", "3000000"), ("retention.ms", "-1")]);
        let sent: Vec<_> = (0..3_000).map(|i| any_record(&topic, i)).collect();
        let producer = producer(broker.bootstrap(), &[("compression.type", codec)]);
        sent.iter().for_each(|record| send(&producer, record));
        producer.flush(LIMIT).unwrap();
        let mut wanted = sent;
        wanted.sort_by_key(|record| (record.partition, record.offset));
        for reader in READERS {
            let found = read(source(broker, &topic, reader).option("fetch.message.max.bytes", "65536"));
            assert_eq!(found.len(), wanted.len(), "{codec}, {reader:?}");
            let other = found.iter().zip(&wanted).find(|(found, wanted)| found != wanted);
            assert!(other.is_none(), "{codec}, {reader:?}: {other:?}");
        }
    }
}

#[test]
fn aborted_records_of_several_producers_are_not_seen_in_any_compression() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("aborts", 1);
    let mut wanted = Vec::new();
    let producers: Vec<_> = CODECS
        .iter()
        .map(|codec| {
            let id = unique_name("aborts");
            let producer =
                producer(broker.bootstrap(), &[("compression.type", codec), ("transactional.id", &id)]);
            producer.init_transactions(LIMIT).unwrap();
            producer
        })
        .collect();
    // Transactions of two producers lie into each other; every other one is aborted.
    for round in 0..20 {
        let pair = [round % CODECS.len(), (round + 1) % CODECS.len()];
        for turn in pair {
            producers[turn].begin_transaction().unwrap();
        }
        for part in 0..3 {
            for (place, turn) in pair.into_iter().enumerate() {
                let value = format!("round {round}, part {part}, producer {turn}");
                producers[turn]
                    .send(BaseRecord::<(), str>::to(&topic).payload(&value))
                    .map_err(|(e, _)| e)
                    .unwrap();
                producers[turn].flush(LIMIT).unwrap();
                if (round + place) % 2 == 0 {
                    wanted.push(value);
                }
            }
        }
        for (place, turn) in pair.into_iter().enumerate() {
            match (round + place) % 2 {
                0 => producers[turn].commit_transaction(LIMIT).unwrap(),
                _ => producers[turn].abort_transaction(LIMIT).unwrap(),
            }
        }
    }
    // A transaction may be seen only a moment after it was committed.
    eventually(LIMIT, "the end of the last transaction", || {
        let count = broker.read(&topic).len();
        if count == wanted.len() { Ok(()) } else { Err(format!("{count} of {}", wanted.len())) }
    });
    for reader in READERS {
        // Slices that begin and end anywhere must not change what is aborted.
        for most in [1_000_000, 7] {
            let test = TestContext::new(&unique_name("aborts")).unwrap();
            let stream =
                test.ssc.kafka_direct_stream(source(broker, &topic, reader).max_records_per_batch(most));
            let records = test.collect(&stream.records());
            test.run(if most == 7 { 24 } else { 1 }).unwrap();
            let found: Vec<_> = records.take().into_iter().flat_map(|(_, records)| records).collect();
            let found: Vec<_> =
                found.into_iter().map(|r| String::from_utf8(r.value.unwrap()).unwrap()).collect();
            assert_eq!(found, wanted, "{reader:?}, at most {most}");
        }
    }
}

#[test]
fn a_large_slice_of_one_partition_is_read_in_parts() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("parts", 1);
    let count = 300_000_u64;
    let producer = producer(broker.bootstrap(), &[("queue.buffering.max.messages", "1000000")]);
    for i in 0..count {
        producer.send(BaseRecord::<(), str>::to(&topic).payload(&i.to_string())).map_err(|(e, _)| e).unwrap();
    }
    producer.flush(LIMIT).unwrap();
    for (reader, parts) in [(Reader::Native, 4), (Reader::RdKafka, 1)] {
        let test = TestContext::new(&unique_name("parts")).unwrap();
        let stream =
            test.ssc.kafka_direct_stream(source(broker, &topic, reader).max_bytes_per_batch(1 << 40));
        let numbers = stream.map(|record| record.text().parse::<u64>().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        numbers.foreach_rdd(move |rdd| {
            let ranges = rdd.offset_ranges().unwrap_or_default();
            let values = rdd.glom().collect()?;
            // Partition i is what stands in range i.
            for (range, values) in ranges.iter().zip(&values) {
                assert!(values.iter().copied().eq(range.from as u64..range.until as u64), "{range}");
            }
            noted.lock().unwrap().push((ranges.len(), values.concat().len() as u64));
            Ok::<_, tidemill::Error>(())
        });
        test.run(1).unwrap();
        assert_eq!(*seen.lock().unwrap(), [(parts, count)], "{reader:?}");
        assert_eq!(test.completed_batches()[0].num_records, count);
    }
}

#[test]
fn reading_goes_on_after_the_leader_was_killed() {
    let mut broker = Broker::start();
    broker.create_topic("restarts", 2);
    let values = |n: std::ops::Range<u32>| n.map(|i| i.to_string());
    broker.produce("restarts", values(0..50));
    let running = READERS.map(|reader| {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = seen.clone();
        let builder = StreamingContext::builder(unique_name("restarts"));
        let ssc = builder.batch_interval(Duration::from_millis(100)).build().unwrap();
        let stream = ssc.kafka_direct_stream(source(&broker, "restarts", reader));
        stream.map(|record| record.text().parse::<u32>().unwrap()).foreach_rdd(move |rdd| {
            noted.lock().unwrap().extend(rdd.collect()?);
            Ok::<_, tidemill::Error>(())
        });
        ssc.start().unwrap();
        (reader, ssc, seen)
    });
    let until = |count: usize| {
        for (reader, _, seen) in &running {
            eventually(LIMIT, "the records", || match seen.lock().unwrap().len() {
                all if all >= count => Ok(()),
                some => Err(format!("{reader:?}: {some} of {count}")),
            });
        }
    };
    until(50);
    broker.kill();
    broker.restart();
    broker.produce("restarts", values(50..100));
    until(100);
    for (reader, ssc, seen) in running {
        ssc.stop(true).unwrap();
        let mut seen = std::mem::take(&mut *seen.lock().unwrap());
        seen.sort_unstable();
        assert!(seen.iter().copied().eq(0..100), "{reader:?}: {seen:?}");
    }
}

#[test]
fn an_option_that_only_librdkafka_understands_is_refused_by_the_native_reader() {
    let broker = Broker::shared();
    let topic = broker.unique_topic("options", 1);
    broker.produce(&topic, ["a"]);
    let with = |reader| source(broker, &topic, reader).option("fetch.min.bytes", "1");
    let ssc = StreamingContext::builder(unique_name("options")).build().unwrap();
    ssc.kafka_direct_stream(with(Reader::Native)).records().foreach_rdd(|_| ());
    let error = ssc.start().unwrap_err();
    assert_eq!(error.kind(), tidemill::ErrorKind::Config);
    assert!(error.to_string().contains("`fetch.min.bytes`"), "{error}");
    assert_eq!(read(with(Reader::Auto)).len(), 1);
}

#[test]
fn tls_and_every_way_to_log_in_are_spoken() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, own, key) = certificate(folder.path());
    let (broker, [tls, plain, both]) = Broker::start_secure(&own, &key);
    broker.create_topic("secret", 1);
    broker.produce("secret", ["a", "b", "c"]);
    let login = |mechanism: &'static str| {
        vec![("sasl.mechanism", mechanism), ("sasl.username", "alice"), ("sasl.password", "alice's secret")]
    };
    let protocol = |name: &'static str, more: Vec<(&'static str, &'static str)>| {
        [vec![("security.protocol", name)], more].concat()
    };
    let ways = [
        (&tls, protocol("ssl", vec![]), true),
        (&plain, protocol("sasl_plaintext", login("PLAIN")), false),
        (&plain, protocol("sasl_plaintext", login("SCRAM-SHA-256")), false),
        (&both, protocol("sasl_ssl", login("SCRAM-SHA-512")), true),
    ];
    for (address, options, by_tls) in &ways {
        for reader in READERS {
            let mut source =
                KafkaSource::new(address.as_str(), ["secret"]).start(Start::Earliest).reader(reader);
            for (name, value) in options {
                source = source.option(*name, *value);
            }
            if *by_tls {
                source = source.option("ssl.ca.location", &ca);
            }
            assert_eq!(read(source).len(), 3, "{reader:?}, {options:?}");
        }
    }
}
