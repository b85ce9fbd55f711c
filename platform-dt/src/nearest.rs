//! Names that are nearly the one that was written.

use core::fmt;

use arrayvec::ArrayVec;

use crate::error::Word;

/// Longer names are not compared.
const MAX_LENGTH: usize = 40;
/// How many names are suggested.
const MAX_SUGGESTIONS: usize = 3;

/// Up to three names, the nearest first. Displays as `; did you mean a, b?`, or as nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Suggestions([Option<Word>; MAX_SUGGESTIONS]);

impl Suggestions {
    /// The names among `candidates` that differ from `wanted` by at most a third of its letters.
    pub(crate) fn new<'n>(wanted: &str, candidates: impl Iterator<Item = &'n str>) -> Self {
        let limit = wanted.len().div_ceil(3);
        let mut nearest: ArrayVec<(usize, &str), { MAX_SUGGESTIONS + 1 }> = ArrayVec::new();
        for candidate in candidates {
            let Some(distance) = distance(wanted, candidate).filter(|&d| d <= limit) else {
                continue;
            };
            let place = nearest.iter().take_while(|(d, _)| *d <= distance).count();
            nearest.insert(place, (distance, candidate));
            nearest.truncate(MAX_SUGGESTIONS);
        }
        let mut names = nearest.iter().map(|(_, name)| Word::new(name));
        Self(core::array::from_fn(|_| names.next()))
    }
}

impl fmt::Display for Suggestions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "; did you mean ";
        for name in self.0.iter().flatten() {
            write!(f, "{separator}{name}")?;
            separator = ", ";
        }
        if self.0.iter().flatten().next().is_some() {
            f.write_str("?")?;
        }
        Ok(())
    }
}

/// How many letters must be inserted, removed or replaced to make `b` of `a` (the distance of
/// Levenshtein); `None` where one of them has more than 40 bytes and is not compared.
pub fn distance(a: &str, b: &str) -> Option<usize> {
    if a.len() > MAX_LENGTH || b.len() > MAX_LENGTH {
        return None;
    }
    // `row` holds the distances of the letters of `a` read so far to each beginning of `b`.
    let mut row: ArrayVec<usize, { MAX_LENGTH + 1 }> = (0..=b.len()).collect();
    for (i, letter) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let (first, rest) = row.split_first_mut()?;
        *first = left;
        for (above, other) in rest.iter_mut().zip(b.bytes()) {
            let replaced = diagonal + usize::from(letter != other);
            diagonal = *above;
            left = replaced.min(diagonal + 1).min(left + 1);
            *above = left;
        }
    }
    row.last().copied()
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_come_first() {
        let names = [
            "serial1",
            "ethernet0",
            "serial10",
            "serial0",
            "seri0l",
            "i2c0",
        ];
        let suggestions = Suggestions::new("serial00", names.into_iter());
        assert_eq!(
            suggestions.to_string(),
            "; did you mean serial10, serial0, serial1?"
        );
    }

    #[test]
    fn nothing_near_suggests_nothing() {
        let suggestions = Suggestions::new("uart", ["ethernet0", "i2c0"].into_iter());
        assert_eq!(suggestions.to_string(), "");
    }

    proptest! {
        #[test]
        fn distance_is_a_metric(a in "[a-c]{0,8}", b in "[a-c]{0,8}", c in "[a-c]{0,8}") {
            let d = |a: &str, b: &str| distance(a, b).unwrap();
            prop_assert_eq!(d(&a, &b) == 0, a == b);
            prop_assert_eq!(d(&a, &b), d(&b, &a));
            prop_assert!(d(&a, &c) <= d(&a, &b) + d(&b, &c));
            prop_assert!(d(&a, &b) <= a.len().max(b.len()));
        }
    }
}
