//! The last lines, kept for who comes later: the toolstack, an exception report.

/// A ring of `N` bytes. Positions count all bytes ever written, so that a reader can go on where
/// it stopped and learns how much it missed.
#[derive(Debug)]
pub struct Ring<const N: usize> {
    bytes: [u8; N],
    written: u64,
}

/// What a reader got.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    /// Bytes copied.
    pub len: usize,
    /// Where to go on.
    pub next: u64,
    /// Bytes that were overwritten before they were read.
    pub lost: u64,
}

impl<const N: usize> Default for Ring<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Ring<N> {
    /// An empty ring.
    pub const fn new() -> Self {
        const { assert!(N > 0, "a ring holds at least a byte") };
        Self {
            bytes: [0; N],
            written: 0,
        }
    }

    /// Position after the last byte.
    pub const fn end(&self) -> u64 {
        self.written
    }

    /// Position of the oldest byte that is still there.
    pub const fn start(&self) -> u64 {
        self.written.saturating_sub(N as u64)
    }

    /// Appends, over the oldest bytes if need be.
    pub fn write(&mut self, text: &[u8]) {
        for byte in text {
            let place = (self.written % N as u64) as usize;
            if let Some(slot) = self.bytes.get_mut(place) {
                *slot = *byte;
            }
            self.written += 1;
        }
    }

    /// The byte at a position, if it is still there.
    pub fn byte(&self, position: u64) -> Option<u8> {
        let there = self.start() <= position && position < self.written;
        let place = (position % N as u64) as usize;
        if there {
            self.bytes.get(place).copied()
        } else {
            None
        }
    }

    /// Copies what was written from `position` on.
    pub fn read(&self, position: u64, into: &mut [u8]) -> Read {
        let from = position.clamp(self.start(), self.written);
        let available = self.written - from;
        let len = into.len().min(usize::try_from(available).unwrap_or(N));
        for (slot, at) in into.iter_mut().zip(from..from + len as u64) {
            *slot = self.byte(at).unwrap_or(0);
        }
        Read {
            len,
            next: from + len as u64,
            lost: from.saturating_sub(position),
        }
    }

    /// Where the last `lines` whole lines start.
    pub fn last_lines(&self, lines: usize) -> u64 {
        if lines == 0 {
            return self.written;
        }
        let mut seen = 0;
        for position in (self.start()..self.written).rev() {
            let ends_line = self.byte(position) == Some(b'\n');
            if ends_line && position + 1 != self.written {
                seen += 1;
                if seen == lines {
                    return position + 1;
                }
            }
        }
        self.first_whole_line()
    }

    /// The oldest position that starts a line.
    fn first_whole_line(&self) -> u64 {
        if self.start() == 0 {
            return 0;
        }
        (self.start()..self.written)
            .find(|position| self.byte(*position) == Some(b'\n'))
            .map_or(self.written, |newline| newline + 1)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn text<const N: usize>(ring: &Ring<N>, from: u64) -> Vec<u8> {
        (from..ring.end())
            .map(|at| ring.byte(at).unwrap())
            .collect()
    }

    #[test]
    fn a_late_reader_learns_what_it_missed() {
        let mut ring = Ring::<8>::new();
        ring.write(b"0123456789");
        let mut buffer = [0; 4];
        let read = ring.read(0, &mut buffer);
        assert_eq!((read.len, read.next, read.lost), (4, 6, 2));
        assert_eq!(&buffer, b"2345");
        let read = ring.read(read.next, &mut [0; 16]);
        assert_eq!((read.len, read.next, read.lost), (4, 10, 0));
        // A position that was never written is the end.
        let read = ring.read(u64::MAX, &mut [0; 16]);
        assert_eq!((read.len, read.next, read.lost), (0, 10, 0));
    }

    #[test]
    fn last_lines_are_whole() {
        let mut ring = Ring::<14>::new();
        ring.write(b"one\ntwo\n");
        assert_eq!(text(&ring, ring.last_lines(0)), b"");
        assert_eq!(text(&ring, ring.last_lines(1)), b"two\n");
        assert_eq!(text(&ring, ring.last_lines(9)), b"one\ntwo\n");
        ring.write(b"three\nfour\n");
        // "two" lost its first letters: it is no whole line any more.
        assert_eq!(text(&ring, ring.last_lines(9)), b"three\nfour\n");
    }

    #[test]
    fn a_line_longer_than_the_ring_is_no_line() {
        let mut ring = Ring::<4>::new();
        ring.write(b"abcdefgh");
        assert_eq!(ring.last_lines(1), ring.end());
    }

    proptest! {
        #[test]
        fn reading_on_gives_every_byte_once(
            writes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..20),
            window in 1usize..16,
        ) {
            let mut ring = Ring::<32>::new();
            let (mut all, mut got, mut next) = (Vec::new(), Vec::new(), 0);
            for chunk in writes {
                ring.write(&chunk);
                all.extend(chunk);
                let mut buffer = std::vec![0; window];
                let read = ring.read(next, &mut buffer);
                got.extend(std::iter::repeat_n(None, read.lost as usize));
                got.extend(buffer[..read.len].iter().copied().map(Some));
                next = read.next;
            }
            prop_assert_eq!(got.len() as u64, next);
            for (byte, expected) in got.iter().zip(&all) {
                prop_assert!(byte.is_none_or(|byte| byte == *expected));
            }
        }
    }
}
