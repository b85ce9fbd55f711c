//! What of a guest's instructions traps to the hypervisor (Arm ARM D24.2.53, D24.2.33, D24.3.21).
//!
//! A register traps for one of three reasons: it is not kept per vCPU, it would show the guest the
//! machine rather than its own part, or its effect reaches beyond the guest.

use crate::arch::barrier;
use crate::arch::features::Features;
use crate::arch::sysreg::{read_sysreg, write_sysreg};

/// `HCR_EL2` for a guest, by bit.
mod hcr {
    /// Stage 2 is on.
    pub const VM: u64 = 1;
    /// Invalidation of caches by set and way cleans them as well.
    pub const SWIO: u64 = 1 << 1;
    /// Physical FIQs, IRQs and SErrors are taken here.
    pub const INTERRUPTS: u64 = 1 << 3 | 1 << 4 | 1 << 5;
    /// Maintenance of TLBs and instruction caches reaches all CPUs that may run the vCPU.
    pub const FB: u64 = 1 << 9;
    /// Barriers reach the inner shareable domain at least: a vCPU may move.
    pub const BSU_INNER: u64 = 1 << 10;
    /// WFI and WFE trap.
    pub const TWI: u64 = 1 << 13;
    pub const TWE: u64 = 1 << 14;
    /// Identification registers (group 3) and SMC trap.
    pub const TID3: u64 = 1 << 18;
    pub const TSC: u64 = 1 << 19;
    /// Implementation-defined registers and auxiliary control trap.
    pub const TIDCP: u64 = 1 << 20;
    pub const TACR: u64 = 1 << 21;
    /// Maintenance of caches by set and way traps.
    pub const TSW: u64 = 1 << 22;
    /// EL1 is AArch64.
    pub const RW: u64 = 1 << 31;
    /// LORegions and error records trap.
    pub const TLOR: u64 = 1 << 35;
    pub const TERR: u64 = 1 << 36;
}

/// `HCR_EL2` while a guest is resident.
const HCR_GUEST: u64 = hcr::VM
    | hcr::SWIO
    | hcr::INTERRUPTS
    | hcr::FB
    | hcr::BSU_INNER
    | hcr::TWI
    | hcr::TID3
    | hcr::TSC
    | hcr::TIDCP
    | hcr::TACR
    | hcr::TSW
    | hcr::RW
    | hcr::TLOR
    | hcr::TERR;

/// `MDCR_EL2`: the debug registers (TDRA, TDOSA, TDA) and performance monitors (TPM, TPMCR) trap,
/// statistical profiling (TPMS) and trace filtering (TTRF) too; the profiling and trace buffers are
/// not EL1's (E2PB, E2TB are 0).
const MDCR_GUEST: u64 = 1 << 5 | 1 << 6 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 14 | 1 << 19;

/// Sets this CPU's traps once: they are the same for every guest.
pub fn init() {
    let features = Features::detect();
    let counters = if features.has_performance_monitors() {
        // MDCR_EL2.HPMN: all counters are EL1's, so that none is the hypervisor's by accident.
        read_sysreg!("pmcr_el0") >> 11 & 0x1f
    } else {
        0
    };
    write_sysreg!("mdcr_el2", MDCR_GUEST | counters);
    // Registers that later extensions added start in an unknown state.
    if features.has_hcrx() {
        write_sysreg!("S3_4_C1_C2_2", 0);
    }
    if features.has_fine_grained_traps() {
        // HFGRTR, HFGWTR, HFGITR, HDFGRTR, HDFGWTR: nothing traps but what has to be enabled.
        write_sysreg!("S3_4_C1_C1_4", 0);
        write_sysreg!("S3_4_C1_C1_5", 0);
        write_sysreg!("S3_4_C1_C1_6", 0);
        write_sysreg!("S3_4_C3_C1_4", 0);
        write_sysreg!("S3_4_C3_C1_5", 0);
    }
    barrier::isb();
}

/// A guest is resident on this CPU, or about to be. `shared`: others wait for the CPU, so that a vCPU
/// that spins for another one gives way.
pub fn enter(shared: bool) {
    let twe = if shared { hcr::TWE } else { 0 };
    write_sysreg!("hcr_el2", HCR_GUEST | twe);
}

/// No guest is resident on this CPU any more.
pub fn leave() {
    write_sysreg!("hcr_el2", crate::entry::HCR);
    barrier::isb();
}
