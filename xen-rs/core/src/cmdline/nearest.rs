//! The known name that is nearly the one that was written.

use platform_dt::distance;

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

#[cfg(test)]
mod tests {
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
}
