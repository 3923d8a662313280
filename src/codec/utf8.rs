//! Bytes as text. Most are short and of ASCII alone, which takes less to see than to begin a search for what is not UTF-8.

/// The text that `bytes` are, if they are UTF-8.
#[inline]
pub(crate) fn utf8(bytes: &[u8]) -> Option<&str> {
    if is_ascii(bytes) {
        // SAFETY: ASCII is UTF-8.
        return Some(unsafe { std::str::from_utf8_unchecked(bytes) });
    }
    simdutf8::basic::from_utf8(bytes).ok()
}

/// As the standard library's, which looks at the last bytes one by one.
#[inline]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let (eights, rest) = bytes.as_chunks::<8>();
    let all = eights.iter().fold(0, |all, eight| all | u64::from_ne_bytes(*eight));
    let last = match bytes.last_chunk::<8>() {
        Some(eight) => u64::from_ne_bytes(*eight),
        None => rest.iter().fold(0, |all, byte| all | u64::from(*byte)),
    };
    (all | last) & HIGH == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_byte_that_is_not_ascii_is_seen() {
        for length in 0..70 {
            let ascii = vec![b'a'; length];
            assert!(is_ascii(&ascii) && utf8(&ascii) == Some(&"a".repeat(length)));
            for at in 0..length {
                let mut other = ascii.clone();
                other[at] = 0x80;
                assert!(!is_ascii(&other) && utf8(&other).is_none(), "{at} of {length}");
            }
        }
        assert_eq!(utf8("zwölf Boxkämpfer".as_bytes()), Some("zwölf Boxkämpfer"));
    }
}
