//! Data cache maintenance by address (Arm ARM D7.5), for what is read with the caches off.

use xen_types::HpaRange;

use super::barrier;
use super::sysreg::read_sysreg;

/// Writes the bytes of `value` back to the point of coherency, for a CPU that has its MMU off.
pub fn clean_to_memory<T>(value: &T) {
    clean(core::ptr::from_ref(value) as usize, size_of_val(value));
}

/// Writes `bytes` back to the point of coherency, for a guest that has its caches off.
pub fn clean_slice_to_memory(bytes: &[u8]) {
    clean(bytes.as_ptr() as usize, bytes.len());
}

/// Writes RAM back to the point of coherency and empties the caches of it: a guest's, on its behalf.
pub fn clean_and_invalidate(range: HpaRange) {
    let line = line();
    let start = range.start().get() as usize & !(line - 1);
    for address in (start..range.end().get() as usize).step_by(line) {
        // SAFETY: what caches hold is written back before it goes, so that contents do not change
        // for anyone; RAM is mapped at its own address.
        unsafe {
            core::arch::asm!("dc civac, {}", in(reg) address, options(nostack, preserves_flags));
        }
    }
    barrier::dsb_sy();
}

/// Bytes of the smallest data cache line (`CTR_EL0.DminLine`).
fn line() -> usize {
    4 << ((read_sysreg!("ctr_el0") >> 16) & 0xf)
}

fn clean(start: usize, size: usize) {
    let line = line();
    let end = start + size;
    for address in (start & !(line - 1)..end).step_by(line) {
        // SAFETY: cleaning writes back what is in the cache; contents do not change, and the
        // callers' addresses are those of live references.
        unsafe {
            core::arch::asm!("dc cvac, {}", in(reg) address, options(nostack, preserves_flags));
        }
    }
    barrier::dsb_sy();
}

/// Zeroes page-aligned memory with `DC ZVA` where the CPU allows it (Arm ARM D7.5.9.4).
pub fn zero_pages(memory: &mut [u8]) {
    let dczid = read_sysreg!("dczid_el0");
    let block = 4usize << (dczid & 0xf);
    let start = memory.as_mut_ptr() as usize;
    let forbidden = dczid & 0x10 != 0;
    if forbidden || !start.is_multiple_of(block) || !memory.len().is_multiple_of(block) {
        memory.fill(0);
        return;
    }
    for address in (start..start + memory.len()).step_by(block) {
        // SAFETY: the block lies inside `memory`, which is borrowed exclusively; alignment and
        // length were checked above, and this is Normal memory as all of Rust's is.
        unsafe {
            core::arch::asm!("dc zva, {}", in(reg) address, options(nostack, preserves_flags));
        }
    }
}
