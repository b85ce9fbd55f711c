//! Calls of the SMC Calling Convention (DEN0028), by HVC.

use core::arch::asm;

/// `PSCI_VERSION` (DEN0022, 5.1).
pub const PSCI_VERSION: u32 = 0x8400_0000;
/// `CPU_OFF`.
pub const CPU_OFF: u32 = 0x8400_0002;
/// `CPU_ON` with 64-bit arguments.
pub const CPU_ON: u32 = 0xc400_0003;
/// `SYSTEM_OFF`.
pub const SYSTEM_OFF: u32 = 0x8400_0008;

/// Calls a function by `HVC #0`; returns x0.
#[inline(always)]
pub fn call(function: u64, arguments: [u64; 3]) -> u64 {
    let [first, second, third] = arguments;
    let mut x0 = function;
    // SAFETY: SMCCC 2.6: x0 to x17 may change, nothing else does; functions do not touch the caller's
    // memory.
    unsafe {
        asm!(
            "hvc #0",
            inout("x0") x0,
            inout("x1") first => _,
            inout("x2") second => _,
            inout("x3") third => _,
            lateout("x4") _, lateout("x5") _, lateout("x6") _, lateout("x7") _,
            lateout("x8") _, lateout("x9") _, lateout("x10") _, lateout("x11") _,
            lateout("x12") _, lateout("x13") _, lateout("x14") _, lateout("x15") _,
            lateout("x16") _, lateout("x17") _,
            options(nostack),
        );
    }
    x0
}

/// As [`call`], by `SMC #0`.
pub fn call_by_smc(function: u64, arguments: [u64; 3]) -> u64 {
    let [first, second, third] = arguments;
    let mut x0 = function;
    // SAFETY: as in `call`.
    unsafe {
        asm!(
            "smc #0",
            inout("x0") x0,
            inout("x1") first => _,
            inout("x2") second => _,
            inout("x3") third => _,
            lateout("x4") _, lateout("x5") _, lateout("x6") _, lateout("x7") _,
            lateout("x8") _, lateout("x9") _, lateout("x10") _, lateout("x11") _,
            lateout("x12") _, lateout("x13") _, lateout("x14") _, lateout("x15") _,
            lateout("x16") _, lateout("x17") _,
            options(nostack),
        );
    }
    x0
}
