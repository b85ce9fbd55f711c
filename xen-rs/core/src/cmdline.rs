//! The hypervisor's command line: Xen's names where Xen has one (docs/misc/xen-command-line).
//!
//! Words are separated by spaces; `key=value`, or a bare `key` that means yes, or `no-key`. The last
//! one wins. An unknown key is a warning, a malformed value of a known key an error.

use core::fmt;

use arrayvec::ArrayVec;

use crate::log::Thresholds;

/// The most warnings that are kept.
const MAX_WARNINGS: usize = 16;

/// Keys that are acted upon.
const KNOWN: [&str; 6] = [
    "console",
    "dtuart",
    "guest_loglvl",
    "loglvl",
    "noreboot",
    "selftest",
];

/// Keys of Xen and of the design whose parts are not there yet.
const WITHOUT_EFFECT: [&str; 7] = [
    "assignable",
    "dom0_max_vcpus",
    "dom0_mem",
    "iommu",
    "pci-passthrough",
    "sched",
    "sync_console",
];

/// What the command line says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options<'a> {
    /// `loglvl=`: messages of the hypervisor.
    pub loglvl: Thresholds,
    /// `guest_loglvl=`: messages that guests cause.
    pub guest_loglvl: Thresholds,
    /// `console=none`: no output.
    pub console: bool,
    /// `dtuart=`: path or alias of the console's device tree node.
    pub dtuart: Option<&'a str>,
    /// `noreboot`: a report ends in a halt instead of a reset.
    pub noreboot: bool,
    /// `selftest=`: a fault to run into.
    pub selftest: SelfTest,
    warnings: ArrayVec<Warning<'a>, MAX_WARNINGS>,
}

/// A fault to run into once all CPUs are up, to see its report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SelfTest {
    /// None.
    None,
    /// A broken invariant.
    Panic,
    /// A write to memory that is not mapped.
    DataAbort,
    /// An undefined instruction.
    Undefined,
    /// A stack that runs into its guard.
    StackOverflow,
    /// A call into data.
    ExecuteData,
}

/// A word that is not acted upon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Warning<'a> {
    /// No such key.
    Unknown {
        /// The key.
        key: &'a str,
        /// The known key that it resembles.
        nearest: Option<&'static str>,
    },
    /// A key whose part of the hypervisor does not exist in this version.
    WithoutEffect(&'a str),
}

impl fmt::Display for Warning<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { key, nearest } => {
                write!(f, "unknown key {key:?} is ignored")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean {nearest:?}?"),
                    None => Ok(()),
                }
            }
            Self::WithoutEffect(key) => write!(f, "{key:?} has no effect in this version"),
        }
    }
}

/// A malformed value of a known key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{key}={value:?}: {reason}")]
pub struct CmdlineError<'a> {
    /// The key.
    pub key: &'static str,
    /// Its value.
    pub value: &'a str,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Default for Options<'_> {
    fn default() -> Self {
        Self {
            loglvl: Thresholds::DEFAULT,
            guest_loglvl: Thresholds::DEFAULT,
            console: true,
            dtuart: None,
            noreboot: false,
            selftest: SelfTest::None,
            warnings: ArrayVec::new(),
        }
    }
}

impl<'a> Options<'a> {
    /// Reads a command line.
    ///
    /// # Errors
    /// [`CmdlineError`] for the first malformed value.
    pub fn parse(line: &'a str) -> Result<Self, CmdlineError<'a>> {
        let mut options = Self::default();
        for word in line.split_ascii_whitespace() {
            options.apply(word)?;
        }
        Ok(options)
    }

    /// The words that were not acted upon; at most 16 are kept.
    pub fn warnings(&self) -> &[Warning<'a>] {
        &self.warnings
    }

    fn apply(&mut self, word: &'a str) -> Result<(), CmdlineError<'a>> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        match key {
            "loglvl" => self.loglvl = level("loglvl", value)?,
            "guest_loglvl" => self.guest_loglvl = level("guest_loglvl", value)?,
            "console" => self.console = console(value)?,
            "dtuart" => self.dtuart = Some(non_empty("dtuart", value)?),
            "noreboot" => self.noreboot = boolean("noreboot", value)?,
            "no-noreboot" => self.noreboot = !boolean("noreboot", value)?,
            "selftest" => self.selftest = selftest(value)?,
            _ if WITHOUT_EFFECT.contains(&key) => self.warn(Warning::WithoutEffect(key)),
            _ => self.warn(Warning::Unknown {
                key,
                nearest: nearest(key),
            }),
        }
        Ok(())
    }

    fn warn(&mut self, warning: Warning<'a>) {
        // More of them add nothing: the line is broken beyond one word.
        let _ = self.warnings.try_push(warning);
    }
}

fn level<'a>(key: &'static str, value: Option<&'a str>) -> Result<Thresholds, CmdlineError<'a>> {
    let value = value.unwrap_or_default();
    Thresholds::try_from(value).map_err(|_| CmdlineError {
        key,
        value,
        reason: "use none, error, warning, info, debug or all, or two of them as in info/debug",
    })
}

fn console(value: Option<&str>) -> Result<bool, CmdlineError<'_>> {
    match value {
        Some("dtuart") => Ok(true),
        Some("none") => Ok(false),
        other => Err(CmdlineError {
            key: "console",
            value: other.unwrap_or_default(),
            reason: "use dtuart or none",
        }),
    }
}

