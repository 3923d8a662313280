//! Lines out of pieces of bytes.

/// More bytes without a line's end are no line.
const LONGEST: usize = 8 << 20;

/// Puts lines together.
#[derive(Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// Up to where there was no line's end.
    looked: usize,
}

impl Lines {
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// The next whole line, without its end.
    pub fn next(&mut self) -> Option<Vec<u8>> {
        match memchr::memchr(b'\n', &self.bytes[self.looked..]) {
            Some(at) => {
                let rest = self.bytes.split_off(self.looked + at + 1);
                let mut line = std::mem::replace(&mut self.bytes, rest);
                self.looked = 0;
                line.pop();
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                Some(line)
            }
            None if self.bytes.len() > LONGEST => Some(self.rest()),
            None => {
                self.looked = self.bytes.len();
                None
            }
        }
    }

    /// What is left when nothing more comes.
    pub fn rest(&mut self) -> Vec<u8> {
        self.looked = 0;
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn lines_come_together_from_pieces() {
        let mut lines = Lines::default();
        lines.push(b"one\r\ntw");
        assert_eq!(lines.next().unwrap(), b"one");
        assert_eq!(lines.next(), None);
        lines.push(b"o\n\nrest");
        assert_eq!(lines.next().unwrap(), b"two");
        assert_eq!(lines.next().unwrap(), b"");
        assert_eq!(lines.next(), None);
        assert_eq!(lines.rest(), b"rest");
    }
}
