//! RAM as Rust sees it: EL2 is identity mapped, so a host physical address is a pointer.

use xen_types::HpaRange;

/// Memory that nothing writes any more: the device tree, the symbol table.
///
/// The range must be mapped and constant: callers pass what the boot loader or the build put there
/// and what the memory map keeps from everyone else.
pub fn read_only(range: HpaRange) -> &'static [u8] {
    // SAFETY: identity mapped and readable (the callers map it first), reserved from the allocator
    // for ever, and never written: EL2 maps it read-only.
    unsafe { core::slice::from_raw_parts(range.start().get() as *const u8, range.size() as usize) }
}

/// A boot module: RAM that the memory map keeps from the allocator.
pub fn module(range: HpaRange) -> &'static [u8] {
    read_only(range)
}

/// Memory that the caller has just taken for itself alone, as bytes.
///
/// # Safety
/// The range is mapped read-write, was given to the caller by an allocator, and nothing else refers
/// to it for as long as the result lives.
pub unsafe fn exclusive(range: HpaRange) -> &'static mut [u8] {
    // SAFETY: the caller's promise; bytes of RAM are initialised for Rust whatever they hold.
    unsafe {
        core::slice::from_raw_parts_mut(range.start().get() as *mut u8, range.size() as usize)
    }
}
