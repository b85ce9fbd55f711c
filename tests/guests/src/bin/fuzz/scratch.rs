//! The memory that calls play with: some pages at the end of RAM. This image is at its start: a call
//! that takes a block of frames, or writes its answers to a list of any length, goes upwards and never
//! reaches it.

use core::ptr;

use guests::machine::Machine;
use guests::{exception, hypercall};
use xen_abi::hypercall::Hypercall;
use xen_abi::memory::MemoryOp;
use xen_abi::{DomId, GuestHandle, memory};

pub const PAGE: u64 = 4096;
/// How many pages. A list of hundreds of thousands of operations, of which each is as the one before,
/// finds nothing that one of thousands does not.
pub const PAGES: u64 = 16;

/// The address of the first page.
pub fn start(machine: &Machine) -> u64 {
    machine.ram_end - PAGES * PAGE
}

/// Puts memory where calls have taken it away: without any, all arguments would soon be bad ones.
pub fn refill(start: u64) {
    for page in (0..PAGES).map(|page| start + page * PAGE) {
        let survived = exception::survived();
        // SAFETY: scratch memory; if a call has taken the page away, the abort skips the load.
        unsafe { ptr::read_volatile(page as *const u64) };
        if exception::survived() != survived {
            populate(page / PAGE);
        }
    }
}

fn populate(frame: u64) {
    let reservation = memory::Reservation {
        extent_start: GuestHandle::new((&raw const frame) as u64),
        nr_extents: 1,
        extent_order: 0,
        mem_flags: 0,
        domid: DomId::SELF,
        pad: [0; 3],
    };
    let (operation, argument) = (
        MemoryOp::PopulatePhysmap.number(),
        (&raw const reservation) as u64,
    );
    // Where it fails, the next round tries again.
    hypercall::call(Hypercall::MemoryOp, [operation, argument, 0]);
}
