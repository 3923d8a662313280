use std::io::Write;

use super::*;
use crate::rdd::finished;

/// A number in Kafka's form.
fn varint(number: i64) -> Vec<u8> {
    let mut left = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = Vec::new();
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes
}

fn record(delta: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Vec<u8> {
    let part = |bytes: Option<&[u8]>| match bytes {
        None => varint(-1),
        Some(bytes) => [varint(bytes.len() as i64), bytes.to_vec()].concat(),
    };
    let record = [vec![0], varint(delta), varint(delta), part(key), part(value), varint(0)].concat();
    [varint(record.len() as i64), record].concat()
}

/// A batch from its records; `packed` is what compression makes of them.
fn batch(base: i64, last: i64, attributes: i16, producer: i64, packed: &[u8]) -> Vec<u8> {
    let mut checked = attributes.to_be_bytes().to_vec();
    checked.extend(((last - base) as i32).to_be_bytes());
    checked.extend(1_000_i64.to_be_bytes());
    checked.extend(9_999_i64.to_be_bytes());
    checked.extend(producer.to_be_bytes());
    checked.extend(0_i16.to_be_bytes());
    checked.extend((-1_i32).to_be_bytes());
    checked.extend(1_i32.to_be_bytes());
    checked.extend(packed);
    let mut whole = base.to_be_bytes().to_vec();
    whole.extend((checked.len() as i32 + 9).to_be_bytes());
    whole.extend(0_i32.to_be_bytes());
    whole.push(2);
    whole.extend(crc32c::crc32c(&checked).to_be_bytes());
    whole.extend(checked);
    whole
}

/// A batch of values with the offsets from `base` on.
fn values(base: i64, attributes: i16, producer: i64, values: &[&str]) -> Vec<u8> {
    let records: Vec<u8> =
        values.iter().enumerate().flat_map(|(i, v)| record(i as i64, None, Some(v.as_bytes()))).collect();
    batch(base, base + values.len() as i64 - 1, attributes, producer, &records)
}

const TRANSACTIONAL: i16 = 0x10;

/// The mark that ends a transaction.
fn end(base: i64, producer: i64, commit: bool) -> Vec<u8> {
    let key = [0, 0, 0, u8::from(commit)];
    batch(base, base, TRANSACTIONAL | 0x20, producer, &record(0, Some(&key), Some(&[0; 6])))
}

fn chunk(batches: &[Vec<u8>], from: i64, aborted: &[(i64, i64)]) -> Chunk {
    let buffer = Arc::new(batches.concat());
    let all = 0..buffer.len();
    Chunk::new(buffer, all, from, aborted.to_vec()).unwrap().unwrap()
}

/// The offsets and values of a slice, and where it ended.
fn read(chunk: &Chunk, from: i64, until: i64) -> Result<(Vec<(i64, String)>, i64), Error> {
    let range = OffsetRange { topic: "t".into(), partition: 0, from, until };
    let mut found = Vec::new();
    let next = chunk.visit(from, &range, &Cell::new(i64::MIN), &mut Vec::new(), &mut |records| {
        found.extend(records.iter().map(|record| (record.offset, record.text().into_owned())));
        Ok(())
    });
    match next {
        Ok(next) => Ok((found, next)),
        Err(stop) => Err(finished(Err(stop)).unwrap_err()),
    }
}

fn found(pairs: &[(i64, &str)]) -> Vec<(i64, String)> {
    pairs.iter().map(|(offset, value)| (*offset, (*value).to_owned())).collect()
}

#[test]
fn a_slice_begins_and_ends_within_batches() {
    let chunk = chunk(&[values(10, 0, -1, &["a", "b", "c"]), values(13, 0, -1, &["d", "e"])], 10, &[]);
    assert_eq!((chunk.from, chunk.next), (10, 15));
    assert_eq!(chunk.largest_batch, values(10, 0, -1, &["a", "b", "c"]).len());
    assert_eq!(read(&chunk, 11, 14).unwrap(), (found(&[(11, "b"), (12, "c"), (13, "d")]), 14));
    assert_eq!(read(&chunk, 14, 99).unwrap(), (found(&[(14, "e")]), 15));
    assert_eq!(read(&chunk, 10, 11).unwrap(), (found(&[(10, "a")]), 11));
}

#[test]
fn what_compaction_left_out_is_passed_over() {
    // The batch spans 20 to 29, of which 22 is left, and then nothing up to 40.
    let left = batch(20, 29, 0, -1, &record(2, Some(b"k"), None));
    let chunk = chunk(&[left, values(40, 0, -1, &["x"])], 20, &[]);
    assert_eq!(read(&chunk, 20, 30).unwrap(), (found(&[(22, "")]), 30));
    assert_eq!(read(&chunk, 23, 41).unwrap(), (found(&[(40, "x")]), 41));
}

#[test]
fn aborted_records_are_not_seen() {
    // Producer 7: aborted 0 and 1, committed 4. Producer 8 between them: committed 2. No transaction: 6.
    let batches = [
        values(0, TRANSACTIONAL, 7, &["no", "never"]),
        values(2, TRANSACTIONAL, 8, &["yes"]),
        end(3, 7, false),
        values(4, TRANSACTIONAL, 7, &["also"]),
        end(5, 8, true),
        values(6, 0, -1, &["plain"]),
        end(7, 7, true),
        values(8, TRANSACTIONAL, 8, &["gone"]),
        end(9, 8, false),
    ];
    let chunk = chunk(&batches, 0, &[(8, 8), (7, 0)]);
    let all = found(&[(2, "yes"), (4, "also"), (6, "plain")]);
    assert_eq!(read(&chunk, 0, 10).unwrap(), (all.clone(), 10));
    // From the middle on it is the same: what was aborted before is known all the same.
    assert_eq!(read(&chunk, 1, 10).unwrap(), (all[..].to_vec(), 10));
    assert_eq!(read(&chunk, 4, 9).unwrap(), (all[1..].to_vec(), 9));
}

#[test]
fn every_compression_is_unpacked() {
    let records: Vec<u8> = (0..200)
        .flat_map(|i| record(i, None, Some(format!("value number {i}, and some more of it").as_bytes())))
        .collect();
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(&records).unwrap();
        encoder.finish().unwrap()
    };
    let block = |bytes: &[u8]| snap::raw::Encoder::new().compress_vec(bytes).unwrap();
    let xerial = {
        let mut framed = [&[0x82][..], b"SNAPPY\0", &1_i32.to_be_bytes(), &1_i32.to_be_bytes()].concat();
        for part in records.chunks(1_000) {
            let packed = block(part);
            framed.extend((packed.len() as i32).to_be_bytes());
            framed.extend(packed);
        }
        framed
    };
    let lz4 = {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(&records).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::stream::encode_all(&records[..], 3).unwrap();
    for (attributes, packed) in
        [(0, records.clone()), (1, gzip), (2, block(&records)), (2, xerial), (3, lz4), (4, zstd)]
    {
        let packed_chunk = chunk(&[batch(0, 199, attributes, -1, &packed)], 0, &[]);
        let (found, next) = read(&packed_chunk, 0, 200).unwrap();
        assert_eq!((found.len(), next), (200, 200), "{attributes}");
        assert_eq!(found[199], (199, "value number 199, and some more of it".to_owned()));
        if attributes > 0 {
            // Cut in half it is refused, with its place.
            let half = chunk(&[batch(0, 199, attributes, -1, &packed[..packed.len() / 2])], 0, &[]);
            let error = read(&half, 0, 200).unwrap_err();
            assert!(
                error.to_string().starts_with("the record batch t-0 at offset 0 cannot be read: "),
                "{error}"
            );
        }
    }
}

#[test]
fn times_are_the_producers_or_the_brokers() {
    let records = [record(0, None, None), record(5, None, None)].concat();
    for (attributes, expected) in [(0, [1_000, 1_005]), (0x08, [9_999, 9_999])] {
        let chunk = chunk(&[batch(0, 5, attributes, -1, &records)], 0, &[]);
        let range = OffsetRange { topic: "t".into(), partition: 0, from: 0, until: 6 };
        let mut times = Vec::new();
        let flow = chunk.visit(0, &range, &Cell::new(i64::MIN), &mut Vec::new(), &mut |records| {
            times.extend(records.iter().filter_map(|record| record.timestamp));
            Ok(())
        });
        assert!(flow.is_ok());
        assert_eq!(times, expected);
    }
}

#[test]
fn a_damaged_batch_is_an_error_with_its_place() {
    let mut bytes = [values(5, 0, -1, &["a"]), values(6, 0, -1, &["b"])].concat();
    let end = bytes.len() - 2;
    bytes[end] ^= 1;
    let chunk = chunk(&[bytes], 5, &[]);
    assert_eq!(read(&chunk, 5, 6).unwrap().0, found(&[(5, "a")]));
    let error = read(&chunk, 5, 7).unwrap_err();
    assert!(
        error.to_string().contains("t-0 at offset 6") && error.to_string().contains("checksum"),
        "{error}"
    );
}

#[test]
fn batches_of_before_a_time_are_left_out() {
    // Their latest timestamp is 9,999.
    let chunk = chunk(&[values(0, 0, -1, &["a", "b"]), values(2, 0, -1, &["c"])], 0, &[]);
    let range = OffsetRange { topic: "t".into(), partition: 0, from: 0, until: 3 };
    for (since, count) in [(9_999, 3), (10_000, 0)] {
        let mut seen = 0;
        let next = chunk.visit(0, &range, &Cell::new(since), &mut Vec::new(), &mut |records| {
            seen += records.len();
            Ok(())
        });
        assert_eq!((next.ok(), seen), (Some(3), count));
    }
}

#[test]
fn records_come_in_runs_and_those_before_what_is_none_come_whole() {
    let record = |offset: i64| record(offset, None, Some(b"v"));
    let mut records: Vec<u8> = (0..70).flat_map(record).collect();
    // A length that no record has, under a checksum that is right.
    records.extend(varint(1_000));
    let chunk = chunk(&[batch(0, 70, 0, -1, &records)], 0, &[]);
    let range = OffsetRange { topic: "t".into(), partition: 0, from: 3, until: 71 };
    let mut offsets = Vec::new();
    let mut read = |until: usize| {
        offsets.clear();
        let read = chunk.visit(3, &range, &Cell::new(i64::MIN), &mut Vec::new(), &mut |run| {
            assert!((1..=RUN).contains(&run.len()));
            offsets.extend(run.iter().map(|record| record.offset));
            if offsets.len() < until { Ok(()) } else { Err(Stop::Enough) }
        });
        (read, offsets.clone())
    };
    let (read_all, all) = read(usize::MAX);
    let error = finished(read_all.map(drop)).unwrap_err().to_string();
    assert!(error.contains("t-0 at offset 0") && error.contains("no record"), "{error}");
    assert!(all.into_iter().eq(3..70));
    // Whoever has enough sees no further run.
    let (read_some, some) = read(1);
    assert!(matches!(read_some, Err(Stop::Enough)) && some.len() == RUN);
}
