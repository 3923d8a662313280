//! What the consumer group holds for this application: the next offset to read per partition, and beside it the time of
//! the batch that committed it.

use std::collections::BTreeSet;
use std::sync::mpsc;

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::error_text;
use super::source::KafkaInput;
use crate::error::{Error, Result};
use crate::rdd::Runner;
use crate::source::{GroupOffset, GroupOffsets, Input, InputPosition, Marker};
use crate::time::Time;

/// Leads the metadata of offsets that this application committed.
const MARK: &str = "tidemill:";

/// The metadata of offsets that are committed with `marker`.
fn marker_text(marker: Marker) -> String {
    format!("{MARK}{}:{:x}", marker.time.as_millis(), marker.run)
}

/// The batch that committed an offset with this metadata, if it was one of ours.
fn marker_of(metadata: &str) -> Option<Marker> {
    let (time, run) = metadata.strip_prefix(MARK)?.split_once(':')?;
    Some(Marker { time: Time::from_millis(time.parse().ok()?), run: u64::from_str_radix(run, 16).ok()? })
}

/// `offsets` as Kafka takes them, each marked with the batch that commits them.
pub(crate) fn marked_list<'a>(
    offsets: impl Iterator<Item = (&'a str, i32, i64)>,
    marker: Option<Marker>,
) -> Result<TopicPartitionList> {
    let refused =
        |e: rdkafka::error::KafkaError| Error::internal("librdkafka refused an offset").with_source(e);
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in offsets {
        let mut element = list.add_partition(topic, partition);
        element.set_offset(Offset::Offset(offset)).map_err(refused)?;
        if let Some(marker) = marker {
            element.set_metadata(marker_text(marker));
        }
    }
    Ok(list)
}

/// What Kafka told; partitions without a committed offset are left out.
pub(crate) fn group_offsets(list: &TopicPartitionList) -> GroupOffsets {
    let told = |element: &TopicPartitionListElem<'_>| match element.offset() {
        Offset::Offset(offset) => Some((
            (element.topic().to_owned(), element.partition()),
            GroupOffset { offset, marker: marker_of(element.metadata()) },
        )),
        _ => None,
    };
    list.elements().iter().filter_map(told).collect()
}

impl KafkaInput {
    /// Commits `position` to the consumer group; with `wait`, tells the outcome.
    pub(super) fn commit_to_group(
        &self,
        position: &InputPosition,
        marker: Option<Marker>,
        wait: bool,
    ) -> Result<()> {
        let (InputPosition::Offsets(offsets), Some(reached)) = (position, &*self.reached.read()) else {
            return Ok(());
        };
        // Of a topic that was found to be gone since the last batch, Kafka would take nothing.
        let known: BTreeSet<_> = reached.found.partitions.iter().map(|(topic, p)| (&**topic, *p)).collect();
        let there = offsets.iter().map(|((t, p), offset)| (t.as_str(), *p, *offset));
        let there = there.filter(|(topic, partition, _)| known.contains(&(*topic, *partition)));
        let list = marked_list(there, marker)?;
        self.committed(position);
        if list.count() == 0 {
            return Ok(());
        }
        let failed = |e: rdkafka::error::KafkaError| {
            Error::unavailable(format!(
                "cannot commit the offsets of group `{}`: {}",
                self.group,
                error_text(&e)
            ))
        };
        if !wait {
            return reached.cluster.client.commit(&list, CommitMode::Async).map_err(failed);
        }
        // librdkafka's own wait has no end, and a stop must have one.
        let (done, outcome) = mpsc::channel();
        let consumer = reached.cluster.client.clone();
        std::thread::spawn(move || done.send(consumer.commit(&list, CommitMode::Sync)));
        match outcome.recv_timeout(Runner::STOP_PATIENCE) {
            Ok(result) => result.map_err(failed),
            Err(_) => Err(Error::unavailable(format!(
                "the last offsets of group `{}` could not be committed within {} s; the checkpoint has them, and the \
                 group follows at the next start",
                self.group,
                Runner::STOP_PATIENCE.as_secs()
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_markers_come_back() {
        let batch = Marker { time: Time::from_millis(12_000), run: 0xabc };
        let list = marked_list([("in", 0, 5), ("in", 1, 7)].into_iter(), Some(batch)).unwrap();
        let group = group_offsets(&list);
        let ours = |offset| GroupOffset { offset, marker: Some(batch) };
        assert_eq!(group, [(("in".into(), 0), ours(5)), (("in".into(), 1), ours(7))].into());
    }

    #[test]
    fn metadata_of_others_is_no_marker() {
        for metadata in
            ["", "tidemill", "tidemill:", "tidemill:12000", "tidemill:soon:1", "tidemill:1:x", "12000:1"]
        {
            assert_eq!(marker_of(metadata), None, "{metadata:?}");
        }
    }
}
