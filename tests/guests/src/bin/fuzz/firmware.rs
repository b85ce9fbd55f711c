//! PSCI and SMCCC calls of any kind, by HVC and SMC, and HVC and SMC with any immediate.

use guests::code::{CAPACITY, Code};
use guests::machine::Machine;
use guests::random::Random;
use guests::{exception, firmware, power, time};
use xen_abi::hypercall::HVC_TAG;

use super::mark;
use super::values::Values;

/// Ticks between timer interrupts, which end CPU_SUSPEND.
const PERIOD: u64 = 5000;
/// `CPU_SUSPEND` without its bit for the 64-bit convention.
const CPU_SUSPEND: u32 = 0x8400_0001;
/// Bits of a power state by which CPU_SUSPEND does not return here: power down, in either format
/// (DEN0022, 5.4.2).
const POWER_DOWN: u64 = 1 << 30 | 1 << 16;
/// The bit of a function for the 64-bit convention.
const SMC64: u32 = 1 << 30;

/// The functions that rightly end the machine or this CPU: CPU_OFF, SYSTEM_OFF, SYSTEM_RESET,
/// CPU_FREEZE, CPU_DEFAULT_SUSPEND, SYSTEM_SUSPEND, SYSTEM_RESET2.
const ENDS: [u32; 7] = [
    0x8400_0002,
    0x8400_0008,
    0x8400_0009,
    0x8400_000b,
    0x8400_000c,
    0x8400_000e,
    0x8400_0012,
];

pub fn run(machine: &Machine, random: &mut Random, count: u64) -> u64 {
    let values = Values::new(machine);
    power::accept_interrupts(machine, &[time::TIMER_PPI]);
    exception::repeat_alarm(PERIOD);
    exception::tolerate();
    for done in 0..count {
        let function = function(random);
        let arguments = arguments(&values, random, function);
        if random.once_in(4) {
            firmware::call_by_smc(function, arguments);
        } else {
            firmware::call(function, arguments);
        }
        mark(done, count);
    }
    count + immediates(&values, random)
}

/// A function that returns.
fn function(random: &mut Random) -> u64 {
    loop {
        let function = match random.below(8) {
            // PSCI, in both conventions.
            0..=3 => 0x8400_0000 | random.below(0x20) | random.below(2) << 30,
            // Fast calls to any owner, queries of their UIDs and revisions among them.
            4 => 0x8000_0000 | random.below(2) << 30 | random.below(64) << 24 | random.below(0x20),
            5 => 0x8000_ff00 | random.below(2) << 30 | random.below(64) << 24 | random.below(4),
            6 => random.next() & 0xffff_ffff,
            _ => random.next(),
        };
        if !ENDS.contains(&(function as u32 & !SMC64)) {
            return function;
        }
    }
}

fn arguments(values: &Values, random: &mut Random, function: u64) -> [u64; 3] {
    let mut arguments = [0; 3].map(|_| values.any(random));
    match function as u32 & !SMC64 {
        CPU_SUSPEND => arguments[0] &= !POWER_DOWN,
        on if on == firmware::CPU_ON & !SMC64 => {
            // Started where there is no code of ours it would only get lost; then it has no memory.
            let (entry, stack) = power::second_cpu_entry();
            let nowhere = values.bad_pointer(random);
            let any = random.next();
            arguments = [
                random.pick(&[0, 1, 1, 1, 2, 1 << 8, 1 << 32, u64::MAX, any]),
                random.pick(&[entry, entry, entry, nowhere, nowhere | 1, u64::MAX, 0]),
                stack,
            ];
        }
        _ => {}
    }
    arguments
}

/// HVC, SMC and their neighbours with any immediate but those that are calls.
fn immediates(values: &Values, random: &mut Random) -> u64 {
    const ROUNDS: u64 = 16;
    /// `svc`, `hvc`, `smc`, `brk`, `hlt`, `dcps1`.
    const INSTRUCTIONS: [u32; 6] = [
        0xd400_0001,
        0xd400_0002,
        0xd400_0003,
        0xd420_0000,
        0xd440_0000,
        0xd4a0_0001,
    ];
    let mut code = Code::default();
    for _ in 0..ROUNDS {
        for _ in 0..CAPACITY {
            let immediate = 1 + random.below(0xffff) as u32;
            if immediate != u32::from(HVC_TAG) {
                code.push(random.pick(&INSTRUCTIONS) | immediate << 5);
            }
        }
        code.run_all(|| [0; 4].map(|_| values.any(random)));
    }
    ROUNDS * CAPACITY as u64
}
