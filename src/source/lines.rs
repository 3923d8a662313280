//! Bytes to lines of text, for files and sockets.

use std::io::{BufRead, Result};

/// The lines of `reader` without their ends (`\n` or `\r\n`); what is no UTF-8 becomes U+FFFD. The last line needs no end.
/// Nothing comes after an error.
pub(crate) fn lines(mut reader: impl BufRead) -> impl Iterator<Item = Result<String>> {
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let mut line = Vec::new();
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => {
                if line.pop_if(|end| *end == b'\n').is_some() {
                    line.pop_if(|end| *end == b'\r');
                }
                Some(Ok(String::from_utf8(line)
                    .unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())))
            }
            Err(error) => {
                failed = true;
                Some(Err(error))
            }
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_either_end_and_at_the_last_byte() {
        let read = |text: &[u8]| lines(text).map(|l| l.unwrap()).collect::<Vec<_>>();
        assert!(read(b"").is_empty());
        assert_eq!(read(b"a\nb\r\n\nc"), ["a", "b", "", "c"]);
        assert_eq!(read(b"a\r\r\nb\r"), ["a\r", "b\r"]);
        assert_eq!(read(b"a\xff\xc3\xa9\n"), ["a\u{fffd}\u{e9}"]);
    }
}
