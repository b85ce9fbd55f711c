//! Stacks: each in a slot of its own of a window at the top of the address space.
//!
//! The upper half of a slot is the stack, the lower half is mapped by nothing: the guard. All
//! addresses of a stack have bit 16 set and all of its guard have it clear, which is what the
//! exception entry looks at (`exception.S`).

use core::ops::Range;

use xen_types::HpaRange;

use super::frames::{self, OutOfFrames};
use super::space::{self, MapError};
use crate::arch::percpu::CpuId;

/// Bytes of a stack, and of its guard.
pub const SIZE: u64 = 0x1_0000;
/// The window: the last GiB of the 48-bit space. RAM up there is left unused.
pub const WINDOW: u64 = 0xffff_c000_0000;
/// Bytes of an emergency stack, which is not guarded: it serves one report.
const EMERGENCY_SIZE: usize = 0x4000;

/// Why there is no stack.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// No memory for it.
    #[error(transparent)]
    Memory(#[from] OutOfFrames),
    /// No way to map it.
    #[error(transparent)]
    Map(#[from] MapError),
}

/// Allocates and maps the stack of a CPU.
pub fn allocate(cpu: CpuId) -> Result<Range<u64>, StackError> {
    let memory: HpaRange = frames::allocate_for_hypervisor(SIZE as usize)?;
    let bottom = WINDOW + u64::from(cpu.0) * 2 * SIZE + SIZE;
    space::map_stack(bottom, memory)?;
    Ok(bottom..bottom + SIZE)
}

/// Allocates the stack for the report of an overflow of the other one.
pub fn allocate_emergency() -> Result<Range<usize>, OutOfFrames> {
    let memory = frames::allocate_for_hypervisor(EMERGENCY_SIZE)?;
    Ok(memory.start().get() as usize..memory.end().get() as usize)
}

/// Goes on in `function` on the stack that ends at `top`, for good.
pub fn continue_on(top: u64, function: extern "C" fn() -> !) -> ! {
    unsafe extern "C" {
        fn call_on_stack(top: u64, function: extern "C" fn() -> !) -> !;
    }
    // SAFETY: `top` is that of a stack from `allocate`, mapped and used by nobody else; the old
    // stack is not returned to.
    unsafe { call_on_stack(top, function) }
}
