//! Unpacks the records of a compressed batch.

use std::io::Read;

use super::batch::{Compression, Malformed};

/// More than this a batch never unpacks to: a few bytes could ask for any amount of memory.
const MOST: usize = 1 << 30;

/// Leads what Java's snappy writes: blocks, each with its length.
const XERIAL: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// The bytes before the first block: the mark, and two version numbers.
const XERIAL_HEADER: usize = 16;

/// Puts the unpacked form of `packed` in place of what `into` holds.
pub(super) fn unpack(method: Compression, packed: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    into.clear();
    match method {
        Compression::None => into.extend_from_slice(packed),
        Compression::Gzip => drain(flate2::read::MultiGzDecoder::new(packed), into, "broken gzip")?,
        Compression::Lz4 => drain(lz4_flex::frame::FrameDecoder::new(packed), into, "broken lz4")?,
        Compression::Zstd => match zstd::stream::read::Decoder::with_buffer(packed) {
            Ok(decoder) => drain(decoder, into, "broken zstd")?,
            Err(_) => return Err(Malformed::Compression("zstd does not start")),
        },
        Compression::Snappy => unpack_snappy(packed, into)?,
    }
    Ok(())
}

fn drain(from: impl Read, into: &mut Vec<u8>, broken: &'static str) -> Result<(), Malformed> {
    match from.take(MOST as u64 + 1).read_to_end(into) {
        Ok(size) if size > MOST => Err(Malformed::Compression("more than 1 GiB of records")),
        Ok(_) => Ok(()),
        Err(_) => Err(Malformed::Compression(broken)),
    }
}

fn unpack_snappy(packed: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    const BROKEN: Malformed = Malformed::Compression("broken snappy");
    if !packed.starts_with(XERIAL) {
        return unpack_snappy_block(packed, into);
    }
    let mut rest = packed.get(XERIAL_HEADER..).ok_or(BROKEN)?;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (block, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(BROKEN)?;
        unpack_snappy_block(block, into)?;
        rest = after;
    }
    if rest.is_empty() { Ok(()) } else { Err(BROKEN) }
}

fn unpack_snappy_block(block: &[u8], into: &mut Vec<u8>) -> Result<(), Malformed> {
    const BROKEN: Malformed = Malformed::Compression("broken snappy");
    let size = snap::raw::decompress_len(block).map_err(|_| BROKEN)?;
    let start = into.len();
    // Snappy packs at best some 64 bytes into three: a length beyond that is a lie, and would cost memory.
    if start + size > MOST || size / 64 > block.len() {
        return Err(BROKEN);
    }
    into.resize(start + size, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut into[start..]).map_err(|_| BROKEN)?;
    into.truncate(start + written);
    Ok(())
}
