//! Loads and stores that may be answered with an abort: of addresses that the boot loader gave, and of
//! registers that fail so.

use core::arch::global_asm;
use core::sync::atomic::Ordering;

use super::exception::Frame;
use super::{barrier, interrupts, percpu};

global_asm!(
    ".global probe_word",
    "probe_word:",
    ".global probe_load",
    "probe_load:",
    "    ldr w0, [x0]",
    "    ret",
    ".global probe_store_word",
    "probe_store_word:",
    "    mov x2, x0",
    "    mov x0, xzr",
    ".global probe_store",
    "probe_store:",
    "    str w1, [x2]",
    "    ret",
);

unsafe extern "C" {
    fn probe_word(address: u64) -> u64;
    fn probe_store_word(address: u64, value: u32) -> u64;
    static probe_load: u32;
    static probe_store: u32;
}

/// What an access that faulted returns: more than a word can hold.
const FAULTED: u64 = u64::MAX;

/// Whether the word at `address`, mapped and 4-byte aligned, can be read.
pub fn readable(address: u64) -> bool {
    assert!(address.is_multiple_of(4));
    // SAFETY: a load by the C calling convention; should it fault, `recover` lets it return.
    unsafe { probe_word(address) != FAULTED }
}

/// Reads a device's register; `None` if it answers with an abort, at once or as an SError.
///
/// # Safety
/// `address` must be of a register that is mapped as Device memory.
pub unsafe fn read_register(address: u64) -> Option<u32> {
    assert!(address.is_multiple_of(4));
    guarded(|| {
        // SAFETY: as the caller says; should it fault, `recover` lets it return.
        unsafe { probe_word(address) }
    })
    .map(|value| value as u32)
}

/// Writes a device's register; `None` if it answers with an abort, at once or as an SError.
///
/// # Safety
/// As for [`read_register`]; what the write makes the device do is its driver's concern.
pub unsafe fn write_register(address: u64, value: u32) -> Option<()> {
    assert!(address.is_multiple_of(4));
    guarded(|| {
        // SAFETY: as in `read_register`.
        unsafe { probe_store_word(address, value) }
    })
    .map(drop)
}

/// Makes an access of which any abort is expected.
fn guarded(access: impl FnOnce() -> u64) -> Option<u64> {
    let cpu = percpu::this();
    let _masked = interrupts::mask();
    let _open = interrupts::let_system_errors_through();
    // An error of an earlier access is not this one's, and is taken now.
    barrier::dsb_sy();
    barrier::isb();
    cpu.expects_system_error.store(true, Ordering::Relaxed);
    let result = access();
    // The access is complete, and an error that it caused was taken, before what follows.
    barrier::dsb_sy();
    barrier::isb();
    let no_error = cpu.expects_system_error.swap(false, Ordering::Relaxed);
    Some(result).filter(|result| no_error && *result != FAULTED)
}

/// Lets the access return if it is what faulted; false if `frame` is another fault.
pub fn recover(frame: &mut Frame) -> bool {
    let accesses = [&raw const probe_load, &raw const probe_store];
    if !accesses.iter().any(|access| frame.elr == *access as u64) {
        return false;
    }
    frame.x[0] = FAULTED;
    frame.elr += 4;
    true
}

/// Whether an SError is that of a guarded access, which is told by it.
pub fn expected_system_error() -> bool {
    let cpu = percpu::this();
    cpu.expects_system_error.swap(false, Ordering::Relaxed)
}
