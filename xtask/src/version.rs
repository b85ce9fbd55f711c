//! Versions as programs and packages print them, compared by their leading numbers.

use std::fmt;

/// `major.minor.patch`; what is missing is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// The first version in a text: `QEMU emulator version 10.0.2 (…)`, `1:10.0.2+ds-2`.
    pub fn find(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(Self::parse_word)
    }

    fn parse_word(word: &str) -> Option<Self> {
        // A Debian version may start with an epoch.
        let word = match word.split_once(':') {
            Some((epoch, rest)) if epoch.bytes().all(|b| b.is_ascii_digit()) => rest,
            _ => word,
        };
        let end = word
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(word.len());
        let mut numbers = word[..end].split('.').map(str::parse);
        let major = numbers.next()?.ok()?;
        let minor = numbers.next()?.ok()?;
        let patch = numbers.next().and_then(Result::ok).unwrap_or(0);
        Some(Self(major, minor, patch))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)?;
        if self.2 != 0 {
            write!(f, ".{}", self.2)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_packages() {
        let find = |text| Version::find(text).unwrap();
        assert_eq!(
            find("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)"),
            Version(10, 0, 2)
        );
        assert_eq!(
            find("rustc 1.96.0 (ac68faa20 2026-07-01)"),
            Version(1, 96, 0)
        );
        assert_eq!(find("1:7.2+dfsg-7+deb12u16"), Version(7, 2, 0));
        assert_eq!(find("1.96.0+dfsg1-1~deb12u2"), Version(1, 96, 0));
        assert_eq!(Version::find("(none)"), None);
        assert_eq!(Version::find(""), None);
    }

    #[test]
    fn order_is_numeric() {
        assert!(Version(10, 0, 0) > Version(7, 2, 19));
        assert!(Version(1, 95, 0) <= Version(1, 95, 1));
        assert_eq!(Version(10, 0, 0).to_string(), "10.0");
    }
}
