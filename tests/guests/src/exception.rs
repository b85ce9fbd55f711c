//! Exceptions: interrupts are taken and noted; aborts and undefined instructions are survived where
//! they are expected.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::power::{CPUS, this_cpu};
use crate::{gic, power, println, read_sysreg, time, write_sysreg};

const SYNCHRONOUS: u64 = 0;
const IRQ: u64 = 1;
const SYSTEM_ERROR: u64 = 2;
const UNEXPECTED: u64 = 3;
/// The id that says that no interrupt is there.
const SPURIOUS: u32 = 1020;

global_asm!(
    include_str!("vectors.S"),
    synchronous = const SYNCHRONOUS,
    irq = const IRQ,
    system_error = const SYSTEM_ERROR,
    unexpected = const UNEXPECTED,
    handle = sym handle,
);

/// What the vectors tell of an exception, and where they return to.
#[repr(C)]
struct Frame {
    /// The counter when the vector was entered.
    entered: u64,
    elr: u64,
    spsr: u64,
}

/// Whether a synchronous exception is survived.
static TOLERANT: AtomicBool = AtomicBool::new(false);
/// Synchronous exceptions and SErrors that were survived.
static SURVIVED: AtomicU64 = AtomicU64::new(0);
/// When each CPU last entered its interrupt vector; zero once that was looked at.
static ARRIVED: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
/// Ticks after which the timer's interrupt comes again; zero for once.
static PERIOD: AtomicU64 = AtomicU64::new(0);

/// Installs the vectors on this CPU.
pub fn install() {
    unsafe extern "C" {
        static vectors: u8;
    }
    write_sysreg!("vbar_el1", (&raw const vectors) as u64);
}

/// Makes a synchronous exception from now on skip the instruction that caused it.
pub fn tolerate() {
    TOLERANT.store(true, Ordering::Relaxed);
}

/// How many exceptions were survived so far.
pub fn survived() -> u64 {
    SURVIVED.load(Ordering::Relaxed)
}

/// Makes the timer's interrupt come every `ticks`.
pub fn repeat_alarm(ticks: u64) {
    PERIOD.store(ticks, Ordering::Relaxed);
    time::alarm(time::now() + ticks);
}

/// When `cpu` entered its interrupt vector since this was last asked; `None` if it did not.
#[inline(always)]
pub fn arrival(cpu: u32) -> Option<u64> {
    let arrived = &ARRIVED[cpu as usize];
    let when = arrived.load(Ordering::Relaxed);
    (when != 0).then(|| {
        arrived.store(0, Ordering::Relaxed);
        when
    })
}

/// Lets interrupts through.
pub fn unmask() {
    // SAFETY: the vectors are installed, and their handler touches atomics only.
    unsafe {
        core::arch::asm!("msr daifclr, #2", options(nostack));
    }
}

extern "C" fn handle(kind: u64, frame: &mut Frame) {
    match kind {
        IRQ => interrupt(frame.entered),
        SYNCHRONOUS if TOLERANT.load(Ordering::Relaxed) => {
            SURVIVED.fetch_add(1, Ordering::Relaxed);
            frame.elr += 4;
        }
        SYSTEM_ERROR if TOLERANT.load(Ordering::Relaxed) => {
            SURVIVED.fetch_add(1, Ordering::Relaxed);
        }
        _ => {
            println!(
                "guest: exception {kind} on CPU {}: ESR {:#x} ELR {:#x} FAR {:#x} SPSR {:#x}",
                this_cpu(),
                read_sysreg!("esr_el1"),
                frame.elr,
                read_sysreg!("far_el1"),
                frame.spsr,
            );
            power::off()
        }
    }
}

fn interrupt(entered: u64) {
    let acknowledged = gic::acknowledge();
    let id = acknowledged & 0x3ff;
    if id >= SPURIOUS {
        return;
    }
    if id == time::TIMER_PPI {
        match PERIOD.load(Ordering::Relaxed) {
            0 => time::no_alarm(),
            ticks => time::alarm(time::now() + ticks),
        }
    }
    ARRIVED[this_cpu() as usize].store(entered, Ordering::Relaxed);
    gic::end(acknowledged);
}
