//! The entries of all banks of RAM.

use core::fmt;

use arrayvec::ArrayVec;
use xen_types::{HpaRange, Mfn};

use super::FrameInfo;

/// The most banks of RAM.
pub const MAX_BANKS: usize = 64;

/// The number of a frame among the frames of all banks: the holes between them do not count.
/// 32 bits reach 16 TiB of RAM.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrameIndex(u32);

impl FrameIndex {
    /// Frame number `number`.
    pub(super) const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number, counted from zero.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The entries of one bank.
#[derive(Clone, Copy)]
struct Bank<'a> {
    range: HpaRange,
    /// Frames in the banks below.
    frames_below: u32,
    infos: &'a [FrameInfo],
}

impl Bank<'_> {
    fn first(&self) -> Mfn {
        self.range.start().frame()
    }

    fn end(&self) -> Mfn {
        self.range.end().frame()
    }
}

/// Why a bank cannot be added.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BankError {
    /// No frames, or they reach beyond 64 bits of address.
    #[error("a bank of {frames} frames at frame {first} is empty or beyond the address space")]
    Impossible {
        /// First frame.
        first: Mfn,
        /// Frames.
        frames: usize,
    },
    /// It shares frames with a bank that is known.
    #[error("RAM at {0} overlaps RAM at {1}")]
    Overlap(HpaRange, HpaRange),
    /// More frames than 32 bits count.
    #[error("RAM at {0} makes more than 16 TiB in all")]
    TooMuch(HpaRange),
    /// No room for another bank.
    #[error("RAM at {0} is one bank more than the {MAX_BANKS} that are supported")]
    TooManyBanks(HpaRange),
}

/// The entries of all RAM, shared by all CPUs.
#[derive(Default)]
pub struct FrameTable<'a> {
    /// By address.
    banks: ArrayVec<Bank<'a>, MAX_BANKS>,
}

impl<'a> FrameTable<'a> {
    /// A table without RAM.
    pub const fn new() -> Self {
        Self {
            banks: ArrayVec::new_const(),
        }
    }

    /// Adds the bank that starts at `first` and has an entry of `infos` for each frame.
    ///
    /// # Errors
    /// [`BankError`]; the table is as before.
    pub fn add_bank(&mut self, first: Mfn, infos: &'a [FrameInfo]) -> Result<(), BankError> {
        let range = range_of(first, infos.len()).ok_or(BankError::Impossible {
            first,
            frames: infos.len(),
        })?;
        if let Some(known) = self.banks.iter().find(|bank| bank.range.overlaps(range)) {
            return Err(BankError::Overlap(range, known.range));
        }
        // The last number is not used: links count from one.
        if self.frames() + infos.len() as u64 > u64::from(u32::MAX) {
            return Err(BankError::TooMuch(range));
        }
        let bank = Bank {
            range,
            frames_below: 0,
            infos,
        };
        let place = self
            .banks
            .partition_point(|known| known.range.start() < range.start());
        self.banks
            .try_insert(place, bank)
            .map_err(|_| BankError::TooManyBanks(range))?;
        self.number();
        Ok(())
    }

    fn number(&mut self) {
        let mut below = 0;
        for bank in &mut self.banks {
            bank.frames_below = below;
            below += bank.infos.len() as u32;
        }
    }

    /// Frames in all banks.
    pub fn frames(&self) -> u64 {
        self.banks.iter().map(|bank| bank.infos.len() as u64).sum()
    }

    /// The banks as ranges, lowest first.
    pub fn banks(&self) -> impl Iterator<Item = HpaRange> {
        self.banks.iter().map(|bank| bank.range)
    }

