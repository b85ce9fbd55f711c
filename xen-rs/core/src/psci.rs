//! PSCI for guests (Arm DEN 0022, version 1.1) and the version calls of SMCCC (DEN 0028): which
//! vCPUs are on, and what a call does to them.
//!
//! The calls of a domain go through one [`Power`]. It answers, and says what must now happen; the
//! caller starts and stops vCPUs.

extern crate alloc;

use alloc::vec::Vec;

use xen_types::{Affinity, Gpa};

const VERSION_1_1: i64 = 0x1_0001;
/// "Trusted OS either not present or does not require migration" (5.9.2).
const MIGRATION_NOT_REQUIRED: i64 = 2;

const SMCCC_VERSION: u32 = 0x8000_0000;
const SMCCC_ARCH_FEATURES: u32 = 0x8000_0001;
const PSCI_VERSION: u32 = 0x8400_0000;
const CPU_SUSPEND: u32 = 0x8400_0001;
const CPU_OFF: u32 = 0x8400_0002;
const CPU_ON: u32 = 0x8400_0003;
const AFFINITY_INFO: u32 = 0x8400_0004;
const MIGRATE_INFO_TYPE: u32 = 0x8400_0006;
const SYSTEM_OFF: u32 = 0x8400_0008;
const SYSTEM_RESET: u32 = 0x8400_0009;
const PSCI_FEATURES: u32 = 0x8400_000a;

/// The bit that tells a call with 64-bit arguments.
const CALL_64: u32 = 1 << 30;
/// Functions that exist in both widths.
const BOTH_WIDTHS: [u32; 3] = [CPU_SUSPEND, CPU_ON, AFFINITY_INFO];
const NARROW: [u32; 6] = [
    PSCI_VERSION,
    CPU_OFF,
    MIGRATE_INFO_TYPE,
    SYSTEM_OFF,
    SYSTEM_RESET,
    PSCI_FEATURES,
];

/// What a call returns when it fails (5.2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i64)]
pub enum PsciError {
    /// No such function.
    NotSupported = -1,
    /// No such vCPU or state.
    InvalidParameters = -2,
    /// The vCPU runs.
    AlreadyOn = -4,
    /// The vCPU is being started.
    OnPending = -5,
    /// The entry point is not RAM.
    InvalidAddress = -9,
}

/// Whether a vCPU runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It does.
    On,
    /// It does not.
    Off,
    /// It was told to start and has not yet.
    OnPending,
}

/// What must happen after a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Nothing: the caller goes on.
    None,
    /// Start this vCPU at `entry` with `context` in x0, then report [`Power::started`].
    Start {
        /// Which.
        vcpu: usize,
        /// First instruction.
        entry: Gpa,
        /// First argument.
        context: u64,
    },
    /// The caller stops and does not come back from the call.
    StopCaller,
    /// The caller waits for an interrupt, then goes on.
    Wait,
    /// The domain wants the machine off.
    PowerOff,
    /// The domain wants to start anew.
    Reset,
}

/// The answer to a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// For x0.
    pub value: i64,
    /// What must happen.
    pub effect: Effect,
}

impl Answer {
    const fn value(value: i64) -> Self {
        Self {
            value,
            effect: Effect::None,
        }
    }

    const fn effect(effect: Effect) -> Self {
        Self { value: 0, effect }
    }

    const fn error(error: PsciError) -> Self {
        Self::value(error as i64)
    }
}

/// The affinity of vCPU `number`: 16 to a cluster, as the Xen ABI for Arm has it.
pub const fn affinity_of(number: u8) -> Affinity {
    Affinity::from_mpidr((number & 15) as u64 | ((number >> 4) as u64) << 8)
}

/// The power states of a domain's vCPUs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Power {
    states: Vec<State>,
}

impl Power {
    /// A domain of `vcpus` vCPUs of which the first is on; `None` without memory for them.
    pub fn new(vcpus: u8) -> Option<Self> {
        let mut states = Vec::new();
        states.try_reserve_exact(vcpus.into()).ok()?;
        states.extend((0..vcpus).map(|number| match number {
            0 => State::On,
            _ => State::Off,
        }));
        Some(Self { states })
    }

    /// A domain of `vcpus` vCPUs that are all off; `None` without memory for them.
    pub fn all_off(vcpus: u8) -> Option<Self> {
        let mut power = Self::new(vcpus)?;
        power.states.fill(State::Off);
        Some(power)
    }

    /// How many are on.
    pub fn online(&self) -> usize {
        let on = |state: &&State| **state != State::Off;
        self.states.iter().filter(on).count()
    }

    /// The toolstack has switched a vCPU on or off.
    pub fn set(&mut self, vcpu: usize, state: State) {
        if let Some(place) = self.states.get_mut(vcpu) {
            *place = state;
        }
    }

    /// The state of a vCPU; off for one that does not exist.
    pub fn state(&self, vcpu: usize) -> State {
        self.states.get(vcpu).copied().unwrap_or(State::Off)
    }

    /// The vCPU that [`Effect::Start`] named runs.
    pub fn started(&mut self, vcpu: usize) {
        if let Some(state) = self.states.get_mut(vcpu) {
            *state = State::On;
        }
    }

