//! Values of the command line. A reader's error says what to write instead.

use crate::log::Thresholds;
use crate::sched::{Policy, UnknownPolicy};

/// What to try once all CPUs are up: a guest, or a fault to see its report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SelfTest {
    /// None.
    None,
    /// A guest of a few instructions.
    Guest,
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

/// Levels of the log.
pub(super) fn thresholds(value: &str) -> Result<Thresholds, &'static str> {
    Thresholds::try_from(value).map_err(
        |_| "use none, error, warning, info, debug or all, or two of them as in info/debug",
    )
}

/// How vCPUs share CPUs.
pub(super) fn scheduler(value: &str) -> Result<Policy, &'static str> {
    value
        .parse()
        .map_err(|UnknownPolicy| "use time-sharing (or credit2, credit: the same), or null")
}

/// Whether there is a console.
pub(super) fn console(value: &str) -> Result<bool, &'static str> {
    match value {
        "dtuart" => Ok(true),
        "none" => Ok(false),
        _ => Err("use dtuart or none"),
    }
}

/// Text that is not empty.
pub(super) fn text(value: &str) -> Result<&str, &'static str> {
    match value {
        "" => Err("a value is missing"),
        value => Ok(value),
    }
}

/// Xen's booleans. A bare key means yes.
pub(super) fn boolean(value: &str) -> Result<bool, &'static str> {
    match value {
        "" | "yes" | "on" | "true" | "enable" | "1" => Ok(true),
        "no" | "off" | "false" | "disable" | "0" => Ok(false),
        _ => Err("use yes or no"),
    }
}

pub(super) fn selftest(value: &str) -> Result<SelfTest, &'static str> {
    match value {
        "none" => Ok(SelfTest::None),
        "guest" => Ok(SelfTest::Guest),
        "panic" => Ok(SelfTest::Panic),
        "data-abort" => Ok(SelfTest::DataAbort),
        "undefined" => Ok(SelfTest::Undefined),
        "stack-overflow" => Ok(SelfTest::StackOverflow),
        "execute-data" => Ok(SelfTest::ExecuteData),
        _ => Err("use none, guest, panic, data-abort, undefined, stack-overflow or execute-data"),
    }
}

/// Xen's integers: decimal, hexadecimal after `0x`, octal after `0`.
pub(super) fn integer(text: &str) -> Option<u64> {
    let (digits, radix) = match hexadecimal(text) {
        Some(digits) => (digits, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    // The standard library would take a sign.
    let all_digits = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(digits, radix)
        .ok()
        .filter(|_| all_digits)
}

fn hexadecimal(text: &str) -> Option<&str> {
    text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))
}

/// Xen's sizes in bytes: an integer with a unit of B, K, M, G or T in either case, KiB without one.
pub(super) fn size(text: &str) -> Option<u64> {
    let unit = match text.bytes().next_back()?.to_ascii_uppercase() {
        // After 0x it is a digit.
        b'B' if hexadecimal(text).is_none() => Some(0),
        b'K' => Some(10),
        b'M' => Some(20),
        b'G' => Some(30),
        b'T' => Some(40),
        _ => None,
    };
    let number = match unit {
        Some(_) => text.get(..text.len() - 1)?,
        None => text,
    };
    integer(number)?.checked_mul(1 << unit.unwrap_or(10))
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn integers_have_xens_bases() {
        assert_eq!(integer("10"), Some(10));
        assert_eq!(integer("0x10"), Some(16));
        assert_eq!(integer("010"), Some(8));
        assert_eq!(integer("0"), Some(0));
        for wrong in [
            "",
            "0x",
            "+1",
            "-1",
            "0x+1",
            "08",
            "1 ",
            "1a",
            "99999999999999999999",
        ] {
            assert_eq!(integer(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sizes_have_xens_units() {
        assert_eq!(size("1"), Some(1 << 10));
        assert_eq!(size("7b"), Some(7));
        assert_eq!(size("0x10M"), Some(16 << 20));
        // A hexadecimal digit, as in Xen: units of hexadecimal numbers are K and above.
        assert_eq!(size("0x1b"), Some(0x1b << 10));
        assert_eq!(size("0X1B"), Some(0x1b << 10));
        for wrong in ["", "M", "1P", "1MB", "-1G", "25%", "16777216T", "ä", "1ä"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn units_multiply(number in 0u64..1 << 20, unit in 0usize..5, lower in any::<bool>()) {
            let letter = ["B", "K", "M", "G", "T"][unit];
            let text = format!("{number}{letter}");
            let text = if lower { text.to_lowercase() } else { text };
            prop_assert_eq!(size(&text), Some(number << (10 * unit)));
        }
    }
}
