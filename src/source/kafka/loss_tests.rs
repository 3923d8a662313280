use rdkafka::ClientConfig;

use super::*;
use crate::rdd::Runner;
use crate::source::kafka::client::Events;
use crate::source::kafka::reader::Answer;
use crate::source::kafka::{Headers, KafkaSource};
use crate::time::Duration;

fn range(from: i64, until: i64) -> OffsetRange {
    OffsetRange { topic: "t".into(), partition: 0, from, until }
}

/// Every offset below `has` has a record; at the others the broker gives an answer.
struct UpTo<F>(i64, F);

impl<F: Fn() -> Answer + Send + Sync> SliceReader for UpTo<F> {
    fn read(&self, range: &OffsetRange, visit: &mut dyn FnMut(&[Record<'_>]) -> Flow) -> Flow {
        for offset in range.from..range.until {
            if offset >= self.0 {
                return Err((self.1)().error(range, offset).into());
            }
            visit(&[Record {
                topic: &range.topic,
                partition: range.partition,
                offset,
                timestamp: None,
                key: None,
                value: None,
                headers: Headers::owned(&[]),
            }])?;
        }
        Ok(())
    }
}

/// Its broker is nowhere: whatever asks it, fails.
fn surviving(reader: impl SliceReader + 'static, on_data_loss: OnDataLoss) -> Surviving {
    let client = ClientConfig::new()
        .set("bootstrap.servers", "127.0.0.1:1")
        .set("group.id", "t")
        .create_with_context(Events::new("t", "localhost:9"))
        .unwrap();
    let cluster = Cluster {
        client: Arc::new(client),
        runner: Arc::new(Runner::new(1, 1, 0, None).unwrap()),
        config: Arc::new(KafkaSource::new("127.0.0.1:1", ["t"]).wait(Duration::ZERO)),
        away: Arc::default(),
    };
    Surviving { reader: Arc::new(reader), cluster, on_data_loss, losses: Arc::default() }
}

fn failure(flow: Flow) -> Error {
    match flow {
        Err(Stop::Failed(error)) => *error,
        _ => panic!("it did not fail"),
    }
}

#[test]
fn what_the_visitor_fails_with_is_its_own_affair() {
    for policy in [OnDataLoss::Fail, OnDataLoss::Earliest, OnDataLoss::Latest] {
        let reader = surviving(UpTo(9, || Answer::Gone), policy);
        let mut seen = 0;
        let read = reader.read(&range(0, 9), &mut |_| {
            seen += 1;
            Err(Error::data("record t-0 at offset 0 is bad").into())
        });
        assert_eq!(failure(read).to_string(), "record t-0 at offset 0 is bad", "{policy:?}");
        let peeked = reader.peek(&range(0, 9), 0, &mut |_, _| Err(Error::data("bad").into()));
        assert_eq!(failure(peeked).to_string(), "bad", "{policy:?}");
        assert_eq!((seen, reader.losses.take()), (1, vec![]), "{policy:?}");
    }
}

#[test]
fn a_slice_ends_where_its_topic_was_deleted() {
    let reader = surviving(UpTo(5, || Answer::NoTopic), OnDataLoss::Fail);
    let told = failure(reader.read(&range(2, 9), &mut |_| Ok(()))).to_string();
    assert!(
        told.contains("t-0 [5, 9)") && told.contains("deleted") && told.contains("`on_data_loss`"),
        "{told}"
    );

    for policy in [OnDataLoss::Earliest, OnDataLoss::Latest] {
        let reader = surviving(UpTo(5, || Answer::NoTopic), policy);
        let mut offsets = Vec::new();
        let read = reader.read(&range(2, 9), &mut |records| {
            offsets.extend(records.iter().map(|record| record.offset));
            Ok(())
        });
        assert!(read.is_ok());
        assert_eq!((offsets, reader.losses.take()), (vec![2, 3, 4], vec![range(5, 9)]), "{policy:?}");
    }
}

/// A look is shown the first record alone.
struct Glancing(UpTo<fn() -> Answer>);

impl SliceReader for Glancing {
    fn read(&self, range: &OffsetRange, visit: &mut dyn FnMut(&[Record<'_>]) -> Flow) -> Flow {
        let from = range.from;
        self.0.read(range, &mut |read| if read[0].offset == from { visit(&read[..1]) } else { Ok(()) })
    }
}

#[test]
fn what_a_look_was_not_shown_is_not_lost() {
    let reader = surviving(Glancing(UpTo(5, || Answer::NoTopic)), OnDataLoss::Earliest);
    let mut seen = Vec::new();
    let peeked = reader.peek(&range(2, 9), 0, &mut |offset, _| {
        seen.push(offset);
        Ok(())
    });
    assert!(peeked.is_ok());
    assert_eq!((seen, reader.losses.take()), (vec![2], vec![range(5, 9)]));
}

#[test]
fn what_is_lost_is_told_once_until_its_topic_is_another() {
    let losses = Losses::default();
    losses.note(range(5, 9), "");
    losses.note(range(7, 9), "");
    losses.note(range(5, 9), "");
    // As far as it goes beyond what is known, at either side.
    losses.note(range(2, 12), "");
    losses.note(range(20, 20), "");
    assert_eq!(losses.take(), [range(5, 9), range(2, 5), range(9, 12)]);
    losses.forget("other");
    losses.note(range(5, 9), "");
    assert_eq!(losses.take(), []);
    losses.forget("t");
    losses.note(range(5, 9), "");
    assert_eq!(losses.take(), [range(5, 9)]);
}
