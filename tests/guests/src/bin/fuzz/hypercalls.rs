//! Hypercalls with any number, sub-operation and arguments.

use core::sync::atomic::{AtomicU64, Ordering};

use guests::machine::Machine;
use guests::random::Random;
use guests::{exception, hypercall, power, println, time};
use xen_abi::console::ConsoleOp;
use xen_abi::hypercall::Hypercall;
use xen_abi::sched::SchedOp;

use super::mark;
use super::values::Values;

/// Ticks between timer interrupts, which end the calls that wait for one.
const PERIOD: u64 = 5000;
/// Calls after which memory is put back that they took away.
const REFILL: u64 = 1024;

/// What the second CPU starts from and how much it does; zero once it is done.
static SEED: AtomicU64 = AtomicU64::new(0);
static LEFT: AtomicU64 = AtomicU64::new(0);

/// With `both` on the command line two CPUs share the calls.
pub fn run(machine: &'static Machine, random: &mut Random, count: u64) -> u64 {
    if machine.has("both") {
        make_on_two(machine, random, count)
    } else {
        make(machine, random, count)
    }
}

fn make_on_two(machine: &'static Machine, random: &mut Random, count: u64) -> u64 {
    SEED.store(random.next(), Ordering::Relaxed);
    LEFT.store(count / 2, Ordering::Release);
    if power::start_second_cpu(machine, second) != 0 {
        println!("fuzz: there is no second vCPU");
        return 0;
    }
    let done = make(machine, random, count - count / 2);
    while LEFT.load(Ordering::Acquire) != 0 {
        power::relax();
    }
    done + count / 2
}

fn second(machine: &'static Machine) {
    let mut random = Random::new(SEED.load(Ordering::Relaxed));
    make(machine, &mut random, LEFT.load(Ordering::Acquire));
    LEFT.store(0, Ordering::Release);
}

/// Makes calls on this CPU.
fn make(machine: &Machine, random: &mut Random, count: u64) -> u64 {
    let values = Values::new(machine);
    power::accept_interrupts(machine, &[time::TIMER_PPI]);
    exception::repeat_alarm(PERIOD);
    exception::tolerate();
    let mut succeeded = 0_u64;
    for done in 0..count {
        let (number, arguments) = call(&values, random);
        let result = hypercall::raw(number, arguments) as i64;
        succeeded += u64::from(result >= 0);
        if done.is_multiple_of(REFILL) {
            values.refill();
        }
        mark(done, count);
    }
    println!("fuzz: {succeeded} calls succeeded");
    count
}

/// A call that does not rightly end the machine.
fn call(values: &Values, random: &mut Random) -> (u64, [u64; 5]) {
    loop {
        let number = number(random);
        let mut arguments = [0; 5].map(|_| values.any(random));
        match random.below(4) {
            0..=1 => arguments[0] = random.below(12),
            2 => arguments[0] = random.below(40),
            _ => {}
        }
        if number as u32 == Hypercall::ConsoleIo.number() as u32 {
            quieten(values, random, &mut arguments);
        }
        if number as u32 == Hypercall::GrantTableOp.number() as u32 && !random.once_in(16) {
            // Lists that go on to the end of memory would take most of the time.
            arguments[2] = random.below(64);
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
