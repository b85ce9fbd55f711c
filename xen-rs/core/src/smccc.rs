//! The calls by which a kernel has the firmware work around what CPUs speculate (SMCCC, Arm DEN 0028,
//! 7.5 to 7.7): what a guest is told of them.
//!
//! Each CPU's firmware says whether its CPU needs a workaround. A vCPU may run on any of them, so that
//! a guest is told that it is needed if one CPU needs it; on the others the call does nothing.

/// `SMCCC_ARCH_FEATURES`: asks whether there is a function.
pub const ARCH_FEATURES: u32 = 0x8000_0001;
/// What an unknown function returns.
pub const NOT_SUPPORTED: i64 = -1;

/// Whether a function id is one that [`Workarounds::reply`] may answer.
pub fn concerns_workarounds(function: u32) -> bool {
    function == ARCH_FEATURES || Workaround::from_function(function).is_some()
}

/// What is worked around.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Workaround {
    /// `SMCCC_ARCH_WORKAROUND_1`: branch predictors that others trained (CVE-2017-5715).
    BranchPredictor,
    /// `SMCCC_ARCH_WORKAROUND_2`: loads that overtake stores (CVE-2018-3639).
    StoreBypass,
    /// `SMCCC_ARCH_WORKAROUND_3`: branch histories that others wrote (CVE-2022-23960).
    BranchHistory,
}

impl Workaround {
    /// All there are.
    pub const ALL: [Self; 3] = [
        Self::BranchPredictor,
        Self::StoreBypass,
        Self::BranchHistory,
    ];

    /// Its function id.
    pub const fn function(self) -> u32 {
        match self {
            Self::BranchPredictor => 0x8000_8000,
            Self::StoreBypass => 0x8000_7fff,
            Self::BranchHistory => 0x8000_3fff,
        }
    }

    /// The workaround of a function id.
    pub fn from_function(function: u32) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|workaround| workaround.function() == function)
    }
}

/// What firmware says of a workaround on its CPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Need {
    /// It does not know it.
    #[default]
    Unknown,
    /// The CPU does not need it; calling does nothing.
    Not,
    /// The CPU needs it.
    Needed,
}

impl Need {
    /// From what `SMCCC_ARCH_FEATURES` returns.
    pub const fn from_answer(answer: i32) -> Self {
        match answer {
            0 => Self::Needed,
            1.. => Self::Not,
            _ => Self::Unknown,
        }
    }
}

/// What the machine's firmware says of all workarounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Workarounds([Need; 3]);

/// What to do with a guest's call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The guest gets this.
    Value(i64),
    /// The firmware does it, on the CPU on which the guest called; the guest gets 0.
    Forward(Workaround),
}

impl Workarounds {
    /// Firmware has said nothing yet.
    pub const fn new() -> Self {
        Self([Need::Unknown; 3])
    }

    /// The firmware of one more CPU says this.
    pub fn note(&mut self, workaround: Workaround, need: Need) {
        let known = &mut self.0[workaround as usize];
        *known = need.max(*known);
    }

    /// Answers a guest's call; `None` if it is about something else.
    ///
    /// The firmware has the second workaround on from reset, and only a call ends it (7.6). No call of
    /// a guest gets there, as its effect would stay with the CPU: it is always on, and a guest is
    /// told that it needs none.
    pub fn reply(&self, function: u32, argument: u64) -> Option<Reply> {
        if function == ARCH_FEATURES {
            let workaround = Workaround::from_function(argument as u32)?;
            return Some(Reply::Value(self.features(workaround)));
        }
        let workaround = Workaround::from_function(function)?;
        Some(match (self.0[workaround as usize], workaround) {
            (Need::Unknown, _) => Reply::Value(NOT_SUPPORTED),
            (Need::Not, _) | (Need::Needed, Workaround::StoreBypass) => Reply::Value(0),
            (Need::Needed, _) => Reply::Forward(workaround),
        })
    }

    fn features(&self, workaround: Workaround) -> i64 {
        match (self.0[workaround as usize], workaround) {
            (Need::Unknown, _) => NOT_SUPPORTED,
            (Need::Not, _) | (Need::Needed, Workaround::StoreBypass) => 1,
            (Need::Needed, _) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(workarounds: &Workarounds, workaround: Workaround) -> Option<Reply> {
        workarounds.reply(ARCH_FEATURES, workaround.function().into())
    }

    #[test]
    fn without_firmware_there_is_no_workaround() {
        let none = Workarounds::new();
        for workaround in Workaround::ALL {
            let denied = Some(Reply::Value(NOT_SUPPORTED));
            assert_eq!(asked(&none, workaround), denied);
            assert_eq!(none.reply(workaround.function(), 0), denied);
        }
    }

    #[test]
    fn a_guest_needs_what_one_cpu_needs() {
        let mut workarounds = Workarounds::new();
        let workaround = Workaround::BranchHistory;
        workarounds.note(workaround, Need::from_answer(1));
        assert_eq!(asked(&workarounds, workaround), Some(Reply::Value(1)));
        assert_eq!(
            workarounds.reply(workaround.function(), 0),
            Some(Reply::Value(0))
        );
        workarounds.note(workaround, Need::from_answer(0));
        workarounds.note(workaround, Need::from_answer(1));
        workarounds.note(workaround, Need::from_answer(-1));
        assert_eq!(asked(&workarounds, workaround), Some(Reply::Value(0)));
        assert_eq!(
            workarounds.reply(workaround.function(), 0),
            Some(Reply::Forward(workaround))
        );
        let other = Workaround::BranchPredictor;
        assert_eq!(
            asked(&workarounds, other),
            Some(Reply::Value(NOT_SUPPORTED))
        );
    }

    /// A guest cannot switch a CPU's mitigation off under the guest that runs there next.
    #[test]
    fn xsa_263_no_guest_ends_the_workaround_of_store_bypass() {
        let mut workarounds = Workarounds::new();
        let workaround = Workaround::StoreBypass;
        workarounds.note(workaround, Need::Needed);
        assert_eq!(asked(&workarounds, workaround), Some(Reply::Value(1)));
        for argument in [0, 1, u64::MAX] {
            let reply = workarounds.reply(workaround.function(), argument);
            assert_eq!(reply, Some(Reply::Value(0)));
        }
    }

    #[test]
    fn other_functions_are_not_answered_here() {
        let workarounds = Workarounds::new();
        for (function, argument) in [
            (0x8400_0000, 0),
            (ARCH_FEATURES, u64::from(ARCH_FEATURES)),
            (0xc000_8000, 0),
            (0, 0),
        ] {
            assert_eq!(workarounds.reply(function, argument), None);
        }
    }
}
