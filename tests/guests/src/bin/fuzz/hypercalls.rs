//! Hypercalls with any number, sub-operation and arguments.

use guests::machine::Machine;
use guests::random::Random;
use guests::{exception, hypercall, power, time};
use xen_abi::console::ConsoleOp;
use xen_abi::hypercall::Hypercall;
use xen_abi::sched::SchedOp;

use super::mark;
use super::values::Values;

/// Ticks between timer interrupts, which end the calls that wait for one.
const PERIOD: u64 = 5000;

pub fn run(machine: &Machine, random: &mut Random, count: u64) -> u64 {
    let values = Values::new(machine);
    power::accept_interrupts(machine, &[time::TIMER_PPI]);
    exception::repeat_alarm(PERIOD);
    exception::tolerate();
    for done in 0..count {
        let (number, arguments) = call(&values, random);
        hypercall::raw(number, arguments);
        mark(done, count);
    }
    count
}

/// A call that does not rightly end the machine.
fn call(values: &Values, random: &mut Random) -> (u64, [u64; 5]) {
    loop {
        let number = number(random);
        let mut arguments = [0; 5].map(|_| values.any(random));
        if !random.once_in(4) {
            arguments[0] = random.below(40);
        }
        if number as u32 == Hypercall::ConsoleIo.number() as u32 {
            quieten(values, random, &mut arguments);
        }
        if !ends_the_machine(number, arguments[0]) {
            return (number, arguments);
        }
    }
}

fn number(random: &mut Random) -> u64 {
    match random.below(16) {
        0..=9 => random.pick(Hypercall::ALL).number(),
        10..=13 => random.below(72),
        14 => random.next() & 0xffff_ffff,
        _ => random.next(),
    }
}

/// Shutdown of this domain ends the machine, by itself, as if from elsewhere, or by a watchdog that
/// is not fed. Only these are left out. A number's upper half may not count.
fn ends_the_machine(number: u64, operation: u64) -> bool {
    let ends = [
        SchedOp::Shutdown,
        SchedOp::RemoteShutdown,
        SchedOp::Watchdog,
    ];
    number as u32 == Hypercall::SchedOp.number() as u32
        && ends
            .iter()
            .any(|end| end.number() as u32 == operation as u32)
}

/// Console output of a few bytes only, or of any length from where there is nothing: a log drowns
/// otherwise.
fn quieten(values: &Values, random: &mut Random, arguments: &mut [u64; 5]) {
    if arguments[0] as u32 != ConsoleOp::Write.number() as u32 {
        return;
    }
    if random.once_in(2) {
        arguments[1] = random.below(4);
    } else {
        arguments[2] = values.bad_pointer(random);
    }
}
