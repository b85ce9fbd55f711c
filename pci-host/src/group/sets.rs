//! Disjoint sets of numbers.

use alloc::vec::Vec;

/// The numbers up to some count, each in one set.
pub(super) struct Sets(Vec<usize>);

impl Sets {
    /// Each in a set of its own.
    pub fn new(count: usize) -> Self {
        Self((0..count).collect())
    }

    /// The lowest number of the set; the number itself if it is in none.
    pub fn find(&self, number: usize) -> usize {
        let mut number = number;
        // Each number leads to a lower one, or is the lowest.
        while let Some(&lower) = self.0.get(number) {
            if lower == number {
                break;
            }
            number = lower;
        }
        number
    }

    /// Makes one set of two.
    pub fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.find(one), self.find(other));
        let (low, high) = (one.min(other), one.max(other));
        if let Some(place) = self.0.get_mut(high) {
            *place = low;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sets_are_a_partition_that_joins_make(
            joins in proptest::collection::vec((0..16_usize, 0..16_usize), 0..20),
        ) {
            let mut sets = Sets::new(16);
            let mut model: Vec<usize> = (0..16).collect();
            for (one, other) in joins {
                sets.join(one, other);
                let (from, to) = (model[one].max(model[other]), model[one].min(model[other]));
                model.iter_mut().filter(|set| **set == from).for_each(|set| *set = to);
            }
            for (number, set) in model.into_iter().enumerate() {
                prop_assert_eq!(sets.find(number), set);
            }
        }
    }
}
