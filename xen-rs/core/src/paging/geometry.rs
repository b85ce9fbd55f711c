//! Which entry of which table an address falls into (Arm ARM D8.2, the 4 KiB granule).

use xen_types::PAGE_SIZE;

use super::MapError;

/// Entries in a table.
pub const ENTRIES: usize = 512;
/// First address that cannot be mapped.
pub const LIMIT: u64 = 1 << 48;

/// The level that holds pages; 0 is the root.
pub(super) const LAST: u32 = 3;
/// The first level that may hold blocks.
pub(super) const FIRST_BLOCK: u32 = 1;

/// Bytes that an entry of a level covers.
pub(super) const fn span(level: u32) -> u64 {
    PAGE_SIZE << (ENTRIES.trailing_zeros() * (LAST - level))
}

/// The entry of a table of `level` that `address` falls into.
pub(super) const fn index(address: u64, level: u32) -> usize {
    (address / span(level)) as usize % ENTRIES
}

/// What a call works on: whole pages below [`LIMIT`], at least one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    pub(super) input: u64,
    pub(super) size: u64,
}

impl Piece {
    pub(super) fn new(input: u64, size: u64) -> Result<Self, MapError> {
        let in_reach = input.checked_add(size).is_some_and(|end| end <= LIMIT);
        let aligned = input.is_multiple_of(PAGE_SIZE) && size.is_multiple_of(PAGE_SIZE);
        if size == 0 || !aligned || !in_reach {
            return Err(MapError::BadRange(input, size));
        }
        Ok(Self { input, size })
    }

    /// Whether it is all of an entry of `level`.
    pub(super) const fn is_whole_entry(self, level: u32) -> bool {
        self.size == span(level)
    }

    /// The parts of this piece that fall into one entry of `level` each, with the entry's index.
    pub(super) fn by_entry(self, level: u32) -> impl Iterator<Item = (usize, Piece)> {
        let end = self.input + self.size;
        let first = self.input & !(span(level) - 1);
        (first..end)
            .step_by(span(level) as usize)
            .map(move |start| {
                let input = start.max(self.input);
                let size = end.min(start + span(level)) - input;
                (index(start, level), Piece { input, size })
            })
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn entries_cover_512_gib_1_gib_2_mib_and_4_kib() {
        assert_eq!([0, 1, 2, 3].map(span), [512 * GIB, GIB, 2 * MIB, PAGE_SIZE]);
        let address = 3 * span(0) + 5 * span(1) + 7 * span(2) + 511 * span(3) + 0xfff;
        assert_eq!(
            [0, 1, 2, 3].map(|level| index(address, level)),
            [3, 5, 7, 511]
        );
    }

    #[test]
    fn a_piece_falls_apart_at_the_borders_of_entries() {
        let piece = Piece::new(2 * MIB - PAGE_SIZE, 4 * MIB).unwrap();
        let parts: Vec<_> = piece
            .by_entry(2)
            .map(|(index, part)| (index, part.input, part.size))
            .collect();
        assert_eq!(
            parts,
            [
                (0, 2 * MIB - PAGE_SIZE, PAGE_SIZE),
                (1, 2 * MIB, 2 * MIB),
                (2, 4 * MIB, 2 * MIB - PAGE_SIZE),
            ]
        );
        let all = Piece::new(0, LIMIT).unwrap();
        assert_eq!(all.by_entry(0).count(), ENTRIES);
    }

    #[test]
    fn only_whole_pages_below_48_bits_are_a_piece() {
        for (input, size) in [
            (0, 0),
            (1, PAGE_SIZE),
            (0, 1),
            (LIMIT, PAGE_SIZE),
            (PAGE_SIZE, LIMIT),
            (u64::MAX - 0xfff, PAGE_SIZE),
        ] {
            assert_eq!(
                Piece::new(input, size),
                Err(MapError::BadRange(input, size))
            );
        }
    }
}
