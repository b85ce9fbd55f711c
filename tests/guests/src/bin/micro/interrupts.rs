//! Interrupts, from what causes them to the entry of the vector.

use core::sync::atomic::{AtomicBool, Ordering};

use guests::gic::Gic;
use guests::machine::Machine;
use guests::power::{self, relax};
use guests::{exception, time};

use super::{Cost, Row};

const SGI: u32 = 1;
/// Ticks from setting the timer to its interrupt: more than any way into the loop that waits.
const AHEAD: u64 = 500;
/// Loops by which the second CPU has surely returned from its handler: each lets it run.
const PAUSE: u32 = 50;

pub const ROWS: [Row; 4] = [
    ("sgi-self", |machine, runs| {
        power::accept_interrupts(machine, &[SGI, time::TIMER_PPI]);
        measure(runs, || sgi(&machine.gic, 0))
    }),
    ("virtual-timer", |machine, runs| {
        power::accept_interrupts(machine, &[SGI, time::TIMER_PPI]);
        measure(runs, timer)
    }),
    ("sgi-other", |machine, runs| {
        sgi_to_second(machine, runs, false)
    }),
    ("sgi-idle", |machine, runs| {
        sgi_to_second(machine, runs, true)
    }),
];

/// The sum of what `once` takes each time.
pub fn measure(runs: u64, once: impl Fn() -> u64) -> Option<Cost> {
    once();
    let mut ticks = 0;
    for run in 0..runs {
        dither(run);
        ticks += once();
    }
    Some(Cost { ticks, base: 0 })
}

/// A tick is several instructions: spreads the start of runs over all of a tick, so that what
/// rounding takes from some it gives to others.
fn dither(run: u64) {
    for _ in 0..run % 16 {
        // SAFETY: does nothing.
        unsafe { core::arch::asm!("nop", options(nomem, nostack)) };
    }
}

/// From sending an SGI to its arrival at `cpu`.
fn sgi(gic: &Gic, cpu: u32) -> u64 {
    let start = time::now();
    gic.send_sgi(SGI, cpu);
    loop {
        if let Some(arrived) = exception::arrival(cpu) {
            return arrived - start;
        }
        if cpu != 0 {
            relax();
        }
    }
}

/// From the time that the timer is set to, to the arrival of its interrupt at a CPU that is busy.
fn timer() -> u64 {
    let when = time::now() + AHEAD;
    time::alarm(when);
    loop {
        if let Some(arrived) = exception::arrival(0) {
            return arrived - when;
        }
    }
}

/// Whether the second CPU takes interrupts.
static READY: AtomicBool = AtomicBool::new(false);
/// Whether the second CPU sleeps between interrupts.
static IDLE: AtomicBool = AtomicBool::new(false);

fn sgi_to_second(machine: &'static Machine, runs: u64, idle: bool) -> Option<Cost> {
    IDLE.store(idle, Ordering::Relaxed);
    if !READY.load(Ordering::Acquire) {
        if power::start_second_cpu(machine, second) != 0 {
            return None;
        }
        while !READY.load(Ordering::Acquire) {
            relax();
        }
    }
    measure(runs, || {
        for _ in 0..PAUSE {
            relax();
        }
        sgi(&machine.gic, 1)
    })
}

fn second(machine: &'static Machine) {
    power::accept_interrupts(machine, &[SGI]);
    READY.store(true, Ordering::Release);
    loop {
        if IDLE.load(Ordering::Relaxed) {
            // SAFETY: waits for an interrupt.
            unsafe { core::arch::asm!("wfi", options(nomem, nostack)) };
        } else {
            relax();
        }
    }
}
