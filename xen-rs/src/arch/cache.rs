//! Data cache maintenance by address (Arm ARM D7.5), for what is read with the caches off; and what is
//! faster by cache lines.

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

/// Writes RAM back to the point of coherency, for a device that reads past the caches.
pub fn clean_range(range: HpaRange) {
    clean(range.start().get() as usize, range.size() as usize);
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

/// Empties the instruction caches of all CPUs: memory holds other instructions now.
pub fn forget_instructions() {
    // SAFETY: removes what is cached of instructions; memory does not change.
    unsafe { core::arch::asm!("ic ialluis", options(nostack, preserves_flags)) };
    barrier::dsb_ish();
    barrier::isb();
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
    /// Blocks that one turn zeroes: Dom0's RAM is millions of them.
    const UNROLLED: usize = 64;
    let dczid = read_sysreg!("dczid_el0");
    let block = 4usize << (dczid & 0xf);
    let start = memory.as_ptr() as usize;
    let forbidden = dczid & 0x10 != 0;
    if forbidden || !start.is_multiple_of(block) || !memory.len().is_multiple_of(block) {
        memory.fill(0);
        return;
    }
    let rest = memory.len() % (UNROLLED * block);
    let (most, rest) = memory.split_at_mut(memory.len() - rest);
    zero_blocks::<UNROLLED>(most, block);
    zero_blocks::<1>(rest, block);
}

/// Zeroes page-aligned memory, in the caches and behind them: a guest that starts with its caches off
/// must not see what the last owner left.
pub fn zero_pages_to_memory(memory: &mut [u8]) {
    zero_pages(memory);
    clean_slice_to_memory(memory);
}

/// Zeroes `AT_ONCE` blocks of `block` bytes a turn; `memory` has whole turns of them.
fn zero_blocks<const AT_ONCE: usize>(memory: &mut [u8], block: usize) {
    if memory.is_empty() {
        return;
    }
    let range = memory.as_mut_ptr_range();
    // SAFETY: the blocks lie inside `memory`, which is borrowed exclusively; `zero_pages` has checked
    // alignment and length, and this is Normal memory as all of Rust's is.
    unsafe {
        core::arch::asm!(
            "2:",
            ".rept {at_once}",
            "dc zva, {at}",
            "add {at}, {at}, {block}",
            ".endr",
            "cmp {at}, {end}",
            "b.lo 2b",
            at_once = const AT_ONCE,
            at = inout(reg) range.start => _,
            block = in(reg) block,
            end = in(reg) range.end,
            options(nostack)
        );
    }
}

/// Copies `from` to the front of `to`, as far as both reach: what has many MiB. The compiler's own
/// copy takes a word at a time.
pub fn copy(to: &mut [u8], from: &[u8]) {
    let size = to.len().min(from.len());
    let (to, from) = (&mut to[..size], &from[..size]);
    let aligned = |bytes: &[u8]| (bytes.as_ptr() as usize).is_multiple_of(size_of::<u64>());
    let chunks = if aligned(to) && aligned(from) {
        size - size % CHUNK
    } else {
        0
    };
    copy_chunks(&mut to[..chunks], &from[..chunks]);
    to[chunks..].copy_from_slice(&from[chunks..]);
}

/// Bytes that one turn of [`copy_chunks`] copies.
const CHUNK: usize = 64;

/// Copies whole chunks between slices of the same size that are aligned to words.
fn copy_chunks(to: &mut [u8], from: &[u8]) {
    if to.is_empty() {
        return;
    }
    let from = from.as_ptr_range();
    // SAFETY: the slices have the same size, a multiple of what a turn copies, and the target is
    // borrowed exclusively; the callers' words are aligned.
    unsafe {
        core::arch::asm!(
            "2:",
            ".rept {pairs}",
            "ldp {a}, {b}, [{from}], #16",
            "stp {a}, {b}, [{to}], #16",
            ".endr",
            "cmp {from}, {end}",
            "b.lo 2b",
            pairs = const CHUNK / 16,
            from = inout(reg) from.start => _,
            to = inout(reg) to.as_mut_ptr() => _,
            end = in(reg) from.end,
            a = out(reg) _,
            b = out(reg) _,
            options(nostack)
        );
    }
}
