//! A line of the log: `(xen-rs) [    1.234567] info: message`.

use core::fmt::{self, Write};

use arrayvec::ArrayString;
use log::Level;

use super::level::word;

/// Bytes of a line at most, its newline included.
pub const MAX_LINE: usize = 512;
/// What ends a message that was cut.
const CUT: &str = "…";
const PREFIX: &str = "(xen-rs)";

/// When: ticks since the hypervisor was entered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// Ticks of the counter.
    pub ticks: u64,
    /// Ticks in a second; 0 if firmware did not say, and then the stamp shows ticks.
    pub frequency: u64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.frequency == 0 {
            return write!(f, "[{:>12}]", self.ticks);
        }
        let seconds = self.ticks / self.frequency;
        let rest = self.ticks % self.frequency;
        let micros = match rest.checked_mul(1_000_000) {
            Some(product) => product / self.frequency,
            // Beyond 2^44 Hz, where the rounding of the divisor is far below a microsecond.
            None => (rest / (self.frequency / 1_000_000)).min(999_999),
        };
        write!(f, "[{seconds:>5}.{micros:06}]")
    }
}

/// One line with its newline, ready for the ring and the console. A message of several lines
/// becomes one: its line breaks, and all else that could drive a terminal or forge a line, are
/// escaped.
#[derive(Clone, Debug)]
pub struct Line {
    text: ArrayString<MAX_LINE>,
    cut: bool,
}

impl Line {
    /// The line that says `message`.
    pub fn new(stamp: Stamp, level: Level, message: fmt::Arguments<'_>) -> Self {
        let mut line = Self {
            text: ArrayString::new(),
            cut: false,
        };
        // Writing never fails: what does not fit is cut, and the line says so.
        let _ = write!(line, "{PREFIX} {stamp} {}: ", word(level));
        let _ = line.write_fmt(message);
        line.finish();
        line
    }

    /// The line, ending in its only newline.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    fn push(&mut self, character: char) {
        // Room is kept for the mark and the newline.
        let room = MAX_LINE - CUT.len() - 1 - self.text.len();
        if self.cut || character.len_utf8() > room {
            self.cut = true;
        } else {
            self.text.push(character);
        }
    }

    fn finish(&mut self) {
        if self.cut {
            self.text.push_str(CUT);
        }
        self.text.push('\n');
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if character.is_control() {
                character.escape_default().for_each(|part| self.push(part));
            } else {
                self.push(character);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::{String, ToString};

    use proptest::prelude::*;

    use super::*;

    fn line(message: &str) -> String {
        let stamp = Stamp {
            ticks: 77_160_430,
            frequency: 62_500_000,
        };
        Line::new(stamp, Level::Info, format_args!("{message}"))
            .as_str()
            .to_string()
    }

    #[test]
    fn a_line_carries_time_and_level() {
        assert_eq!(line("hello"), "(xen-rs) [    1.234566] info: hello\n");
    }

    #[test]
    fn control_characters_cannot_forge_lines() {
        assert_eq!(
            line("a\n(xen-rs) b\r\u{1b}[2J\u{7f}"),
            "(xen-rs) [    1.234566] info: a\\n(xen-rs) b\\r\\u{1b}[2J\\u{7f}\n"
        );
    }

    #[test]
    fn a_long_message_is_cut_and_says_so() {
        let long = line(&"ä".repeat(MAX_LINE));
        assert!(long.len() <= MAX_LINE);
        assert!(long.ends_with("ä…\n"));
        // An escape is not shown in part beyond the cut either.
        assert_eq!(line(&"\u{1b}".repeat(MAX_LINE)).matches('\n').count(), 1);
    }

    #[test]
    fn times_do_not_overflow() {
        let show = |ticks, frequency| Stamp { ticks, frequency }.to_string();
        assert_eq!(show(5, 0), "[           5]");
        assert_eq!(show(u64::MAX, 1), "[18446744073709551615.000000]");
        assert_eq!(show(u64::MAX, u64::MAX), "[    1.000000]");
        assert_eq!(show(u64::MAX - 1, u64::MAX), "[    0.999999]");
        assert_eq!(show(u64::MAX / 2, u64::MAX), "[    0.500000]");
        assert_eq!(show(1, 62_500_000), "[    0.000000]");
    }

    proptest! {
        #[test]
        fn any_message_is_one_bounded_line_without_controls(message in any::<String>()) {
            let line = line(&message);
            prop_assert!(line.len() <= MAX_LINE);
            let text = line.strip_suffix('\n').unwrap();
            prop_assert!(text.starts_with("(xen-rs) [    1.234566] info: "));
            prop_assert!(!text.contains(char::is_control));
        }

        #[test]
        fn times_never_go_back(ticks in any::<u64>(), more in any::<u64>(), frequency in any::<u64>()) {
            let shown = |ticks| {
                let text = Stamp { ticks, frequency }.to_string();
                let number = text.trim_matches(['[', ']']).trim();
                let (seconds, micros) = number.split_once('.').unwrap_or((number, "0"));
                (seconds.parse::<u64>().unwrap(), micros.parse::<u64>().unwrap())
            };
            prop_assert!(shown(ticks) <= shown(ticks.saturating_add(more)));
        }
    }
}