    /// Answers a call of `caller`: the function id from w0 and the arguments from x1 on. `None` if
    /// the function belongs to neither PSCI nor the version calls of SMCCC. `is_ram` says whether a
    /// guest's address is RAM, where a vCPU may start.
    pub fn call(
        &mut self,
        caller: usize,
        function: u32,
        arguments: [u64; 3],
        is_ram: impl Fn(Gpa) -> bool,
    ) -> Option<Answer> {
        let wide = function & CALL_64 != 0;
        let base = function & !CALL_64;
        if wide && !BOTH_WIDTHS.contains(&base) {
            return is_psci(base).then_some(Answer::error(PsciError::NotSupported));
        }
        let [a, b, c] = if wide {
            arguments
        } else {
            arguments.map(|argument| argument & 0xffff_ffff)
        };
        Some(match base {
            SMCCC_VERSION | PSCI_VERSION => Answer::value(VERSION_1_1),
            SMCCC_ARCH_FEATURES => match a as u32 {
                SMCCC_VERSION | SMCCC_ARCH_FEATURES => Answer::value(0),
                _ => Answer::error(PsciError::NotSupported),
            },
            CPU_SUSPEND => Answer::effect(Effect::Wait),
            CPU_OFF => self.stop(caller),
            CPU_ON => self.start(a, Gpa::new(b), c, is_ram),
            AFFINITY_INFO => self.affinity_info(a, b),
            MIGRATE_INFO_TYPE => Answer::value(MIGRATION_NOT_REQUIRED),
            SYSTEM_OFF => Answer::effect(Effect::PowerOff),
            SYSTEM_RESET => Answer::effect(Effect::Reset),
            PSCI_FEATURES => features(a as u32),
            _ if is_psci(base) => Answer::error(PsciError::NotSupported),
            _ => return None,
        })
    }

    fn vcpu(&self, affinity: u64) -> Option<usize> {
        let affinity = Affinity::new(affinity)?;
        let matches = |number: &usize| u8::try_from(*number).map(affinity_of) == Ok(affinity);
        let number = (affinity.level(1) as usize) << 4 | affinity.level(0) as usize;
        (number < self.states.len())
            .then_some(number)
            .filter(matches)
    }

    fn start(
        &mut self,
        affinity: u64,
        entry: Gpa,
        context: u64,
        is_ram: impl Fn(Gpa) -> bool,
    ) -> Answer {
        let Some(vcpu) = self.vcpu(affinity) else {
            return Answer::error(PsciError::InvalidParameters);
        };
        if !entry.is_aligned(4) || !is_ram(entry) {
            return Answer::error(PsciError::InvalidAddress);
        }
        match self.states.get_mut(vcpu) {
            Some(state @ State::Off) => {
                *state = State::OnPending;
                Answer::effect(Effect::Start {
                    vcpu,
                    entry,
                    context,
                })
            }
            Some(State::OnPending) => Answer::error(PsciError::OnPending),
            _ => Answer::error(PsciError::AlreadyOn),
        }
    }

    fn stop(&mut self, caller: usize) -> Answer {
        if let Some(state) = self.states.get_mut(caller) {
            *state = State::Off;
        }
        Answer::effect(Effect::StopCaller)
    }

    /// The state of one vCPU (5.7); higher affinity levels are optional and not offered.
    fn affinity_info(&self, affinity: u64, level: u64) -> Answer {
        match self.vcpu(affinity) {
            Some(vcpu) if level == 0 => Answer::value(match self.state(vcpu) {
                State::On => 0,
                State::Off => 1,
                State::OnPending => 2,
            }),
            _ => Answer::error(PsciError::InvalidParameters),
        }
    }
}

/// Whether the function id lies where PSCI's do, for the 32-bit form (DEN 0028, 6.3).
const fn is_psci(function: u32) -> bool {
    function & !0x1f == PSCI_VERSION
}

