//! The RAM of a domain that the hypervisor builds itself: its banks in Xen's layout for Arm, and the
//! blocks in which it gets them.

use arrayvec::ArrayVec;
use xen_abi::layout::{RAM0, RAM1, Region};
use xen_types::{Gfn, Gpa, GpaRange, PAGE_SIZE};

/// Sizes of blocks, as log2 of pages: 1 GiB, 2 MiB and a page, as stage 2 maps them.
const ORDERS: [u8; 3] = [18, 9, 0];

/// The banks of so many bytes, in whole pages; `None` where that is nothing, or more than there is room
/// for.
pub fn banks(bytes: u64) -> Option<ArrayVec<GpaRange, 2>> {
    let bytes = bytes.checked_next_multiple_of(PAGE_SIZE)?;
    let low = bytes.min(RAM0.size);
    let high = bytes - low;
    if low == 0 || high > RAM1.size {
        return None;
    }
    let bank = |region: Region, size| GpaRange::new(Gpa::new(region.base), size);
    let banks = [bank(RAM0, low), bank(RAM1, high)];
    Some(banks.into_iter().flatten().collect())
}

/// What is left of a bank to be had, in blocks that get smaller where there are no large ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blocks {
    next: Gfn,
    pages: u64,
    largest: u8,
}

impl Blocks {
    /// All of a bank.
    pub fn of(bank: GpaRange) -> Self {
        Self {
            next: bank.start().frame(),
            pages: bank.size() / PAGE_SIZE,
            largest: ORDERS[0],
        }
    }

    /// Where the next block goes, and log2 of its pages; `None` where nothing is left.
    pub fn next(&self) -> Option<(Gfn, u8)> {
        let fits = |order: &u8| {
            let pages = 1_u64 << order;
            *order <= self.largest && self.pages >= pages && self.next.get().is_multiple_of(pages)
        };
        let order = ORDERS.into_iter().find(fits)?;
        Some((self.next, order))
    }

    /// The next block is there.
    pub fn advance(&mut self) {
        if let Some((gfn, order)) = self.next() {
            let pages = 1 << order;
            self.pages -= pages;
            self.next = gfn.checked_add(pages).unwrap_or(gfn);
        }
    }

    /// There is no such block: smaller ones have to do. Returns false if there are none.
    pub fn shrink(&mut self) -> bool {
        let Some((_, order)) = self.next() else {
            return false;
        };
        let smaller = ORDERS.into_iter().find(|other| *other < order);
        self.largest = smaller.unwrap_or(self.largest);
        smaller.is_some()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;
    use std::vec::Vec;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn ranges(bytes: u64) -> Vec<(u64, u64)> {
        let banks = banks(bytes).unwrap();
        let pair = |bank: &GpaRange| (bank.start().get(), bank.size());
        banks.iter().map(pair).collect()
    }

    #[test]
    fn banks_are_those_of_the_layout() {
        assert_eq!(ranges(1), [(0x4000_0000, 0x1000)]);
        assert_eq!(ranges(512 * MIB), [(0x4000_0000, 512 * MIB)]);
        assert_eq!(
            ranges(4096 * MIB),
            [(0x4000_0000, 3072 * MIB), (0x2_0000_0000, 1024 * MIB)]
        );
        assert_eq!(banks(0), None);
        assert_eq!(banks(u64::MAX), None);
        assert_eq!(banks(RAM0.size + RAM1.size + 1), None);
    }

    #[test]
    fn blocks_are_as_large_as_there_are() {
        let mut blocks = Blocks::of(banks(1026 * MIB).unwrap()[0]);
        assert_eq!(blocks.next(), Some((Gfn::new(0x4_0000), 18)));
        assert!(blocks.shrink());
        assert_eq!(blocks.next(), Some((Gfn::new(0x4_0000), 9)));
        assert!(blocks.shrink());
        assert_eq!(blocks.next(), Some((Gfn::new(0x4_0000), 0)));
        assert!(!blocks.shrink());
    }

    proptest! {
        #[test]
        fn blocks_cover_a_bank_once(pages in 1_u64..3 << 18, failures in any::<u64>()) {
            let bank = banks(pages * PAGE_SIZE).unwrap()[0];
            let (mut blocks, mut failures) = (Blocks::of(bank), failures);
            let mut next = bank.start().frame();
            while let Some((gfn, order)) = blocks.next() {
                prop_assert_eq!(gfn, next);
                prop_assert!(gfn.get().is_multiple_of(1 << order));
                failures = failures.rotate_right(1);
                if failures & 1 == 1 && failures & 0xff == 1 && blocks.shrink() {
                    continue;
                }
                next = gfn.checked_add(1 << order).unwrap();
                blocks.advance();
            }
            prop_assert_eq!(next.get() - bank.start().frame().get(), pages);
        }
    }
}
