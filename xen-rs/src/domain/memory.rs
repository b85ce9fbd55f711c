//! A guest's memory, reached through checked copies.
//!
//! Buffers of hypercalls are virtual addresses of the vCPU that makes the call: the hardware
//! translates them as the guest's own access would be, page by page (Arm ARM C5.5, `AT S12E1R`).

use xen_types::{Hpa, HpaRange, PAGE_SIZE};

use super::Domain;
use crate::arch::barrier;
use crate::arch::sysreg::{read_sysreg, write_sysreg};
use crate::memory::ram;

/// The address cannot be read or written by the guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadAddress;

/// What the guest wants to do at an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    Read,
    Write,
}

/// Copies bytes from a virtual address of the vCPU that runs on this CPU.
///
/// # Errors
/// [`BadAddress`] where the guest could not read all of it; what `into` holds then is unspecified.
pub fn copy_from(domain: &Domain, address: u64, into: &mut [u8]) -> Result<(), BadAddress> {
    let mut at = address;
    let mut rest = into;
    while !rest.is_empty() {
        let source = page_at(domain, at, rest.len(), Purpose::Read)?;
        let (now, later) = rest.split_at_mut(source.size() as usize);
        // SAFETY: RAM of the domain, which stays its own while its vCPU is in this call; bytes are
        // copied once, so a vCPU that writes at the same time changes what is copied and no more.
        unsafe {
            core::ptr::copy_nonoverlapping(
                source.start().get() as *const u8,
                now.as_mut_ptr(),
                now.len(),
            );
        }
        at = at.wrapping_add(now.len() as u64);
        rest = later;
    }
    Ok(())
}

/// Copies bytes to a virtual address of the vCPU that runs on this CPU.
///
/// # Errors
/// [`BadAddress`] where the guest could not write all of it; a part may have been written.
pub fn copy_to(domain: &Domain, address: u64, from: &[u8]) -> Result<(), BadAddress> {
    let mut at = address;
    let mut rest = from;
    while !rest.is_empty() {
        let target = page_at(domain, at, rest.len(), Purpose::Write)?;
        let (now, later) = rest.split_at(target.size() as usize);
        // SAFETY: RAM of the domain that it may write, and no Rust object lies there.
        unsafe {
            core::ptr::copy_nonoverlapping(
                now.as_ptr(),
                target.start().get() as *mut u8,
                now.len(),
            );
        }
        at = at.wrapping_add(now.len() as u64);
        rest = later;
    }
    Ok(())
}

/// The host's bytes behind `address`, at most `length` and to the end of the page.
fn page_at(
    domain: &Domain,
    address: u64,
    length: usize,
    purpose: Purpose,
) -> Result<HpaRange, BadAddress> {
    let host = translate(address, purpose)?;
    let room = PAGE_SIZE - host.offset_in_page();
    let range = HpaRange::new(host, room.min(length as u64)).ok_or(BadAddress)?;
    // Device memory, and what is not the domain's, is no buffer.
    if domain.owns(range) {
        Ok(range)
    } else {
        Err(BadAddress)
    }
}

fn translate(address: u64, purpose: Purpose) -> Result<Hpa, BadAddress> {
    let before = read_sysreg!("par_el1");
    // SAFETY: looks an address up in the guest's tables and leaves the result in PAR_EL1; no
    // memory is accessed at the address itself.
    unsafe {
        match purpose {
            Purpose::Read => {
                core::arch::asm!("at s12e1r, {}", in(reg) address, options(nostack));
            }
            Purpose::Write => {
                core::arch::asm!("at s12e1w, {}", in(reg) address, options(nostack));
            }
        }
    }
    barrier::isb();
    let result = crate::arch::sysreg::read_sysreg_volatile!("par_el1");
    write_sysreg!("par_el1", before);
    if result & 1 != 0 {
        return Err(BadAddress);
    }
    let page = result & 0x000f_ffff_ffff_f000;
    Ok(Hpa::new(page | address & (PAGE_SIZE - 1)))
}

/// RAM of a domain that does not run yet, as bytes.
///
/// # Safety
/// The range was given to the domain by the allocator, and none of its vCPUs has been started.
pub unsafe fn before_start(range: HpaRange) -> &'static mut [u8] {
    // SAFETY: the caller's promise.
    unsafe { ram::exclusive(range) }
}