fn features(function: u32) -> Answer {
    let base = function & !CALL_64;
    let known = if function & CALL_64 != 0 {
        BOTH_WIDTHS.contains(&base)
    } else {
        BOTH_WIDTHS.contains(&base) || NARROW.contains(&base) || base == SMCCC_VERSION
    };
    if known {
        Answer::value(0)
    } else {
        Answer::error(PsciError::NotSupported)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;

    const RAM: Gpa = Gpa::new(0x4008_0000);

    fn call(power: &mut Power, caller: usize, function: u32, arguments: [u64; 3]) -> Answer {
        power
            .call(caller, function, arguments, |at| at == RAM)
            .unwrap()
    }

    fn on(power: &mut Power, affinity: u64) -> Answer {
        call(power, 0, CPU_ON | CALL_64, [affinity, RAM.get(), 7])
    }

    #[test]
    fn a_vcpu_starts_once_and_again_after_it_stopped() {
        let mut power = Power::new(2).unwrap();
        let start = Effect::Start {
            vcpu: 1,
            entry: RAM,
            context: 7,
        };
        assert_eq!(on(&mut power, 1), Answer::effect(start));
        assert_eq!(on(&mut power, 1), Answer::error(PsciError::OnPending));
        power.started(1);
        assert_eq!(on(&mut power, 1), Answer::error(PsciError::AlreadyOn));
        let off = call(&mut power, 1, CPU_OFF, [0; 3]);
        assert_eq!(off.effect, Effect::StopCaller);
        assert_eq!(on(&mut power, 1).effect, start);
    }

    #[test]
    fn what_does_not_exist_cannot_be_started() {
        let mut power = Power::new(18).unwrap();
        let invalid = Answer::error(PsciError::InvalidParameters);
        for affinity in [18, 0x102, 0x1_0000, 1 << 31, 1 << 32, u64::MAX, 0x110] {
            assert_eq!(on(&mut power, affinity), invalid, "{affinity:#x}");
        }
        // vCPUs 16 and 17 are the first of the second cluster.
        assert!(matches!(
            on(&mut power, 0x101).effect,
            Effect::Start { vcpu: 17, .. }
        ));
        let nowhere = call(&mut power, 0, CPU_ON | CALL_64, [1, RAM.get() + 2, 0]);
        assert_eq!(nowhere, Answer::error(PsciError::InvalidAddress));
        let hole = call(&mut power, 0, CPU_ON | CALL_64, [1, 0x1000, 0]);
        assert_eq!(hole, Answer::error(PsciError::InvalidAddress));
        assert_eq!(power.state(1), State::Off);
    }

    #[test]
    fn a_32_bit_call_has_32_bit_arguments() {
        let mut power = Power::new(2).unwrap();
        let high = 0xdead_0000_0000_0000;
        let arguments = [high | 1, high | RAM.get(), high | 7];
        let answer = call(&mut power, 0, CPU_ON, arguments);
        assert!(matches!(
            answer.effect,
            Effect::Start {
                vcpu: 1,
                context: 7,
                ..
            }
        ));
    }

    #[test]
    fn affinity_info_tells_the_state() {
        let mut power = Power::new(2).unwrap();
        let info = |power: &mut Power, affinity, level| {
            call(power, 0, AFFINITY_INFO | CALL_64, [affinity, level, 0]).value
        };
        assert_eq!(info(&mut power, 0, 0), 0);
        assert_eq!(info(&mut power, 1, 0), 1);
        on(&mut power, 1);
        assert_eq!(info(&mut power, 1, 0), 2);
        assert_eq!(info(&mut power, 1, 1), -2);
        assert_eq!(info(&mut power, 2, 0), -2);
    }

    #[test]
    fn features_are_those_that_are_answered() {
        let mut power = Power::new(1).unwrap();
        for function in 0x8400_0000..0x8400_0020 {
            for function in [function, function | CALL_64] {
                let claimed = features(function).value == 0;
                // The argument makes PSCI_FEATURES itself answer yes.
                let arguments = [PSCI_VERSION.into(), 0, 0];
                let answered = call(&mut power.clone(), 0, function, arguments).value != -1;
                assert_eq!(claimed, answered, "{function:#x}");
            }
        }
        let system = call(&mut power, 0, SYSTEM_OFF, [0; 3]);
        assert_eq!(system.effect, Effect::PowerOff);
        assert_eq!(
            call(&mut power, 0, SYSTEM_RESET, [0; 3]).effect,
            Effect::Reset
        );
    }

    #[test]
    fn calls_of_others_are_not_answered() {
        let mut power = Power::new(1).unwrap();
        for function in [0, 0x8000_8000, 0x8600_0000, 0xc600_ff01, u32::MAX] {
            assert_eq!(power.call(0, function, [0; 3], |_| true), None);
        }
    }

    proptest! {
        #[test]
        fn nothing_starts_twice(
            calls in proptest::collection::vec((0usize..4, 0u8..4, 0u64..5), 0..60),
        ) {
            let mut power = Power::new(4).unwrap();
            let mut running = [true, false, false, false];
            let mut pending = [false; 4];
            for (caller, what, target) in calls {
                match what {
                    0 if running[caller] => {
                        call(&mut power, caller, CPU_OFF, [0; 3]);
                        running[caller] = false;
                    }
                    1 => {
                        let index = target as usize;
                        if pending.get(index) == Some(&true) {
                            power.started(index);
                            pending[index] = false;
                            running[index] = true;
                        }
                    }
                    _ => {
                        if let Effect::Start { vcpu, .. } = on(&mut power, target).effect {
                            prop_assert!(!running[vcpu] && !pending[vcpu]);
                            pending[vcpu] = true;
                        }
                    }
                }
                for vcpu in 0..4 {
                    prop_assert_eq!(power.state(vcpu) == State::On, running[vcpu]);
                    prop_assert_eq!(power.state(vcpu) == State::OnPending, pending[vcpu]);
                }
            }
        }

        #[test]
        fn no_call_panics(caller in any::<usize>(), function in any::<u32>(), arguments in any::<[u64; 3]>()) {
            let mut power = Power::new(3).unwrap();
            let _ = power.call(caller, function, arguments, |_| true);
            let _ = power.call(caller, 0x8400_0000 | function & 0x4000_001f, arguments, |_| true);
        }
    }
}
