//! The heap: `talc` over frames from the buddy allocator, taken as they are needed.
//!
//! Running out is an error value: `try_reserve` and its like return it, and what must not fail is
//! allocated at boot.

use alloc::vec::Vec;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use talc::base::Talc;
use talc::base::binning::{Binning, DefaultBinning};
use talc::source::Source;

use super::{frames, ram, shortage};
use crate::lock::IrqLock;

/// The heap grows by at least this many bytes at a time (2^6 frames).
const STEP: usize = 256 * 1024;

/// Takes memory for the heap from the frames.
#[derive(Debug)]
struct FromFrames;

// SAFETY: `acquire` reaches the frame allocator only, which never uses the heap.
unsafe impl Source for FromFrames {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        // Room for the allocation, its alignment and the allocator's own tables in the first block.
        let wanted = layout.size().checked_add(layout.align()).ok_or(())?;
        let size = wanted
            .checked_add(STEP / 4)
            .and_then(usize::checked_next_power_of_two)
            .ok_or(())?
            .max(STEP);
        let range = frames::allocate_for_hypervisor(size).map_err(|_| ())?;
        // SAFETY: the range was just given to the heap alone, which never gives it back.
        let memory = unsafe { ram::exclusive(range) };
        // SAFETY: it stays valid and is used by nothing but this heap.
        unsafe { talc.claim(memory.as_mut_ptr(), memory.len()) }
            .map(|_| ())
            .ok_or(())
    }
}

/// The heap cannot get so large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoRoom;

/// Sees to it that allocations of `bytes` in all succeed, for code that allocates in many places which
/// cannot fail: as long as others leave them that.
///
/// # Errors
/// If there is no memory.
pub fn ensure(bytes: usize) -> Result<(), NoRoom> {
    if shortage::refuses() {
        return Err(NoRoom);
    }
    let mut room: Vec<u8> = Vec::new();
    let reserved = room.try_reserve_exact(bytes);
    // The compiler must not see that nobody uses it.
    core::hint::black_box(&mut room);
    reserved.map_err(|_| NoRoom)
}

struct Heap(IrqLock<Talc<FromFrames, DefaultBinning>>);

#[global_allocator]
static HEAP: Heap = Heap(IrqLock::new(Talc::new(FromFrames)));

// SAFETY: blocks come from `Talc`, which hands out each byte once and with the layout asked for;
// the lock serialises the CPUs and keeps handlers of this CPU out.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller of `alloc` promises a layout that is not of size zero.
        unsafe { self.0.lock().allocate(layout) }.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller of `dealloc` promises a block of this allocator and its layout.
        unsafe { self.0.lock().deallocate(block, layout) }
    }
}
