//! The known name that is nearly the one that was written.

use arrayvec::ArrayVec;

/// Longer words are near to nothing.
const LONGEST: usize = 32;
/// A name is near if no more letters differ.
const NEAR: usize = 2;

/// The name that differs least from `word`, if it is near.
pub(super) fn nearest<'n>(word: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    names
        .filter_map(|name| Some((distance(word, name)?, name)))
        .filter(|(distance, _)| *distance <= NEAR)
        .min()
        .map(|(_, name)| name)
}

/// Letters to insert, delete or replace between two words (Levenshtein).
fn distance(a: &str, b: &str) -> Option<usize> {
    if a.len() > LONGEST || b.len() > LONGEST {
        return None;
    }
    // Distances of the letters of `a` read so far to each beginning of `b`.
    let mut row: ArrayVec<usize, { LONGEST + 1 }> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let (first, rest) = row.split_first_mut()?;
        let mut diagonal = core::mem::replace(first, i + 1);
        let mut left = i + 1;
        for (slot, y) in rest.iter_mut().zip(b.bytes()) {
            let replaced = diagonal + usize::from(x != y);
            diagonal = *slot;
            left = replaced.min(diagonal + 1).min(left + 1);
            *slot = left;
        }
    }
    row.last().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_nearest_is_found_and_the_far_is_not() {
        let names = ["loglvl", "guest_loglvl", "console"];
        let near = |word| nearest(word, names.into_iter());
        assert_eq!(near("logvl"), Some("loglvl"));
        assert_eq!(near("cosnole"), Some("console"));
        assert_eq!(near("lvl"), None);
        assert_eq!(near(""), None);
        assert_eq!(near(&"c".repeat(1000)), None);
    }

    #[test]
    fn distances() {
        let cases = [
            ("", "", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
        ];
        for (a, b, expected) in cases {
            assert_eq!(distance(a, b), Some(expected), "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn distance_is_a_metric(a in "[a-c]{0,8}", b in "[a-c]{0,8}", c in "[a-c]{0,8}") {
            let d = |a: &str, b: &str| distance(a, b).unwrap();
            prop_assert_eq!(d(&a, &b) == 0, a == b);
            prop_assert_eq!(d(&a, &b), d(&b, &a));
            prop_assert!(d(&a, &c) <= d(&a, &b) + d(&b, &c));
        }
    }
}
