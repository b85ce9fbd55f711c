//! A guest's memory, reached through checked copies.
//!
//! Buffers of hypercalls are virtual addresses of the vCPU that makes the call: the hardware
//! translates them as the guest's own access would be, page by page (Arm ARM C5.5, `AT S12E1R`).
//! Each page is RAM of the domain, and referenced while it is copied: another vCPU may give it up,
//! and it is nobody else's until the copy is over.

use xen_types::{Gpa, Hpa, HpaRange, PAGE_SIZE};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::Domain;
use crate::arch::barrier;
use crate::arch::sysreg::{read_sysreg, write_sysreg};
use crate::memory::{frames, ram};

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
        let source = Piece::at(domain, at, rest.len(), Purpose::Read)?;
        let (now, later) = rest.split_at_mut(source.length());
        // SAFETY: RAM of the domain, which nobody else gets while it is referenced; bytes are copied
        // once, so a vCPU that writes at the same time changes what is copied and no more.
        unsafe {
            core::ptr::copy_nonoverlapping(
                source.address() as *const u8,
                now.as_mut_ptr(),
                now.len(),
            );
        }
        at = at.wrapping_add(now.len() as u64);
        rest = later;
    }
    Ok(())
}

/// Copies bytes of a domain's RAM from one of its physical addresses.
///
/// # Errors
/// [`BadAddress`] where not all of it is RAM of its own; what `into` holds then is unspecified.
pub fn copy_from_ram(domain: &Domain, address: Gpa, into: &mut [u8]) -> Result<(), BadAddress> {
    let mut at = address;
    let mut rest = into;
    while !rest.is_empty() {
        let room = (PAGE_SIZE - at.offset_in_page()) as usize;
        let (now, later) = rest.split_at_mut(room.min(rest.len()));
        let frame = domain.space.lock().reference_ram(at.frame(), false);
        let frame = frame.map_err(|_| BadAddress)?;
        let host = frame
            .address()
            .and_then(|page| page.checked_add(at.offset_in_page()));
        let source = host.and_then(|host| HpaRange::new(host, now.len() as u64));
        // Which gives the reference back.
        let source = Piece(source.ok_or(BadAddress)?);
        // SAFETY: as in `copy_from`.
        unsafe {
            core::ptr::copy_nonoverlapping(
                source.address() as *const u8,
                now.as_mut_ptr(),
                now.len(),
            );
        }
        at = at.checked_add(now.len() as u64).ok_or(BadAddress)?;
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
        let target = Piece::at(domain, at, rest.len(), Purpose::Write)?;
        let (now, later) = rest.split_at(target.length());
        // SAFETY: RAM of the domain that it may write, referenced, and no Rust object lies there.
        unsafe {
            core::ptr::copy_nonoverlapping(now.as_ptr(), target.address() as *mut u8, now.len());
        }
        at = at.wrapping_add(now.len() as u64);
        rest = later;
    }
    Ok(())
}

/// Reads a structure from a virtual address of the vCPU that runs on this CPU.
///
/// # Errors
/// [`BadAddress`] where the guest could not read all of it.
pub fn read<T: FromBytes + IntoBytes>(domain: &Domain, address: u64) -> Result<T, BadAddress> {
    let mut value = T::new_zeroed();
    copy_from(domain, address, value.as_mut_bytes())?;
    Ok(value)
}

/// Writes a structure to a virtual address of the vCPU that runs on this CPU.
///
/// # Errors
/// [`BadAddress`] where the guest could not write all of it; a part may have been written.
pub fn write<T: IntoBytes + Immutable>(
    domain: &Domain,
    address: u64,
    value: &T,
) -> Result<(), BadAddress> {
    copy_to(domain, address, value.as_bytes())
}

/// Copies bytes between two frames of RAM that the caller holds references to, as many as the shorter
/// range has. They may overlap.
pub fn copy_between(from: HpaRange, to: HpaRange) {
    let length = from.size().min(to.size()) as usize;
    // SAFETY: RAM of domains, which the references keep so; no Rust object lies there, and domains
    // that write at the same time change what is copied and no more.
    unsafe {
        core::ptr::copy(
            from.start().get() as *const u8,
            to.start().get() as *mut u8,
            length,
        );
    }
}

/// The host's bytes behind a guest's address up to the end of the page, referenced.
struct Piece(HpaRange);

impl Piece {
    /// The bytes behind `address`, at most `length`.
    fn at(
        domain: &Domain,
        address: u64,
        length: usize,
        purpose: Purpose,
    ) -> Result<Self, BadAddress> {
        let host = translate(address, purpose)?;
        let room = PAGE_SIZE - host.offset_in_page();
        let range = HpaRange::new(host, room.min(length as u64)).ok_or(BadAddress)?;
        // Device memory, and what is not the domain's, is no buffer.
        frames::get(host.frame(), domain.id).map_err(|_| BadAddress)?;
        Ok(Self(range))
    }

    fn address(&self) -> u64 {
        self.0.start().get()
    }

    fn length(&self) -> usize {
        self.0.size() as usize
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        frames::put(self.0.start().frame());
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
