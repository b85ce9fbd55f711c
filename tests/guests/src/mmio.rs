//! Loads and stores of devices, by plain instructions whose syndrome a hypervisor can emulate.

use core::arch::asm;

/// Loads a word.
#[inline(always)]
pub fn read32(address: u64) -> u32 {
    let value: u32;
    // SAFETY: the address is a device's register, which the guest's tables map.
    unsafe {
        asm!("ldr {0:w}, [{1}]", out(reg) value, in(reg) address, options(nostack));
    }
    value
}

/// Stores a word.
#[inline(always)]
pub fn write32(address: u64, value: u32) {
    // SAFETY: as in `read32`; the registers that are written do not reach memory.
    unsafe {
        asm!("str {0:w}, [{1}]", in(reg) value, in(reg) address, options(nostack));
    }
}

/// Loads a doubleword.
#[inline(always)]
pub fn read64(address: u64) -> u64 {
    let value: u64;
    // SAFETY: as in `read32`.
    unsafe {
        asm!("ldr {0}, [{1}]", out(reg) value, in(reg) address, options(nostack));
    }
    value
}

/// Stores a doubleword.
#[inline(always)]
pub fn write64(address: u64, value: u64) {
    // SAFETY: as in `write32`; tables that a register names are of the guest's own memory.
    unsafe {
        asm!("str {0}, [{1}]", in(reg) value, in(reg) address, options(nostack));
    }
}

/// Stores a byte.
#[inline(always)]
pub fn write8(address: u64, value: u8) {
    // SAFETY: as in `write32`.
    unsafe {
        asm!("strb {0:w}, [{1}]", in(reg) u32::from(value), in(reg) address, options(nostack));
    }
}
