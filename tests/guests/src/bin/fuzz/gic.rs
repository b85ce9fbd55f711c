//! Every byte of the interrupt controller's registers, with every width, and instructions whose
//! abort has no syndrome.

use core::arch::asm;
use core::ops::Range;

use guests::gic::Gic;
use guests::machine::Machine;
use guests::random::Random;
use guests::{exception, println, write_sysreg};

/// Bytes in front of and behind a frame that are also tried.
const BEYOND: u64 = 16;
/// From one place to the next at which instructions without a syndrome are tried: a prime number of
/// bytes, so that every alignment has its turn.
const STEP: usize = 13;

/// The command line's `frame=NUMBER` takes only that one of [`frames`].
pub fn run(machine: &Machine, random: &mut Random, _count: u64) -> u64 {
    // CPACR_EL1.FPEN: loads of SIMD registers do not trap to EL1.
    write_sysreg!("cpacr_el1", 0b11 << 20);
    exception::tolerate();
    let only = machine.number("frame");
    let mut done = 0;
    for (number, frame) in (0..).zip(frames(machine)) {
        if only.is_none_or(|only| only == number) {
            println!("fuzz: gic frame at {:#x}", frame.start);
            done += sweep(&frame, random) + mix(&frame, random);
        }
    }
    done
}

/// Every address: first loads of all, then stores. A register's first byte has every width, the
/// others, where most widths are not aligned, any one.
fn sweep(frame: &Range<u64>, random: &mut Random) -> u64 {
    let around = frame.start - BEYOND..frame.end + BEYOND;
    let mut done = 0;
    for address in around.clone() {
        done += load(address, widths(address, random));
    }
    println!("fuzz: gic stores");
    for address in around.clone() {
        done += store(address, widths(address, random), random.next());
    }
    println!("fuzz: gic accesses without a syndrome");
    for address in around.step_by(STEP) {
        done += without_syndrome(address, random.next());
    }
    done
}

/// Random loads and stores of random registers, so that one follows on any other.
fn mix(frame: &Range<u64>, random: &mut Random) -> u64 {
    const PAIRS: u64 = 50_000;
    println!("fuzz: gic loads and stores mixed");
    let mut done = 0;
    for _ in 0..PAIRS {
        let mut register = || frame.start + (random.below(frame.end - frame.start) & !3);
        let (first, second) = (register(), register());
        done += store(first, 1 << random.below(4), random.next());
        done += load(second, 1 << random.below(4));
    }
    done
}

/// A set of widths: bit n for 2^n bytes.
fn widths(address: u64, random: &mut Random) -> u32 {
    if address.is_multiple_of(4) {
        0b1111
    } else {
        1 << random.below(4)
    }
}

/// Where the registers are that one CPU reaches.
fn frames(machine: &Machine) -> impl Iterator<Item = Range<u64>> {
    let frames = match machine.gic {
        Gic::V2 {
            distributor,
            cpu_interface,
        } => [
            distributor..distributor + 0x1000,
            cpu_interface..cpu_interface + 0x2000,
        ],
        Gic::V3 {
            distributor,
            redistributors,
        } => [
            distributor..distributor + 0x1_0000,
            redistributors..redistributors + 0x2_0000,
        ],
    };
    let its = machine.its.map(|its| its..its + 0x1_0000);
    frames.into_iter().chain(its)
}

/// Loads with each of these widths; returns how many.
pub fn load(address: u64, widths: u32) -> u64 {
    // SAFETY: what is loaded is dropped; an abort skips the instruction.
    unsafe {
        if widths & 1 != 0 {
            asm!("ldrb {0:w}, [{1}]", out(reg) _, in(reg) address, options(nostack));
        }
        if widths & 2 != 0 {
            asm!("ldrsh {0:x}, [{1}]", out(reg) _, in(reg) address, options(nostack));
        }
        if widths & 4 != 0 {
            asm!("ldr {0:w}, [{1}]", out(reg) _, in(reg) address, options(nostack));
        }
        if widths & 8 != 0 {
            asm!("ldr {0:x}, [{1}]", out(reg) _, in(reg) address, options(nostack));
        }
    }
    widths.count_ones().into()
}

/// Stores with each of these widths; returns how many.
pub fn store(address: u64, widths: u32, value: u64) -> u64 {
    // SAFETY: the registers of the interrupt controller do not reach memory; an abort skips the
    // instruction.
    unsafe {
        if widths & 1 != 0 {
            asm!("strb {0:w}, [{1}]", in(reg) value, in(reg) address, options(nostack));
        }
        if widths & 2 != 0 {
            asm!("strh {0:w}, [{1}]", in(reg) value, in(reg) address, options(nostack));
        }
        if widths & 4 != 0 {
            asm!("str {0:w}, [{1}]", in(reg) value, in(reg) address, options(nostack));
        }
        if widths & 8 != 0 {
            asm!("str {0:x}, [{1}]", in(reg) value, in(reg) address, options(nostack));
        }
    }
    widths.count_ones().into()
}

/// Pairs, exclusives, write-back, SIMD, atomics, and maintenance: the syndrome of their aborts does
/// not say what they do (Arm ARM D24.2.41, ISV).
pub fn without_syndrome(address: u64, value: u64) -> u64 {
    // SAFETY: as in `loads` and `stores`; x9 to x12 are declared.
    unsafe {
        asm!(
            "ldp x9, x10, [x11]",
            "stp x12, x12, [x11]",
            "ldp w9, w10, [x11]",
            "ldxr w9, [x11]",
            "stxr w10, w12, [x11]",
            "ldxp x9, x10, [x11]",
            "ldar w9, [x11]",
            "stlr w12, [x11]",
            "mov x9, x11",
            "ldr w10, [x9], #4",
            "mov x9, x11",
            "str w12, [x9, #4]!",
            "ldpsw x9, x10, [x11]",
            ".inst 0x3dc00160", // ldr q0, [x11]
            ".inst 0x3d800160", // str q0, [x11]
            ".inst 0xb82c0169", // ldadd w12, w9, [x11]
            "dc ivac, x11",
            "dc civac, x11",
            "dc zva, x11",
            "prfm pldl1keep, [x11]",
            "at s1e1w, x11",
            in("x11") address, in("x12") value, out("x9") _, out("x10") _,
            options(nostack)
        );
    }
    19
}
