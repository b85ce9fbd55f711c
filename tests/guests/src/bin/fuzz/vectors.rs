//! A vCPU whose vector table is nowhere, and an access whose abort the hypervisor gives it: it is
//! lost, and nothing else is.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use guests::hypercall::call;
use guests::machine::Machine;
use guests::random::Random;
use guests::{mmu, power, println, write_sysreg};
use xen_abi::hypercall::Hypercall;
use xen_abi::version::VersionOp;

use super::mark;

/// The last page that stage 1 maps, where the hypervisor has nothing.
const NOTHING: u64 = mmu::UNMAPPED - 4096;

/// Vector tables: the highest, whose last vectors end with the address space; one that stage 1 does
/// not map; one that stage 2 does not map.
const TABLES: [u64; 3] = [0xffff_ffff_ffff_f800, mmu::UNMAPPED, NOTHING];

/// The second CPU's, and whether it is about to be lost.
static TABLE: AtomicU64 = AtomicU64::new(0);
static LEAVING: AtomicU64 = AtomicU64::new(0);

/// The command line's seed decides for a table.
pub fn run(machine: &'static Machine, _random: &mut Random, count: u64) -> u64 {
    let seed = machine.number("seed").unwrap_or(1);
    let table = TABLES[(seed % TABLES.len() as u64) as usize];
    println!("fuzz: vectors at {table:#x}");
    TABLE.store(table, Ordering::Relaxed);
    if power::start_second_cpu(machine, lose) != 0 {
        println!("fuzz: vectors need a second vCPU");
        return 0;
    }
    while LEAVING.load(Ordering::Relaxed) == 0 {
        power::relax();
    }
    for done in 0..count {
        call(Hypercall::XenVersion, [VersionOp::Version.number(), 0, 0]);
        mark(done, count);
    }
    count
}

fn lose(_machine: &'static Machine) {
    LEAVING.store(1, Ordering::Relaxed);
    write_sysreg!("vbar_el1", TABLE.load(Ordering::Relaxed));
    // SAFETY: this CPU does not come back.
    unsafe {
        asm!("ldr {0}, [{1}]", out(reg) _, in(reg) NOTHING, options(nostack));
    }
}
