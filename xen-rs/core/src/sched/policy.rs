//! How CPUs are shared: what `sched=` names, and the times that it goes by.

use core::str::FromStr;

/// How vCPUs share CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Policy {
    /// By weight, in slices of time.
    #[default]
    TimeSharing,
    /// Not at all: a vCPU has its CPU to itself.
    Null,
}

/// There is no scheduler of that name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no such scheduler: use time-sharing (credit2, credit) or null")]
pub struct UnknownPolicy;

impl FromStr for Policy {
    type Err = UnknownPolicy;

    /// Takes the names of Xen's time-sharing schedulers too.
    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        match name {
            "time-sharing" | "credit2" | "credit" => Ok(Self::TimeSharing),
            "null" => Ok(Self::Null),
            _ => Err(UnknownPolicy),
        }
    }
}

/// The times of time sharing, in ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tuning {
    /// How long a vCPU runs while others wait for its CPU.
    pub slice: u64,
    /// How long it runs at least, and how far behind it another must be to take its place.
    pub patience: u64,
}

impl Tuning {
    /// Slices of 5 ms, patience of 1 ms, for a counter of so many ticks a second.
    pub const fn for_frequency(hertz: u64) -> Self {
        let hertz = if hertz == 0 { 1_000_000_000 } else { hertz };
        Self {
            slice: hertz / 200,
            patience: hertz / 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_xens_too() {
        assert_eq!("credit2".parse(), Ok(Policy::TimeSharing));
        assert_eq!("null".parse(), Ok(Policy::Null));
        assert_eq!("rtds".parse::<Policy>(), Err(UnknownPolicy));
    }
}
