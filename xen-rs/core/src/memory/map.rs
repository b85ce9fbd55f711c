//! Which RAM is free: banks minus what is taken, without an allocator.

use xen_types::{Hpa, HpaRange};

/// The whole free pages of `ram`, lowest first within each bank: what no range of `taken` touches.
/// `taken` may be unsorted and overlap itself; pages that it touches in part are not free.
pub fn free_ranges<'a>(
    ram: &'a [HpaRange],
    taken: &'a [HpaRange],
) -> impl Iterator<Item = HpaRange> + 'a {
    ram.iter().flat_map(move |bank| FreeIn {
        rest: bank.page_aligned_inwards(),
        taken,
    })
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

/// The part of `within` that the taken range with the lowest start covers, in whole pages.
fn first_obstacle(within: HpaRange, taken: &[HpaRange]) -> Option<HpaRange> {
    taken
        .iter()
        .filter_map(|range| range.page_aligned_outwards()?.intersection(within))
        .min_by_key(|range| range.start())
}

/// The highest `size` bytes aligned to `align` (a power of two of at least a page) that are free.
pub fn place(ram: &[HpaRange], taken: &[HpaRange], size: u64, align: u64) -> Option<HpaRange> {
    free_ranges(ram, taken)
        .filter_map(|free| {
            let start = free.end().get().checked_sub(size)? & !(align - 1);
            HpaRange::new(Hpa::new(start), size).filter(|place| free.contains_range(*place))
        })
        .max_by_key(|place| place.start())
}
