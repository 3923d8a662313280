use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression as PlainCompression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID,
    Record as Encoded, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use proptest::prelude::*;

use super::*;

type Pair = (String, Option<Vec<u8>>);

/// A record as it goes in, and as it must come out.
#[derive(Debug, Clone, PartialEq)]
struct Plain {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<Pair>,
}

/// What Kafka's own format makes of `records`, by another implementation of it.
fn encoded(records: &[Plain]) -> Vec<u8> {
    let records: Vec<_> = records
        .iter()
        .map(|record| Encoded {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset: record.offset,
            // In one batch with those before it.
            sequence: record.offset as i32,
            timestamp: record.timestamp,
            key: record.key.clone().map(Bytes::from),
            value: record.value.clone().map(Bytes::from),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| (name.clone().into(), value.clone().map(Bytes::from)))
                .collect(),
        })
        .collect();
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression: PlainCompression::None };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
    bytes.to_vec()
}

fn decoded(mut bytes: &[u8]) -> Result<Vec<Plain>, Malformed> {
    let mut found = Vec::new();
    while let Some(batch) = Batch::take(&mut bytes)? {
        batch.verify()?;
        let mut body = batch.body;
        while let Some(record) = RawRecord::take(&mut body)? {
            found.push(Plain {
                offset: batch.base_offset.wrapping_add(record.offset_delta),
                timestamp: batch.base_timestamp.wrapping_add(record.timestamp_delta),
                key: record.key.map(<[u8]>::to_vec),
                value: record.value.map(<[u8]>::to_vec),
                headers: record.headers.iter().map(|(n, v)| (n.to_owned(), v.map(<[u8]>::to_vec))).collect(),
            });
        }
    }
    Ok(found)
}

fn bytes_or_none(most: usize) -> impl Strategy<Value = Option<Vec<u8>>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..most))
}

/// Records whose offsets rise, with gaps.
fn records() -> impl Strategy<Value = Vec<Plain>> {
    let headers = proptest::collection::btree_map("[a-z]{0,5}", bytes_or_none(9), 0..3);
    let record = (1..40_i64, 0..100_000_i64, bytes_or_none(20), bytes_or_none(300), headers);
    (0..1_000_000_i64, proptest::collection::vec(record, 1..30)).prop_map(|(mut offset, records)| {
        let plain =
            |(gap, timestamp, key, value, headers): (i64, i64, _, _, std::collections::BTreeMap<_, _>)| {
                offset += gap;
                Plain { offset, timestamp, key, value, headers: headers.into_iter().collect() }
            };
        records.into_iter().map(plain).collect()
    })
}

proptest! {
    #[test]
    fn what_another_implementation_wrote_is_read_as_it_was(records in records()) {
        prop_assert_eq!(decoded(&encoded(&records)).unwrap(), records);
    }

    #[test]
    fn a_batch_that_was_cut_off_is_none(records in records(), cut in any::<prop::sample::Index>()) {
        let whole = encoded(&records);
        prop_assert_eq!(decoded(&whole[..cut.index(whole.len())]), Ok(vec![]));
    }

    #[test]
    fn a_flipped_bit_is_noticed(records in records(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut bytes = encoded(&records);
        // The checksum covers what follows it; of what stands before, it is itself.
        let at = 17 + at.index(bytes.len() - 17);
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(decoded(&bytes), Err(Malformed::Checksum));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = decoded(&bytes);
        let mut rest = &bytes[..];
        while let Ok(Some(record)) = RawRecord::take(&mut rest) {
            record.headers.iter().for_each(drop);
        }
    }

    #[test]
    fn a_batch_with_any_bytes_in_it_is_read_or_refused(
        mut header in proptest::collection::vec(any::<u8>(), HEADER),
        body in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        header[MAGIC_AT] = 2;
        header[0] &= 0x7f;
        header[8..12].copy_from_slice(&((HEADER - LENGTH_END + body.len()) as i32).to_be_bytes());
        header.extend(&body);
        let mut rest = &header[..];
        let Ok(Some(batch)) = Batch::take(&mut rest) else { return Ok(()) };
        prop_assert!(rest.is_empty());
        let _ = (batch.verify(), batch.is_abort());
        let mut unpacked = Vec::new();
        if let Ok(method) = batch.compression() {
            let _ = super::super::compression::unpack(method, batch.body, &mut unpacked);
        }
        let mut body = batch.body;
        while let Ok(Some(record)) = RawRecord::take(&mut body) {
            record.headers.iter().for_each(drop);
        }
    }
}

#[test]
fn an_older_format_is_named() {
    let mut bytes = [0; 80];
    bytes[11] = 60;
    bytes[MAGIC_AT] = 1;
    assert_eq!(Batch::take(&mut &bytes[..]).unwrap_err(), Malformed::OldFormat(1));
}
