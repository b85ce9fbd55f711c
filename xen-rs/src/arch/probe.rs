//! Looking whether there is memory behind an address, for addresses that the boot loader gave.

use core::arch::global_asm;

use super::exception::Frame;

global_asm!(
    ".global probe_word",
    "probe_word:",
    ".global probe_load",
    "probe_load:",
    "    ldr w0, [x0]",
    "    ret",
);

unsafe extern "C" {
    fn probe_word(address: u64) -> u64;
    static probe_load: u32;
}

/// What a load that faulted returns: more than a word can hold.
const FAULTED: u64 = u64::MAX;

/// Whether the word at `address`, mapped and 4-byte aligned, can be read.
pub fn readable(address: u64) -> bool {
    assert!(address.is_multiple_of(4));
    // SAFETY: a load by the C calling convention; should it fault, `recover` lets it return.
    unsafe { probe_word(address) != FAULTED }
}

/// Lets the load of [`readable`] return if it is what faulted; false if `frame` is another fault.
pub fn recover(frame: &mut Frame) -> bool {
    let load = (&raw const probe_load) as u64;
    if frame.elr != load {
        return false;
    }
    frame.x[0] = FAULTED;
    frame.elr += 4;
    true
}
