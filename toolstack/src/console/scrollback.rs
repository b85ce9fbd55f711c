//! What a console has shown: the last of it, for those that come later.

use std::collections::VecDeque;

/// Bytes that are kept.
const SIZE: usize = 256 << 10;

/// The last bytes of a console.
#[derive(Debug, Default)]
pub struct Scrollback(VecDeque<u8>);

impl Scrollback {
    /// Adds bytes; the oldest go when there are too many.
    pub fn push(&mut self, bytes: &[u8]) {
        let bytes = bytes
            .get(bytes.len().saturating_sub(SIZE)..)
            .unwrap_or(bytes);
        let over = (self.0.len() + bytes.len()).saturating_sub(SIZE);
        self.0.drain(..over);
        self.0.extend(bytes);
    }

    /// What is kept, from the beginning of a line on if the oldest have gone.
    pub fn bytes(&self) -> Vec<u8> {
        let all: Vec<u8> = self.0.iter().copied().collect();
        let whole = self.0.len() < SIZE;
        let line = all.iter().position(|byte| *byte == b'\n');
        match line {
            Some(end) if !whole => all.get(end + 1..).unwrap_or_default().to_vec(),
            _ => all,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept() {
        let mut scrollback = Scrollback::default();
        scrollback.push(b"first\nsecond\n");
        assert_eq!(scrollback.bytes(), b"first\nsecond\n");
        let long = [b'x'; SIZE - 3];
        scrollback.push(&long);
        let kept = scrollback.bytes();
        assert_eq!(kept.len(), SIZE - 3);
        assert!(kept.iter().all(|byte| *byte == b'x'));
        scrollback.push(&[b'y'; 2 * SIZE]);
        assert_eq!(scrollback.bytes().len(), SIZE);
    }
}
