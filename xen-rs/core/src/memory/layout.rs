//! Where a domain sees its RAM.

extern crate alloc;

use alloc::vec::Vec;

use xen_types::{Gpa, GpaRange, Hpa, HpaRange};

/// What blocks of stage 2 are aligned to, so that large ones can be used.
const ALIGNMENT: u64 = 2 << 20;

/// A contiguous piece of a domain's RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bank {
    guest: GpaRange,
    host: HpaRange,
}

impl Bank {
    /// RAM that the domain sees where it is.
    pub fn direct(host: HpaRange) -> Option<Self> {
        Self::at(Gpa::new(host.start().get()), host)
    }

    fn at(guest: Gpa, host: HpaRange) -> Option<Self> {
        let guest = GpaRange::new(guest, host.size())?;
        Some(Self { guest, host })
    }

    /// Where the domain sees it.
    pub fn guest(&self) -> GpaRange {
        self.guest
    }

    /// Where it is.
    pub fn host(&self) -> HpaRange {
        self.host
    }

    /// Where a part of it is.
    pub fn host_of(&self, part: GpaRange) -> Option<HpaRange> {
        let inside = self.guest.contains_range(part);
        let offset = part.start().get().checked_sub(self.guest.start().get())?;
        let start = self.host.start().checked_add(offset)?;
        HpaRange::new(start, part.size()).filter(|_| inside)
    }
}

/// Lays blocks of memory, whose sizes are powers of two, out in the `room` that a domain has for RAM, the
/// largest first: the first bank has the first block. `None` if there is too little room.
pub fn lay_out(blocks: &[HpaRange], room: &[HpaRange]) -> Option<Vec<Bank>> {
    let mut blocks = Vec::from(blocks);
    blocks.sort_by_key(|block| (core::cmp::Reverse(block.size()), block.start()));
    let mut room: Vec<(u64, u64)> = room
        .iter()
        .map(|piece| (piece.start().get(), piece.end().get()))
        .collect();
    let mut banks = Vec::new();
    for host in blocks {
        // Block after block from where the last one ended: each is aligned to its own size, as far as
        // that matters, where the larger ones before it were.
        let alignment = host.size().min(ALIGNMENT);
        let placed = room.iter_mut().find_map(|(start, end)| {
            let at = start.checked_next_multiple_of(alignment)?;
            let next = at.checked_add(host.size()).filter(|next| next <= end)?;
            *start = next;
            Some(at)
        });
        banks.push(Bank::at(Gpa::new(placed?), host)?);
    }
    Some(banks)
}

/// The ranges in which a domain sees its RAM, ascending; those that touch are one.
pub fn seen(banks: &[Bank]) -> Vec<GpaRange> {
    let mut ranges: Vec<GpaRange> = banks.iter().map(Bank::guest).collect();
    ranges.sort_by_key(|range| range.start());
    let mut seen: Vec<GpaRange> = Vec::new();
    for range in ranges {
        let joined = seen.last().and_then(|last| {
            let touches = last.end() == range.start();
            GpaRange::between(last.start(), range.end()).filter(|_| touches)
        });
        match (joined, seen.last_mut()) {
            (Some(joined), Some(last)) => *last = joined,
            _ => seen.push(range),
        }
    }
    seen
}

/// Whole blocks of `room`: what is left between two of them is no use as RAM.
pub fn usable(room: HpaRange) -> Option<HpaRange> {
    let start = room.start().get().checked_next_multiple_of(ALIGNMENT)?;
    let end = room.end().get() & !(ALIGNMENT - 1);
    HpaRange::between(Hpa::new(start), Hpa::new(end))
}

#[cfg(test)]
mod tests {
    extern crate std;

    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn range(start: u64, size: u64) -> HpaRange {
        HpaRange::new(Hpa::new(start), size).unwrap()
    }

    #[test]
    fn blocks_become_one_bank_where_there_is_room() {
        let blocks = [range(0x8000_0000, 256 * MIB), range(0x5000_0000, 512 * MIB)];
        let room = [
            range(0x4040_0000, 128 * MIB),
            range(0x6000_0000, 1024 * MIB),
        ];
        let banks = lay_out(&blocks, &room).unwrap();
        assert_eq!(banks[0].guest().start(), Gpa::new(0x6000_0000));
        assert_eq!(banks[0].host(), blocks[1]);
        assert_eq!(banks[1].guest().start(), Gpa::new(0x8000_0000));
        let whole = GpaRange::new(Gpa::new(0x6000_0000), 768 * MIB).unwrap();
        assert_eq!(seen(&banks), [whole]);
        let part = GpaRange::new(Gpa::new(0x6000_1000), 0x2000).unwrap();
        assert_eq!(banks[0].host_of(part), Some(range(0x5000_1000, 0x2000)));
        assert_eq!(banks[1].host_of(part), None);
        assert_eq!(lay_out(&blocks, &room[..1]), None);
    }

    #[test]
    fn what_is_direct_is_where_it_is() {
        let bank = Bank::direct(range(0x5000_0000, MIB)).unwrap();
        assert_eq!(bank.guest().start(), Gpa::new(0x5000_0000));
        assert_eq!(bank.host_of(bank.guest()), Some(bank.host()));
    }

    proptest! {
        #[test]
        fn banks_lie_in_the_room_apart_and_aligned(
            orders in prop::collection::vec(12u32..30, 1..20),
            pieces in prop::collection::vec((0u64..1000, 1u64..600), 1..5),
        ) {
            let mut next = 0;
            let blocks: Vec<_> = orders.iter().map(|order| {
                next = (next + (1 << order)) & !((1 << order) - 1);
                range(next, 1 << order)
            }).collect();
            let mut end = 0;
            let room: Vec<_> = pieces.iter().map(|(gap, size)| {
                let piece = range(end + gap * MIB, size * MIB);
                end = piece.end().get();
                piece
            }).collect();
            let usable: Vec<_> = room.iter().filter_map(|piece| usable(*piece)).collect();
            let Some(banks) = lay_out(&blocks, &usable) else { return Ok(()) };
            prop_assert_eq!(banks.len(), blocks.len());
            for (index, bank) in banks.iter().enumerate() {
                let (start, host) = (bank.guest().start().get(), bank.host().start().get());
                let alignment = bank.host().size().min(ALIGNMENT);
                prop_assert!(start.is_multiple_of(alignment) && host.is_multiple_of(alignment));
                let inside = |piece: &HpaRange| {
                    piece.start().get() <= start && bank.guest().end().get() <= piece.end().get()
                };
                prop_assert!(room.iter().any(inside));
                prop_assert!(banks[..index].iter().all(|other| !other.guest().overlaps(bank.guest())));
            }
            let total: u64 = seen(&banks).iter().map(|range| range.size()).sum();
            prop_assert_eq!(total, blocks.iter().map(|block| block.size()).sum::<u64>());
        }
    }
}
