//! Which of 64 bytes are ones that are looked for: one look, where a search that begins anew behind each find takes a branch for it.

/// How many bytes one look takes in.
pub(crate) const BLOCK: usize = 64;

/// The 64 bytes from `at` on; behind the end there are zeros.
#[inline(always)]
pub(crate) fn block(bytes: &[u8], at: usize) -> [u8; BLOCK] {
    let bytes = &bytes[at.min(bytes.len())..];
    bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut block = [0; BLOCK];
        block[..bytes.len()].copy_from_slice(bytes);
        block
    })
}

/// Which bytes of a block are `byte`: the first is the lowest bit.
#[inline(always)]
#[cfg_attr(not(feature = "sql"), allow(dead_code, reason = "SQL splits texts"))]
pub(crate) fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
    #[cfg(target_arch = "x86_64")]
    return sixteens::equal(block, byte);
    #[cfg(not(target_arch = "x86_64"))]
    eights::equal(block, byte)
}

/// Which bytes of a block are whitespace, as [`u8::is_ascii_whitespace`] has it: the first is the lowest bit.
#[inline(always)]
pub(super) fn whitespace(block: &[u8; BLOCK]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    return sixteens::whitespace(block);
    #[cfg(not(target_arch = "x86_64"))]
    eights::whitespace(block)
}

#[cfg(target_arch = "x86_64")]
mod sixteens {
    use std::arch::x86_64::*;

    use super::BLOCK;

    #[inline(always)]
    fn of(block: &[u8; BLOCK], are: impl Fn(__m128i) -> __m128i) -> u64 {
        let (sixteens, _) = block.as_chunks::<16>();
        sixteens.iter().rev().fold(0, |found, sixteen| {
            // SAFETY: all processors of this architecture have SSE2, and sixteen bytes are read where there are as many.
            let here = unsafe { _mm_movemask_epi8(are(_mm_loadu_si128(sixteen.as_ptr().cast()))) };
            found << 16 | u64::from(here as u16)
        })
    }

    #[inline(always)]
    fn is(bytes: __m128i, byte: u8) -> __m128i {
        // SAFETY: as above.
        unsafe { _mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8)) }
    }

    #[inline(always)]
    pub fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
        of(block, |bytes| is(bytes, byte))
    }

    #[inline(always)]
    pub fn whitespace(block: &[u8; BLOCK]) -> u64 {
        // SAFETY: as above.
        of(block, |bytes| unsafe {
            // From tab to carriage return all but the vertical tab.
            let from_tab = _mm_sub_epi8(bytes, _mm_set1_epi8(9));
            let controls = _mm_cmpeq_epi8(_mm_min_epu8(from_tab, _mm_set1_epi8(4)), from_tab);
            _mm_or_si128(is(bytes, b' '), _mm_andnot_si128(is(bytes, 11), controls))
        })
    }
}

#[cfg(any(test, not(target_arch = "x86_64")))]
mod eights {
    use super::BLOCK;

    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = ONES << 7;

    /// Of what `are` gives for eight bytes, the highest bit of each counts.
    fn of(block: &[u8; BLOCK], are: impl Fn(u64) -> u64) -> u64 {
        let (eights, _) = block.as_chunks::<8>();
        eights.iter().rev().fold(0, |found, eight| {
            let here = are(u64::from_le_bytes(*eight)) & HIGH;
            // Gathers the eight bits in one byte.
            found << 8 | (here >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
        })
    }

    fn is(word: u64, byte: u8) -> u64 {
        let differs = word ^ (ONES * u64::from(byte));
        !(((differs & !HIGH) + ONES * 127) | differs)
    }

    pub fn equal(block: &[u8; BLOCK], byte: u8) -> u64 {
        of(block, |word| is(word, byte))
    }

    pub fn whitespace(block: &[u8; BLOCK]) -> u64 {
        of(block, |word| {
            // Below 128 each, so that none carries into the next.
            let above = |limit: u64| ((word & !HIGH) + ONES * (127 - limit)) | word;
            // From tab to carriage return all but the vertical tab.
            is(word, b' ') | (above(8) & !above(13) & !is(word, 11))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_found_or_not() {
        for (byte, at) in (0..=u8::MAX).flat_map(|byte| (0..BLOCK).map(move |at| (byte, at))) {
            let mut block = [b'x'; BLOCK];
            block[at] = byte;
            let expected = u64::from(byte.is_ascii_whitespace()) << at;
            assert_eq!((whitespace(&block), eights::whitespace(&block)), (expected, expected), "{byte}");
            let others = if byte == b'x' { u64::MAX } else { 1 << at };
            assert_eq!((equal(&block, byte), eights::equal(&block, byte)), (others, others), "{byte}");
        }
    }

    #[test]
    fn what_is_behind_the_end_is_zero() {
        let bytes: Vec<u8> = (1..=100).collect();
        assert_eq!(block(&bytes, 30)[..], bytes[30..94]);
        assert_eq!((&block(&bytes, 90)[..10], block(&bytes, 90)[10..] == [0; 54]), (&bytes[90..], true));
        assert_eq!(block(&bytes, 200), [0; BLOCK]);
    }
}
