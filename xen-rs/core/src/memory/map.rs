//! Which RAM is free: banks minus what is taken, before there is an allocator.

use xen_types::{Hpa, HpaRange, PAGE_SIZE};

/// The whole free pages of `ram`, bank by bank, lowest first: what no range of `taken` touches.
///
/// The banks do not overlap each other. `taken` may be unsorted, may overlap itself and need not be
/// RAM; a page that it touches in part is not free.
pub fn free_ranges<'a>(
    ram: &'a [HpaRange],
    taken: &'a [HpaRange],
) -> impl Iterator<Item = HpaRange> + 'a {
    ram.iter().flat_map(move |bank| FreeIn {
        rest: bank.page_aligned_inwards(),
        taken,
    })
}

/// The highest free `size` bytes that start at a multiple of `align`, a power of two; `None` if
/// there are none, or `size` is 0. High memory leaves the low one to devices that reach no further.
pub fn place(ram: &[HpaRange], taken: &[HpaRange], size: u64, align: u64) -> Option<HpaRange> {
    debug_assert!(align.is_power_of_two());
    free_ranges(ram, taken)
        .filter_map(|free| highest_in(free, size, align))
        .max_by_key(|place| place.start())
}

fn highest_in(free: HpaRange, size: u64, align: u64) -> Option<HpaRange> {
    let start = free.end().get().checked_sub(size)? & !(align - 1);
    HpaRange::new(Hpa::new(start), size).filter(|place| free.contains_range(*place))
}

/// The free ranges of one bank.
struct FreeIn<'a> {
    rest: Option<HpaRange>,
    taken: &'a [HpaRange],
}

impl Iterator for FreeIn<'_> {
    type Item = HpaRange;

    fn next(&mut self) -> Option<HpaRange> {
        loop {
            let rest = self.rest?;
            let Some(obstacle) = first_obstacle(rest, self.taken) else {
                self.rest = None;
                return Some(rest);
            };
            self.rest = HpaRange::between(obstacle.end(), rest.end());
            if let Some(free) = HpaRange::between(rest.start(), obstacle.start()) {
                return Some(free);
            }
        }
    }
}

/// The pages of `within` that the taken range which begins first there touches.
fn first_obstacle(within: HpaRange, taken: &[HpaRange]) -> Option<HpaRange> {
    taken
        .iter()
        .filter_map(|range| touched_pages(*range)?.intersection(within))
        .min_by_key(|range| range.start())
}

