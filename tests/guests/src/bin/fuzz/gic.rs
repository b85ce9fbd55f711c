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

pub fn run(machine: &Machine, random: &mut Random, _count: u64) -> u64 {
    // CPACR_EL1.FPEN: loads of SIMD registers do not trap to EL1.
    write_sysreg!("cpacr_el1", 0b11 << 20);
    exception::tolerate();
    let mut done = 0;
    for frame in frames(&machine.gic) {
        println!("fuzz: gic frame at {:#x}", frame.start);
        let around = frame.start - BEYOND..frame.end + BEYOND;
        for address in around.clone() {
            loads(address);
            done += 4;
        }
        for address in around.clone() {
            stores(address, random.next());
            done += 4;
        }
        for address in around.step_by(STEP) {
            done += without_syndrome(address, random.next());
        }
        done += pairs(&frame, random);
    }
    done
}

/// Where the registers are that one CPU reaches.
fn frames(gic: &Gic) -> [Range<u64>; 2] {
    match *gic {
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
    }
}

/// Random loads and stores of random registers, so that one follows on any other.
fn pairs(frame: &Range<u64>, random: &mut Random) -> u64 {
    const PAIRS: u64 = 50_000;
    for _ in 0..PAIRS {
        stores(
            frame.start + random.below(frame.end - frame.start),
            random.next(),
        );
        loads(frame.start + random.below(frame.end - frame.start));
    }
    PAIRS * 8
}

/// Loads of each width.
fn loads(address: u64) {
    // SAFETY: what is loaded is dropped; an abort skips the instruction.
    unsafe {
        asm!(
            "ldrb {0:w}, [{1}]",
            "ldrsh {0:x}, [{1}]",
            "ldr {0:w}, [{1}]",
            "ldr {0:x}, [{1}]",
            out(reg) _, in(reg) address, options(nostack)
        );
    }
}

/// Stores of each width.
fn stores(address: u64, value: u64) {
    // SAFETY: the registers of the interrupt controller do not reach memory; an abort skips the
    // instruction.
    unsafe {
        asm!(
            "strb {0:w}, [{1}]",
            "strh {0:w}, [{1}]",
            "str {0:w}, [{1}]",
            "str {0:x}, [{1}]",
            in(reg) value, in(reg) address, options(nostack)
        );
    }
}

/// Pairs, exclusives, write-back, SIMD, atomics, and maintenance: the syndrome of their aborts does
/// not say what they do (Arm ARM D24.2.41, ISV).
fn without_syndrome(address: u64, value: u64) -> u64 {
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
