//! Bringing what a guest has mapped to what its registers say, piece by piece.
//!
//! A BAR is wanted somewhere or nowhere; what is mapped follows, first by unmapping what is elsewhere,
//! then by mapping. It can be left between two pieces at any time, and what is wanted may change
//! meanwhile.

use arrayvec::ArrayVec;
use core::ops::Range;

use pci_host::bar::BarKind;
use xen_types::{Gpa, GpaRange, Hpa, HpaRange, PAGE_SIZE};

use crate::effect::Piece;

/// Sizes of blocks in translation tables with 4 KiB pages.
const BLOCK_2M: u64 = 2 << 20;
const BLOCK_1G: u64 = 1 << 30;
/// Entries of a translation table: as many as one piece may need.
const ENTRIES: u64 = 512;

/// Offsets in a BAR that are not mapped because accesses to them are trapped; in order.
pub type Holes = ArrayVec<Range<u64>, 2>;

/// What is mapped of a BAR.
#[derive(Clone, Debug)]
pub struct Mapping {
    bar: u8,
    prefetchable: bool,
    host: HpaRange,
    holes: Holes,
    /// Where the guest has it, from the first piece that is mapped to the last that is unmapped.
    at: Option<Gpa>,
    /// The offsets that are mapped, holes left aside.
    mapped: Range<u64>,
    unmapping: bool,
    /// Mapping it has failed: it is not tried again before the guest writes something.
    failed: bool,
}

impl Mapping {
    /// Nothing yet of BAR number `bar`, which is of that kind and which the host has at `host`.
    pub fn new(bar: u8, kind: BarKind, host: HpaRange, holes: Holes) -> Self {
        Self {
            bar,
            prefetchable: kind.is_prefetchable(),
            host,
            holes,
            at: None,
            mapped: 0..0,
            unmapping: false,
            failed: false,
        }
    }

    /// The addresses that it takes of the guest, even if not all is mapped yet, or still.
    pub fn claim(&self) -> Option<GpaRange> {
        GpaRange::new(self.at?, self.host.size())
    }

    /// Whether something of it is not mapped but trapped.
    pub fn has_holes(&self) -> bool {
        !self.holes.is_empty()
    }

    /// Whether accesses to an offset are trapped.
    pub fn is_hole(&self, offset: u64) -> bool {
        self.holes.iter().any(|hole| hole.contains(&offset))
    }

    /// The host's pages of what is trapped.
    pub fn holes(&self) -> impl Iterator<Item = HpaRange> {
        self.holes.iter().filter_map(|hole| {
            let start = self.host.start().checked_add(hole.start)?;
            HpaRange::new(start, hole.end.checked_sub(hole.start)?)
        })
    }

    /// Whether mapping it has failed.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// The guest has written something: what failed may be tried again.
    pub fn retry(&mut self) {
        self.failed = false;
    }

    /// Whether it is where it is wanted, and all of it.
    pub fn is_settled(&self, wanted: Option<Gpa>) -> bool {
        let wanted = wanted.filter(|_| !self.failed);
        let complete = self.at.is_none() || self.mapped == (0..self.host.size());
        self.at == wanted && complete && !self.unmapping
    }

    /// Whether something must be unmapped before anything else.
    pub fn must_unmap(&self, wanted: Option<Gpa>) -> bool {
        self.at.is_some() && (self.unmapping || self.failed || self.at != wanted)
    }

    /// The next piece to unmap; `None` when nothing is mapped any more.
    pub fn unmap(&mut self) -> Option<Piece> {
        self.unmapping = true;
        let piece = self.piece(self.mapped.clone());
        match &piece {
            Some((_, rest)) => self.mapped.start = *rest,
            None => {
                self.at = None;
                self.mapped = 0..0;
                self.unmapping = false;
            }
        }
        piece.map(|(piece, _)| piece)
    }

    /// Begins to map it at `wanted`, of which nobody else has any. Nothing may be mapped.
    pub fn begin(&mut self, wanted: Gpa) {
        self.at = Some(wanted);
        self.mapped = 0..0;
    }

    /// As [`Mapping::begin`], where the BAR has moved to `host`, of the same size.
    pub fn begin_identity(&mut self, host: HpaRange) {
        self.host = host;
        self.begin(Gpa::new(host.start().get()));
    }

    /// The next piece to map; `None` when all is mapped.
    pub fn map(&mut self) -> Option<Piece> {
        let piece = self.piece(self.mapped.end..self.host.size());
        self.mapped.end = match &piece {
            Some((_, rest)) => *rest,
            None => self.host.size(),
        };
        piece.map(|(piece, _)| piece)
    }

    /// The piece that was to be mapped last is not: what is mapped before it has to go.
    pub fn fail(&mut self, piece: Piece) {
        if let Some(at) = self.at {
            let offset = piece.guest.start().get().saturating_sub(at.get());
            self.mapped.end = offset.min(self.mapped.end);
            self.failed = true;
        }
    }