/// The range in whole pages, but for a page that ends with the address space, which no RAM shares.
fn touched_pages(range: HpaRange) -> Option<HpaRange> {
    let start = range.start().get() & !(PAGE_SIZE - 1);
    let end = range.end().get().checked_next_multiple_of(PAGE_SIZE);
    HpaRange::between(Hpa::new(start), Hpa::new(end.unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, end: u64) -> HpaRange {
        HpaRange::between(Hpa::new(start), Hpa::new(end)).unwrap()
    }

    fn free(ram: &[HpaRange], taken: &[HpaRange]) -> Vec<HpaRange> {
        free_ranges(ram, taken).collect()
    }

    #[test]
    fn partly_taken_pages_are_not_free_and_partial_pages_are_not_ram() {
        let ram = [range(0x4000_0800, 0x4001_0800)];
        let taken = [
            range(0x4000_8fff, 0x4000_9001),
            range(0x4000_4000, 0x4000_5000),
        ];
        assert_eq!(
            free(&ram, &taken),
            [
                range(0x4000_1000, 0x4000_4000),
                range(0x4000_5000, 0x4000_8000),
                range(0x4000_a000, 0x4001_0000),
            ]
        );
    }

    #[test]
    fn taken_ranges_may_overlap_and_reach_beyond_ram() {
        let ram = [range(0x10000, 0x20000), range(0x40000, 0x50000)];
        let taken = [
            range(0x1e000, 0x42000),
            range(0x12000, 0x16000),
            range(0x10000, 0x14000),
            range(0x13000, 0x15000),
        ];
        assert_eq!(
            free(&ram, &taken),
            [range(0x16000, 0x1e000), range(0x42000, 0x50000)]
        );
        assert_eq!(free(&ram, &[range(0, u64::MAX)]), []);
    }

    #[test]
    fn the_end_of_the_address_space_is_taken_too() {
        let ram = [range(u64::MAX - 0x2fff, u64::MAX)];
        assert_eq!(
            free(&ram, &[]),
            [range(u64::MAX - 0x2fff, u64::MAX - 0xfff)]
        );
        assert_eq!(
            free(&ram, &[range(u64::MAX - 0x1000, u64::MAX)]),
            [range(u64::MAX - 0x2fff, u64::MAX - 0x1fff)]
        );
    }

    #[test]
    fn the_highest_place_that_fits_is_found() {
        let ram = [
            range(0x8000_0000, 0x8000_5000),
            range(0x4000_0000, 0x4100_0000),
        ];
        let taken = [range(0x40f0_0000, 0x40f0_1000)];
        let at = |size, align| place(&ram, &taken, size, align).map(|place| place.start().get());
        assert_eq!(at(0x2000, 0x1000), Some(0x8000_3000));
        assert_eq!(at(0x2000, 0x4000), Some(0x8000_0000));
        assert_eq!(at(0x6000, 0x1000), Some(0x40ff_a000));
        assert_eq!(at(0x20_0000, 0x20_0000), Some(0x40c0_0000));
        assert_eq!(at(0x1000_0000, 0x1000), None);
        assert_eq!(at(u64::MAX, 0x1000), None);
        assert_eq!(at(0, 0x1000), None);
    }

    /// Bytes below this, in steps that often miss the borders of pages.
    const END: u64 = 64 * PAGE_SIZE;

    fn any_range() -> impl Strategy<Value = HpaRange> {
        let step = PAGE_SIZE / 4;
        (0..END / step, 1..40u64)
            .prop_map(move |(start, length)| range(start * step, (start + length) * step))
    }

    /// Banks that do not overlap.
    fn any_banks() -> impl Strategy<Value = Vec<HpaRange>> {
        prop::collection::vec(any_range(), 0..4).prop_map(|ranges| {
            let mut banks: Vec<HpaRange> = Vec::new();
            for range in ranges {
                if banks.iter().all(|bank| !bank.overlaps(range)) {
                    banks.push(range);
                }
            }
            banks
        })
    }

    fn pages() -> impl Iterator<Item = HpaRange> {
        (0..2 * END)
            .step_by(PAGE_SIZE as usize)
            .map(|start| range(start, start + PAGE_SIZE))
    }

    proptest! {
        #[test]
        fn free_is_each_page_of_ram_that_nothing_touches(
            ram in any_banks(),
            taken in prop::collection::vec(any_range(), 0..8),
        ) {
            let found = free(&ram, &taken);
            for page in pages() {
                let expected = ram.iter().any(|bank| bank.contains_range(page))
                    && !taken.iter().any(|range| range.overlaps(page));
                let count = found.iter().filter(|range| range.overlaps(page)).count();
                prop_assert_eq!(count, usize::from(expected), "{}", page);
            }
        }

        #[test]
        fn a_place_is_free_aligned_and_the_highest(
            ram in any_banks(),
            taken in prop::collection::vec(any_range(), 0..8),
            pages in 1..8u64,
            align in 12..16u32,
        ) {
            let (size, align) = (pages * PAGE_SIZE, 1 << align);
            let fits = |start: u64| {
                free(&ram, &taken).iter().any(|free| free.contains_range(range(start, start + size)))
            };
            let highest = (0..2 * END).step_by(align as usize).filter(|start| fits(*start)).last();
            let found = place(&ram, &taken, size, align);
            prop_assert_eq!(found.map(|place| place.start().get()), highest);
            prop_assert!(found.is_none_or(|place| place.size() == size));
        }
    }
}