    /// The entry of a frame; `None` if it is not RAM.
    pub fn lookup(&self, frame: Mfn) -> Option<&'a FrameInfo> {
        let bank = self.bank(frame)?;
        bank.infos.get((frame.get() - bank.first().get()) as usize)
    }

    /// The number of a frame; `None` if it is not RAM.
    pub fn index(&self, frame: Mfn) -> Option<FrameIndex> {
        let bank = self.bank(frame)?;
        let offset = frame.get() - bank.first().get();
        Some(FrameIndex(bank.frames_below + offset as u32))
    }

    /// The frame of a number; `None` if there are not as many.
    pub fn frame(&self, index: FrameIndex) -> Option<Mfn> {
        let above = self
            .banks
            .partition_point(|bank| bank.frames_below <= index.0);
        let bank = self.banks.get(above.checked_sub(1)?)?;
        let frame = bank
            .first()
            .checked_add(u64::from(index.0 - bank.frames_below))?;
        (frame < bank.end()).then_some(frame)
    }

    /// The entries of `count` frames from `first`, if all lie in one bank.
    pub(in crate::memory) fn entries(&self, first: Mfn, count: u64) -> Option<&'a [FrameInfo]> {
        let bank = self.bank(first)?;
        let start = (first.get() - bank.first().get()) as usize;
        let end = start.checked_add(usize::try_from(count).ok()?)?;
        bank.infos.get(start..end)
    }

    /// The first bank that ends above `frame`.
    pub(in crate::memory) fn bank_from(&self, frame: Mfn) -> Option<HpaRange> {
        let place = self.banks.partition_point(|bank| bank.end() <= frame);
        self.banks.get(place).map(|bank| bank.range)
    }

    fn bank(&self, frame: Mfn) -> Option<&Bank<'a>> {
        let above = self.banks.partition_point(|bank| bank.first() <= frame);
        let bank = self.banks.get(above.checked_sub(1)?)?;
        (frame < bank.end()).then_some(bank)
    }
}

impl fmt::Debug for FrameTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.banks()).finish()
    }
}

fn range_of(first: Mfn, frames: usize) -> Option<HpaRange> {
    let end = first.checked_add(frames as u64)?;
    HpaRange::between(first.address()?, end.address()?)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use super::*;

    fn infos(frames: usize) -> Vec<FrameInfo> {
        (0..frames).map(|_| FrameInfo::default()).collect()
    }

    #[test]
    fn banks_come_in_any_order_and_holes_have_no_entries() {
        let (low, high) = (infos(3), infos(2));
        let mut table = FrameTable::new();
        table
            .add_bank(Mfn::new(0x80_0000_0000 >> 12), &high)
            .unwrap();
        table.add_bank(Mfn::new(0x4_0000), &low).unwrap();

        assert_eq!(table.frames(), 5);
        let numbers = [0x4_0000, 0x4_0001, 0x4_0002, 0x800_0000, 0x800_0001];
        for (number, frame) in numbers.into_iter().map(Mfn::new).enumerate() {
            assert_eq!(table.index(frame).unwrap().get() as usize, number);
            assert_eq!(table.frame(FrameIndex(number as u32)), Some(frame));
        }
        assert!(core::ptr::eq(
            table.lookup(Mfn::new(0x4_0002)).unwrap(),
            &low[2]
        ));
        assert!(core::ptr::eq(
            table.lookup(Mfn::new(0x800_0000)).unwrap(),
            &high[0]
        ));
        for hole in [0, 0x3_ffff, 0x4_0003, 0x7ff_ffff, 0x800_0002, u64::MAX] {
            assert!(table.lookup(Mfn::new(hole)).is_none(), "{hole:#x}");
            assert_eq!(table.index(Mfn::new(hole)), None);
        }
        assert_eq!(table.frame(FrameIndex(5)), None);
    }

    #[test]
    fn entries_do_not_reach_from_one_bank_into_the_next() {
        let (first, second) = (infos(4), infos(4));
        let mut table = FrameTable::new();
        table.add_bank(Mfn::new(0), &first).unwrap();
        table.add_bank(Mfn::new(4), &second).unwrap();
        assert_eq!(table.entries(Mfn::new(0), 4).map(<[_]>::len), Some(4));
        assert!(table.entries(Mfn::new(2), 4).is_none());
        assert!(table.entries(Mfn::new(2), u64::MAX).is_none());
    }

    #[test]
    fn a_bank_that_cannot_be_is_refused() {
        let four = infos(4);
        let mut table = FrameTable::new();
        table.add_bank(Mfn::new(8), &four).unwrap();
        for first in [5, 8, 11] {
            let error = table.add_bank(Mfn::new(first), &four).unwrap_err();
            assert!(matches!(error, BankError::Overlap(..)), "{error}");
        }
        for (first, infos) in [(100, &[][..]), (u64::MAX, &four), (u64::MAX >> 12, &four)] {
            let error = table.add_bank(Mfn::new(first), infos).unwrap_err();
            assert!(matches!(error, BankError::Impossible { .. }), "{error}");
        }
        assert_eq!(table.frames(), 4);
    }

    #[test]
    fn there_is_room_for_64_banks() {
        let one = infos(1);
        let mut table = FrameTable::new();
        for number in 0..MAX_BANKS as u64 {
            table.add_bank(Mfn::new(2 * number), &one).unwrap();
        }
        let error = table.add_bank(Mfn::new(1000), &one).unwrap_err();
        assert!(matches!(error, BankError::TooManyBanks(_)));
    }
}
