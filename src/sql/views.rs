//! Texts as Arrow has them in its view arrays: a short one in its view, a long one where its bytes stand.

use datafusion::arrow::array::ByteView;

/// The longest text that stands in its view.
pub(super) const INLINE: usize = 12;

/// The bits of a text of so many bytes.
const MASKS: [u128; INLINE + 1] = {
    let mut masks = [0; INLINE + 1];
    let mut length = 1;
    while length <= INLINE {
        masks[length] = (1 << (8 * length)) - 1;
        length += 1;
    }
    masks
};

/// The view of what stands from `start` to `end` in `bytes`, which are the block of this number.
#[inline(always)]
pub(super) fn view(bytes: &[u8], block: u32, start: usize, end: usize) -> u128 {
    let length = end - start;
    let first = |count: usize| match bytes[start..].first_chunk::<16>() {
        // One load, and what is too much of it masked.
        Some(sixteen) => u128::from_le_bytes(*sixteen) & MASKS[count],
        None => {
            bytes[start..start + count].iter().rev().fold(0, |word, byte| (word << 8) | u128::from(*byte))
        }
    };
    if length <= INLINE {
        return (first(length) << 32) | length as u128;
    }
    let (length, offset) = (length as u32, start as u32);
    ByteView { length, prefix: first(4) as u32, buffer_index: block, offset }.as_u128()
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::array::builder::make_view;

    use super::*;

    #[test]
    fn views_are_those_of_arrow() {
        let bytes: Vec<u8> = (b'a'..=b'z').collect();
        for start in 0..bytes.len() {
            for end in start..=bytes.len() {
                let expected = make_view(&bytes[start..end], 3, start as u32);
                assert_eq!(view(&bytes, 3, start, end), expected, "{start}..{end}");
            }
        }
    }
}