    /// The first piece of some offsets, and where the next begins.
    fn piece(&self, offsets: Range<u64>) -> Option<(Piece, u64)> {
        let at = self.at?;
        let mut start = offsets.start;
        for hole in &self.holes {
            if hole.contains(&start) {
                start = hole.end;
            }
        }
        let next_hole = self.holes.iter().map(|hole| hole.start);
        let next_hole = next_hole.filter(|hole| *hole > start).min();
        let end = offsets.end.min(next_hole.unwrap_or(u64::MAX));
        if start >= end {
            return None;
        }
        let guest = at.checked_add(start)?;
        let host = self.host.start().checked_add(start)?;
        let size = step(guest, host, end - start);
        let piece = Piece {
            bar: self.bar,
            guest: GpaRange::new(guest, size)?,
            host: HpaRange::new(host, size)?,
            prefetchable: self.prefetchable,
        };
        Some((piece, start.checked_add(size)?))
    }
}

/// How much of `left` bytes to do at once: as many blocks, as large as they can be, as one table has
/// entries.
fn step(guest: Gpa, host: Hpa, left: u64) -> u64 {
    let apart = guest.get() ^ host.get();
    let block = [BLOCK_1G, BLOCK_2M]
        .into_iter()
        .find(|block| apart & (block - 1) == 0)
        .unwrap_or(PAGE_SIZE);
    // Large blocks begin at their own multiples: until there, smaller ones.
    let most = match block {
        PAGE_SIZE => ENTRIES * PAGE_SIZE,
        block => block.max(BLOCK_1G),
    };
    let boundary = most - guest.get() % most;
    left.min(boundary)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const KIND: BarKind = BarKind::Memory64 { prefetchable: true };

    fn mapping(host: u64, size: u64, holes: &[Range<u64>]) -> Mapping {
        let host = HpaRange::new(Hpa::new(host), size).unwrap();
        Mapping::new(0, KIND, host, holes.iter().cloned().collect())
    }

    #[test]
    fn sixteen_gib_are_sixteen_pieces() {
        let mut mapping = mapping(0x80_0000_0000, 16 << 30, &[]);
        mapping.begin(Gpa::new(0x40_0000_0000));
        let pieces: Vec<_> = core::iter::from_fn(|| mapping.map()).collect();
        assert_eq!(pieces.len(), 16);
        assert!(mapping.is_settled(Some(Gpa::new(0x40_0000_0000))));
    }

    #[test]
    fn holes_are_left_out() {
        let mut mapping = mapping(0x8000_0000, 0x8000, &[0x2000..0x3000, 0x3000..0x4000]);
        mapping.begin(Gpa::new(0x2000_0000));
        let pieces: Vec<_> = core::iter::from_fn(|| mapping.map())
            .map(|piece| {
                (
                    piece.guest.start().get(),
                    piece.host.start().get(),
                    piece.guest.size(),
                )
            })
            .collect();
        assert_eq!(
            pieces,
            [
                (0x2000_0000, 0x8000_0000, 0x2000),
                (0x2000_4000, 0x8000_4000, 0x4000)
            ]
        );
    }

    #[test]
    fn what_cannot_be_mapped_is_taken_back() {
        let size = 3 * (2 << 20);
        let mut mapping = mapping(0x8000_0000, size, &[]);
        // Not even 2 MiB apart: pages.
        mapping.begin(Gpa::new(0x2000_1000));
        let first = mapping.map().unwrap();
        let second = mapping.map().unwrap();
        mapping.fail(second);
        let wanted = Some(Gpa::new(0x2000_1000));
        assert!(mapping.must_unmap(wanted) && mapping.has_failed());
        assert_eq!(mapping.unmap().unwrap(), first);
        assert_eq!(mapping.unmap(), None);
        assert!(mapping.is_settled(wanted));
        mapping.retry();
        assert!(!mapping.is_settled(wanted));
    }

    proptest! {
        /// What is mapped and unmapped balances, wherever it is interrupted.
        #[test]
        fn maps_and_unmaps_balance(
            pages in 1..3000_u64, at in 0..1_000_000_u64, host in 0..1_000_000_u64,
            hole in 0..3000_u64, hole_pages in 0..3_u64, stop in 0..8_usize,
        ) {
            let hole = hole % pages;
            let hole = hole * PAGE_SIZE..(hole + hole_pages).min(pages) * PAGE_SIZE;
            let hole_size = hole.end - hole.start;
            let mut mapping = mapping(host * PAGE_SIZE, pages * PAGE_SIZE, core::slice::from_ref(&hole));
            let at = Gpa::new(at * PAGE_SIZE);
            mapping.begin(at);
            let mut mapped: Vec<Piece> = Vec::new();
            while let Some(piece) = mapping.map() {
                let apart = mapped.last().is_none_or(|last| last.guest.end() <= piece.guest.start());
                prop_assert!(apart);
                let offset = piece.guest.start().get() - at.get();
                prop_assert_eq!(piece.host.start().get(), host * PAGE_SIZE + offset);
                prop_assert!(offset + piece.guest.size() <= hole.start || offset >= hole.end);
                mapped.push(piece);
                if mapped.len() == stop {
                    break;
                }
            }
            let total: u64 = mapped.iter().map(|piece| piece.guest.size()).sum();
            if mapped.len() != stop {
                prop_assert_eq!(total, pages * PAGE_SIZE - hole_size);
            }
            let mut unmapped = 0;
            while let Some(piece) = mapping.unmap() {
                unmapped += piece.guest.size();
            }
            prop_assert_eq!(unmapped, total);
            prop_assert!(mapping.claim().is_none() && mapping.is_settled(None));
        }
    }
}
