//! The memory of a guest: its banks, and the pieces in which it is asked for.

use xen_abi::layout::{RAM0, RAM1, Region};
use xen_types::{Gpa, GpaRange, PAGE_SHIFT, PAGE_SIZE};

/// Bytes of a MiB.
pub const MIB: u64 = 1 << 20;
/// Sizes of pieces, as log2 of pages: what stage 2 maps as one block of 1 GiB, of 2 MiB, and a page.
pub const ORDERS: [u32; 3] = [18, 9, 0];
/// Extended regions begin and end at multiples of this.
const REGION_ALIGNMENT: u64 = 2 * MIB;
/// A smaller extended region is of no use.
const REGION_LEAST: u64 = 64 * MIB;

/// The memory of a guest, in Xen's layout for Arm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Memory {
    banks: Vec<GpaRange>,
}

/// Guest frames that are asked for in one call: so many pieces of the same size, one behind the
/// other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The first frame.
    pub first: u64,
    /// log2 of the pages of a piece.
    pub order: u32,
    /// How many pieces.
    pub count: u64,
}

impl Extent {
    /// The first frame of each piece.
    pub fn frames(self) -> impl Iterator<Item = u64> {
        (0..self.count).map(move |place| self.first + (place << self.order))
    }

    /// Pages of all pieces.
    pub fn pages(self) -> u64 {
        self.count << self.order
    }

    /// What is behind the first `done` pieces, in smaller ones if there are any.
    pub fn rest(self, done: u64) -> Vec<Self> {
        let first = self.first + (done << self.order);
        let pages = (self.count - done) << self.order;
        let smaller = ORDERS.into_iter().find(|order| *order < self.order);
        match smaller {
            Some(order) => cut(first, pages, order),
            None => Vec::new(),
        }
    }
}

/// Pieces for pages, the largest first that fit where they begin; none larger than `most`.
fn cut(mut first: u64, mut pages: u64, most: u32) -> Vec<Extent> {
    let mut extents: Vec<Extent> = Vec::new();
    while pages > 0 {
        let fits = |order: &u32| {
            let piece = 1 << order;
            *order <= most && first.is_multiple_of(piece) && pages >= piece
        };
        let order = ORDERS.into_iter().find(fits).unwrap_or(0);
        // As many as fit before a larger piece could begin.
        let larger = ORDERS
            .into_iter()
            .rfind(|larger| *larger > order && *larger <= most);
        let until = larger.map_or(pages, |larger| {
            let border = (first + 1).next_multiple_of(1 << larger);
            match pages >= (border - first) + (1 << larger) {
                true => border - first,
                false => pages,
            }
        });
        let count = (until >> order).max(1);
        extents.push(Extent {
            first,
            order,
            count,
        });
        first += count << order;
        pages -= count << order;
    }
    extents
}

impl Memory {
    /// So many MiB; `None` if that is more than the layout has room for, or nothing.
    pub fn new(mib: u64) -> Option<Self> {
        let bytes = mib.checked_mul(MIB).filter(|bytes| *bytes > 0)?;
        let low = bytes.min(RAM0.size);
        let high = bytes - low;
        if high > RAM1.size {
            return None;
        }
        let bank = |region: Region, size| GpaRange::new(Gpa::new(region.base), size);
        let banks = [bank(RAM0, low), bank(RAM1, high)];
        Some(Self {
            banks: banks.into_iter().flatten().collect(),
        })
    }

    /// Its banks, ascending.
    pub fn banks(&self) -> &[GpaRange] {
        &self.banks
    }

    /// The bank that the kernel goes to.
    pub fn first_bank(&self) -> GpaRange {
        self.banks[0]
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.banks.iter().map(|bank| bank.size()).sum()
    }

    /// The pieces in which it is asked for.
    pub fn extents(&self) -> Vec<Extent> {
        let pieces = self.banks.iter().flat_map(|bank| {
            let first = bank.start().get() >> PAGE_SHIFT;
            cut(first, bank.size() / PAGE_SIZE, ORDERS[0])
        });
        pieces.collect()
    }

    /// Where it has nothing and may map pages of others, below 2^`address_bits`.
    pub fn extended_regions(&self, address_bits: u8) -> Vec<GpaRange> {
        let limit = 1_u64.checked_shl(address_bits.into()).unwrap_or(u64::MAX);
        let region = |whole: Region| {
            let used = self
                .banks
                .iter()
                .find(|bank| bank.start().get() == whole.base);
            let start = used.map_or(whole.base, |bank| bank.end().get());
            let start = start.next_multiple_of(REGION_ALIGNMENT);
            let end = whole.end().min(limit);
            let size = end.checked_sub(start)?;
            GpaRange::new(Gpa::new(start), size - size % REGION_ALIGNMENT)
        };
        let regions = [RAM0, RAM1].into_iter().filter_map(region);
        regions
            .filter(|region| region.size() >= REGION_LEAST)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn extent(first: u64, order: u32, count: u64) -> Extent {
        Extent {
            first,
            order,
            count,
        }
    }

    #[test]
    fn pieces_are_as_large_as_they_can_be() {
        let extents = |mib| Memory::new(mib).unwrap().extents();
        assert_eq!(extents(512), [extent(0x4_0000, 9, 256)]);
        assert_eq!(
            extents(1025),
            [extent(0x4_0000, 18, 1), extent(0x8_0000, 0, 256)]
        );
        assert_eq!(
            extents(4096),
            [extent(0x4_0000, 18, 3), extent(0x20_0000, 18, 1)]
        );
    }

    #[test]
    fn memory_that_does_not_fit_is_none() {
        assert_eq!(Memory::new(0), None);
        assert!(Memory::new((3 + 1016) << 10).is_some());
        assert_eq!(Memory::new(((3 + 1016) << 10) + 1), None);
        assert_eq!(Memory::new(u64::MAX), None);
    }

    #[test]
    fn extended_regions_are_where_no_memory_is() {
        let regions = |mib, bits| {
            let regions = Memory::new(mib).unwrap().extended_regions(bits);
            let pairs = regions.iter().map(|r| (r.start().get(), r.end().get()));
            pairs.collect::<Vec<_>>()
        };
        assert_eq!(
            regions(512, 40),
            [
                (0x6000_0000, 0x1_0000_0000),
                (0x2_0000_0000, 0x100_0000_0000)
            ]
        );
        assert_eq!(regions(4096, 33), []);
        assert_eq!(regions(4096, 34), [(0x2_4000_0000, 0x4_0000_0000)]);
    }

    proptest! {
        #[test]
        fn pieces_cover_all_once(first in 0u64..1 << 20, pages in 1u64..1 << 20, most in 0usize..3) {
            let mut next = first;
            for piece in cut(first, pages, ORDERS[most]) {
                prop_assert_eq!(piece.first, next);
                prop_assert!(piece.order <= ORDERS[most]);
                prop_assert!(piece.first.is_multiple_of(1 << piece.order));
                next += piece.pages();
            }
            prop_assert_eq!(next, first + pages);
        }

        #[test]
        fn what_is_left_is_asked_for_in_smaller_pieces(count in 1u64..20, done in 0u64..20) {
            let whole = extent(0x4_0000, 9, count);
            let done = done.min(count);
            let rest = whole.rest(done);
            let pages: u64 = rest.iter().map(|piece| piece.pages()).sum();
            prop_assert_eq!(pages, (count - done) << 9);
            prop_assert!(rest.iter().all(|piece| piece.order == 0));
        }
    }
}
