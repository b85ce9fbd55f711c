//! `loglvl=`: which messages reach the log (Xen's command line documentation, `loglvl`).

use log::{Level, LevelFilter};

/// How a level is written in a line.
pub const fn word(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warning",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

/// Messages up to `always` are logged, those up to `limited` as often as a rate limit allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Thresholds {
    /// Always logged.
    pub always: LevelFilter,
    /// Logged with a rate limit; never below `always`.
    pub limited: LevelFilter,
}

impl Thresholds {
    /// What is logged where the command line says nothing.
    pub const DEFAULT: Self = Self {
        always: LevelFilter::Info,
        limited: LevelFilter::Info,
    };

    /// The same for messages that guests cause, which only ever pass with a rate limit.
    pub const GUEST_DEFAULT: Self = Self {
        always: LevelFilter::Off,
        limited: LevelFilter::Warn,
    };

    /// What happens to a message.
    pub fn verdict(self, level: Level) -> Verdict {
        if level <= self.always {
            Verdict::Log
        } else if level <= self.limited {
            Verdict::LogLimited
        } else {
            Verdict::Drop
        }
    }
}

/// What happens to a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is logged.
    Log,
    /// It is logged if the rate limit admits it.
    LogLimited,
    /// It is not logged.
    Drop,
}

/// A value that `loglvl=` does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "{0:?} is none of none, error, warning, info, debug, all (or two of them, as in info/debug)"
)]
pub struct LevelError<'a>(pub &'a str);

impl<'a> TryFrom<&'a str> for Thresholds {
    type Error = LevelError<'a>;

    /// `<level>[/<level>]`: what is always logged, and what up to a rate.
    fn try_from(value: &'a str) -> Result<Self, LevelError<'a>> {
        let unknown = LevelError(value);
        let (always, limited) = match value.split_once('/') {
            Some((always, limited)) => (always, Some(limited)),
            None => (value, None),
        };
        let always = level(always).ok_or(unknown)?;
        let limited = match limited {
            Some(limited) => level(limited).ok_or(unknown)?,
            None => always,
        };
        Ok(Self {
            always,
            limited: limited.max(always),
        })
    }
}

fn level(word: &str) -> Option<LevelFilter> {
    Some(match word {
        "none" => LevelFilter::Off,
        "error" => LevelFilter::Error,
        "warning" => LevelFilter::Warn,
        "info" => LevelFilter::Info,
        "debug" => LevelFilter::Debug,
        "all" => LevelFilter::Trace,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn one_level_serves_for_both() {
        let thresholds = Thresholds::try_from("warning").unwrap();
        assert_eq!(thresholds.always, LevelFilter::Warn);
        assert_eq!(thresholds.limited, LevelFilter::Warn);
    }

    #[test]
    fn the_limited_level_is_never_the_lower_one() {
        let thresholds = Thresholds::try_from("info/all").unwrap();
        assert_eq!(thresholds.limited, LevelFilter::Trace);
        let thresholds = Thresholds::try_from("info/none").unwrap();
        assert_eq!(thresholds.limited, LevelFilter::Info);
    }

    #[test]
    fn each_level_gets_its_verdict() {
        let thresholds = Thresholds::try_from("error/info").unwrap();
        assert_eq!(thresholds.verdict(Level::Error), Verdict::Log);
        assert_eq!(thresholds.verdict(Level::Warn), Verdict::LogLimited);
        assert_eq!(thresholds.verdict(Level::Info), Verdict::LogLimited);
        assert_eq!(thresholds.verdict(Level::Debug), Verdict::Drop);
        let silent = Thresholds::try_from("none").unwrap();
        assert_eq!(silent.verdict(Level::Error), Verdict::Drop);
    }

    #[test]
    fn an_unknown_level_is_named_with_the_known_ones() {
        for value in ["", "verbose", "info/", "/info", "info/loud", "INFO"] {
            let error = Thresholds::try_from(value).unwrap_err();
            assert_eq!(error, LevelError(value));
            assert!(error.to_string().contains("none, error, warning"));
        }
    }
}