fn non_empty<'a>(key: &'static str, value: Option<&'a str>) -> Result<&'a str, CmdlineError<'a>> {
    value.filter(|value| !value.is_empty()).ok_or(CmdlineError {
        key,
        value: "",
        reason: "a value is missing",
    })
}

/// Xen's booleans.
fn boolean<'a>(key: &'static str, value: Option<&'a str>) -> Result<bool, CmdlineError<'a>> {
    match value {
        None | Some("yes" | "on" | "true" | "enable" | "1") => Ok(true),
        Some("no" | "off" | "false" | "disable" | "0") => Ok(false),
        Some(value) => Err(CmdlineError {
            key,
            value,
            reason: "use yes or no",
        }),
    }
}

fn selftest(value: Option<&str>) -> Result<SelfTest, CmdlineError<'_>> {
    Ok(match value {
        Some("none") => SelfTest::None,
        Some("panic") => SelfTest::Panic,
        Some("data-abort") => SelfTest::DataAbort,
        Some("undefined") => SelfTest::Undefined,
        Some("stack-overflow") => SelfTest::StackOverflow,
        Some("execute-data") => SelfTest::ExecuteData,
        other => {
            return Err(CmdlineError {
                key: "selftest",
                value: other.unwrap_or_default(),
                reason: "use none, panic, data-abort, undefined, stack-overflow or execute-data",
            });
        }
    })
}

/// The known key that differs least, if by no more than two letters.
fn nearest(key: &str) -> Option<&'static str> {
    KNOWN
        .into_iter()
        .chain(WITHOUT_EFFECT)
        .map(|known| (distance(key, known), known))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, known)| known)
}

/// Letters to insert, delete or replace between two words (Levenshtein); words beyond 32 bytes are
/// far from everything.
fn distance(a: &str, b: &str) -> usize {
    const LONGEST: usize = 32;
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut row: ArrayVec<usize, { LONGEST + 1 }> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (slot, y) in row
            .iter_mut()
            .zip(core::iter::once(None).chain(b.bytes().map(Some)))
        {
            let above = *slot;
            if let Some(y) = y {
                let replaced = diagonal + usize::from(x != y);
                left = replaced.min(above + 1).min(left + 1);
            }
            diagonal = above;
            *slot = left;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;
    use std::vec::Vec;

    use log::LevelFilter;
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> Options<'_> {
        Options::parse(line).unwrap()
    }

    fn error(line: &str) -> std::string::String {
        Options::parse(line).unwrap_err().to_string()
    }

    #[test]
    fn known_keys_set_options_and_the_last_one_wins() {
        let options =
            parse("console=dtuart dtuart=serial0  loglvl=all noreboot loglvl=error/debug");
        assert_eq!(options.dtuart, Some("serial0"));
        assert_eq!(options.loglvl.always, LevelFilter::Error);
        assert_eq!(options.loglvl.limited, LevelFilter::Debug);
        assert!(options.noreboot && options.console);
        assert!(options.warnings().is_empty());
        assert_eq!(parse(""), Options::default());
    }

    #[test]
    fn booleans_are_xens() {
        assert!(!parse("noreboot noreboot=no").noreboot);
        assert!(!parse("noreboot no-noreboot").noreboot);
        assert!(parse("noreboot=1").noreboot);
        assert_eq!(
            error("noreboot=maybe"),
            r#"noreboot="maybe": use yes or no"#
        );
    }

    #[test]
    fn a_malformed_value_names_key_value_and_remedy() {
        assert!(error("loglvl=loud").starts_with(r#"loglvl="loud": use none, error"#));
        assert_eq!(
            error("console=com1"),
            r#"console="com1": use dtuart or none"#
        );
        assert_eq!(error("dtuart="), r#"dtuart="": a value is missing"#);
        assert!(error("selftest=x").contains("stack-overflow"));
    }

    #[test]
    fn an_unknown_key_warns_with_the_nearest() {
        let options = parse("logvl=info foo dom0_mem=1G");
        let warnings: Vec<_> = options.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                r#"unknown key "logvl" is ignored; did you mean "loglvl"?"#,
                r#"unknown key "foo" is ignored"#,
                r#""dom0_mem" has no effect in this version"#,
            ]
        );
    }

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("kitten", "sitting", 3),
            ("loglvl", "loglvl", 0),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    proptest! {
        #[test]
        fn no_line_panics(line in ".{0,200}") {
            let _ = Options::parse(&line);
        }
    }
}
