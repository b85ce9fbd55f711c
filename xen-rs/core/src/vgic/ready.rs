//! A set of shared interrupts, with constant-time insertion and removal.

/// Words that hold 988 bits.
const WORDS: usize = 31;

/// Shared interrupts by number, counted from 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Ready {
    /// Which words have a bit set.
    summary: u32,
    words: [u32; WORDS],
}

impl Ready {
    pub(super) fn insert(&mut self, spi: u16) {
        let (word, bit) = (usize::from(spi / 32), spi % 32);
        if let Some(bits) = self.words.get_mut(word) {
            *bits |= 1 << bit;
            self.summary |= 1 << word;
        }
    }

    pub(super) fn remove(&mut self, spi: u16) {
        let (word, bit) = (usize::from(spi / 32), spi % 32);
        if let Some(bits) = self.words.get_mut(word) {
            *bits &= !(1 << bit);
            if *bits == 0 {
                self.summary &= !(1 << word);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        Bits(self.summary)
            .filter_map(|word| self.words.get(usize::from(word)))
            .map(|bits| bits.count_ones() as usize)
            .sum()
    }

    /// The members, lowest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        Bits(self.summary).flat_map(|word| {
            let bits = self.words.get(usize::from(word)).copied().unwrap_or(0);
            Bits(bits).map(move |bit| word * 32 + bit)
        })
    }
}

/// The numbers of the bits that are set, lowest first.
#[derive(Clone, Copy)]
pub(super) struct Bits(pub u32);

impl Iterator for Bits {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.0 == 0 {
            return None;
        }
        let bit = self.0.trailing_zeros() as u16;
        self.0 &= self.0 - 1;
        Some(bit)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::collections::BTreeSet;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_a_set(changes in prop::collection::vec((any::<bool>(), 0..988_u16), 0..200)) {
            let (mut ready, mut set) = (Ready::default(), BTreeSet::new());
            for (insert, spi) in changes {
                if insert {
                    ready.insert(spi);
                    set.insert(spi);
                } else {
                    ready.remove(spi);
                    set.remove(&spi);
                }
                prop_assert_eq!(ready.iter().collect::<Vec<_>>(), set.iter().copied().collect::<Vec<_>>());
            }
        }
    }
}
