//! What settings are about.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The name of a guest: what it is called on command lines and in file names.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct GuestName(String);

/// Letters of a name.
const MAX_NAME: usize = 80;
/// The name of the control domain.
pub const CONTROL_DOMAIN: &str = "Domain-0";

impl GuestName {
    /// Checks a name.
    ///
    /// # Errors
    /// Why it is none.
    pub fn new(name: &str) -> Result<Self, &'static str> {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.+".contains(letter);
        if name.is_empty() {
            Err("a guest's name is not empty")
        } else if name.len() > MAX_NAME {
            Err("a guest's name has at most 80 letters")
        } else if !name.chars().all(allowed) {
            Err("a guest's name has letters, digits and - _ . + only")
        } else if name.starts_with(['-', '.']) {
            Err("a guest's name begins with a letter or a digit")
        } else if name.chars().all(|letter| letter.is_ascii_digit()) {
            Err("a guest's name is no number: numbers are domain ids")
        } else if name == CONTROL_DOMAIN {
            Err("Domain-0 is the control domain's name")
        } else {
            Ok(Self(name.to_string()))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for GuestName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name)
    }
}

impl fmt::Display for GuestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The interrupt controller that a guest has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GicChoice {
    /// Of the same version as the machine's.
    #[default]
    Default,
    /// GICv2.
    V2,
    /// GICv3.
    V3,
}

/// What becomes of a guest that has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndAction {
    /// It goes.
    Destroy,
    /// It is made anew.
    Restart,
    /// It stays as it is until someone destroys it.
    Preserve,
    /// It stays under another name, and is made anew.
    RenameRestart,
    /// A picture of its memory is taken, then it goes.
    CoredumpDestroy,
    /// A picture of its memory is taken, then it is made anew.
    CoredumpRestart,
}

impl EndAction {
    /// The words for them.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("destroy", Self::Destroy),
        ("restart", Self::Restart),
        ("preserve", Self::Preserve),
        ("rename-restart", Self::RenameRestart),
        ("coredump-destroy", Self::CoredumpDestroy),
        ("coredump-restart", Self::CoredumpRestart),
    ];
}

/// What becomes of a guest, by how it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EndActions {
    /// It has switched itself off.
    pub poweroff: EndAction,
    /// It wants to start again.
    pub reboot: EndAction,
    /// It has failed.
    pub crash: EndAction,
    /// It has forgotten its watchdog.
    pub watchdog: EndAction,
}

impl Default for EndActions {
    fn default() -> Self {
        Self {
            poweroff: EndAction::Destroy,
            reboot: EndAction::Restart,
            crash: EndAction::Destroy,
            watchdog: EndAction::Destroy,
        }
    }
}

/// Whether a guest gets devices of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Passthrough {
    /// If its configuration names one.
    #[default]
    Default,
    /// Never.
    Disabled,
    /// It may get some later, too.
    Enabled,
}

/// Physical CPUs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CpuSet {
    /// All.
    All,
    /// These.
    These(BTreeSet<u32>),
}

/// The highest CPU that a set can name.
const MAX_CPU: u32 = 4095;

impl CpuSet {
    /// Reads a set: `all`, or numbers and ranges with commas between, of which those with a `^` are
    /// left out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut cpus = BTreeSet::new();
        let mut all = false;
        for part in text.split(',').map(str::trim) {
            if part == "all" {
                all = true;
                continue;
            }
            let (without, part) = match part.strip_prefix('^') {
                Some(rest) => (true, rest),
                None => (false, part),
            };
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |digits: &str| {
                let number = digits.trim().parse::<u32>().ok();
                number.filter(|number| *number <= MAX_CPU).ok_or_else(|| {
                    format!("{part:?} is no CPU and no range of them, as in \"0-3,^2\"")
                })
            };
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("the range {part} ends before it begins"));
            }
            if without && all {
                return Err("\"all\" without some: write the others".to_string());
            }
            for cpu in first..=last {
                if without {
                    cpus.remove(&cpu);
                } else {
                    cpus.insert(cpu);
                }
            }
        }
        if all {
            return Ok(Self::All);
        }
        if cpus.is_empty() {
            return Err("no CPU is left".to_string());
        }
        Ok(Self::These(cpus))
    }
}

impl fmt::Display for CpuSet {
    /// As it is read: ranges with commas between.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::These(cpus) = self else {
            return f.write_str("all");
        };
        let mut cpus = cpus.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if(|next| *next == last + 1) {
                last = next;
            }
            match last - first {
                0 => write!(f, "{comma}{first}")?,
                _ => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_cpus() {
        let shown = |text| CpuSet::parse(text).map(|set| set.to_string());
        assert_eq!(shown("0-3,^2, 7"), Ok("0-1,3,7".into()));
        assert_eq!(shown("all"), Ok("all".into()));
        assert_eq!(shown("3"), Ok("3".into()));
        for bad in ["", "a", "3-1", "1,^1", "-1", "0-9999", "all,^1"] {
            assert!(shown(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_are_no_numbers_and_no_paths() {
        assert!(GuestName::new("guest-1.a_b+c").is_ok());
        for bad in [
            "",
            "7",
            "a/b",
            "..",
            "Domain-0",
            "a b",
            "-x",
            &"x".repeat(81),
        ] {
            assert!(GuestName::new(bad).is_err(), "{bad}");
        }
    }
}
