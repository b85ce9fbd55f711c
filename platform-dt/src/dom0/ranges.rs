//! Sets of host addresses as sorted lists of ranges that do not touch.

use alloc::vec::Vec;

use xen_types::HpaRange;

/// The same addresses, sorted and with ranges that overlap or touch made one.
pub(super) fn merged(mut ranges: Vec<HpaRange>) -> Vec<HpaRange> {
    ranges.sort_unstable_by_key(|range| range.start());
    let mut merged: Vec<HpaRange> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match merged.last_mut() {
            Some(last) if range.start() <= last.end() => {
                let end = last.end().max(range.end());
                *last = HpaRange::between(last.start(), end).unwrap_or(*last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

/// `range` without the addresses of `holes`, which must be sorted and apart.
pub(super) fn without(range: HpaRange, holes: &[HpaRange]) -> Vec<HpaRange> {
    let mut parts = Vec::new();
    let mut start = range.start();
    for hole in holes.iter().filter(|hole| hole.overlaps(range)) {
        parts.extend(HpaRange::between(start, hole.start()));
        start = hole.end();
    }
    parts.extend(HpaRange::between(start, range.end()));
    parts
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use xen_types::Hpa;

    use super::*;

    fn range() -> impl Strategy<Value = HpaRange> {
        (0_u64..64, 1_u64..16)
            .prop_map(|(start, size)| HpaRange::new(Hpa::new(start), size).unwrap())
    }

    fn contains(ranges: &[HpaRange], address: u64) -> bool {
        ranges.iter().any(|range| range.contains(Hpa::new(address)))
    }

    proptest! {
        #[test]
        fn merging_keeps_the_addresses(ranges in vec(range(), 0..12)) {
            let merged = merged(ranges.clone());
            for address in 0..96 {
                prop_assert_eq!(contains(&ranges, address), contains(&merged, address));
            }
            prop_assert!(merged.is_sorted_by(|a, b| a.end() < b.start()));
        }

        #[test]
        fn what_is_left_is_the_difference(whole in range(), holes in vec(range(), 0..12)) {
            let holes = merged(holes);
            let left = without(whole, &holes);
            for address in 0..96 {
                let expected = contains(&[whole], address) && !contains(&holes, address);
                prop_assert_eq!(contains(&left, address), expected);
            }
        }
    }
}
