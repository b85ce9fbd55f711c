//! How much memory a domain has: what it is given, gives up and takes again (Linux's balloon).
//!
//! A direct-mapped domain keeps its frames: what it gives up is only unmapped, for something else to
//! be put there, and comes back in the same place. Others get frames of the machine and give them
//! back.
//!
//! RAM is zeroed once, when it is given, and behind the caches as well: a guest starts with them off.
//! Large blocks are zeroed in parts, between which the caller takes its interrupts; such a block is
//! kept with the domain until it is done.

use xen_core::p2m::{NotAdded, P2mError};
use xen_core::paging::Unreachable;
use xen_core::paging::stage2::Attributes;
use xen_types::{Gfn, HpaRange, Mfn, PAGE_SIZE};

use super::Domain;
use super::memory::before_start;
use crate::arch::cache;
use crate::memory::frames;

/// Bytes that are zeroed in one go.
const STEP: u64 = 2 << 20;

/// Why a domain does not get or lose memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReservationError {
    /// It may not have so much.
    #[error("the domain may not have more memory")]
    Quota,
    /// The machine has no such block.
    #[error("no memory")]
    NoMemory,
    /// Its guest frames do not allow it.
    #[error(transparent)]
    P2m(#[from] P2mError),
}

/// How far something is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    /// All of it.
    All,
    /// A part: it goes on when it is asked for again.
    Part,
}

/// A block that is being zeroed for a domain, claimed.
pub struct Pending {
    gfn: Gfn,
    block: Unreachable<HpaRange>,
    zeroed: u64,
}

impl Pending {
    /// Gives the block back.
    pub fn cancel(self, domain: &Domain) {
        let pages = self.block.held().size() / PAGE_SIZE;
        domain.space.lock().unclaim(pages);
        frames::free_for_domain(self.block);
    }
}

/// Takes a page of the domain's RAM away.
///
/// # Errors
/// [`ReservationError`]: it is not there to be taken.
pub fn decrease(domain: &Domain, gfn: Gfn) -> Result<(), ReservationError> {
    Ok(domain.space.lock().drop_ram(gfn)?)
}

/// Puts 2^`order` pages of RAM at a guest frame: a single page in the place of what is mapped there,
/// unless that is the domain's own.
///
/// # Errors
/// [`ReservationError`]; nothing has changed, but that a direct-mapped domain may have got pages
/// before the one that it cannot have.
pub fn populate(domain: &Domain, gfn: Gfn, order: u8) -> Result<Done, ReservationError> {
    if domain.is_direct_mapped {
        for page in 0..1 << order {
            let gfn = gfn.checked_add(page).ok_or(P2mError::OutOfRange(gfn))?;
            populate_directly(domain, gfn)?;
        }
        return Ok(Done::All);
    }
    let mut pending = continued_or_new(domain, gfn, order)?;
    let block = *pending.block.held();
    let size = block.size();
    let start = block.start().checked_add(pending.zeroed);
    let part = start.and_then(|start| HpaRange::new(start, STEP.min(size - pending.zeroed)));
    if let Some(part) = part {
        // SAFETY: the allocator has given the frames to this domain, and nothing leads to them yet.
        cache::zero_pages_to_memory(unsafe { before_start(part) });
        pending.zeroed += part.size();
    }
    if pending.zeroed < size {
        let other = domain.populating.lock().replace(pending);
        if let Some(other) = other {
            other.cancel(domain);
        }
        return Ok(Done::Part);
    }
    add(domain, pending).map(|()| Done::All)
}

/// The block that is being zeroed for this place, or a new one; another one goes.
fn continued_or_new(domain: &Domain, gfn: Gfn, order: u8) -> Result<Pending, ReservationError> {
    let size = PAGE_SIZE << order;
    let before = domain.populating.lock().take();
    match before {
        Some(pending) if pending.gfn == gfn && pending.block.held().size() == size => {
            return Ok(pending);
        }
        Some(other) => other.cancel(domain),
        None => (),
    }
    if !domain.space.lock().claim(1 << order) {
        return Err(ReservationError::Quota);
    }
    match frames::allocate_for_domain(order, None, domain.id) {
        Ok(block) => Ok(Pending {
            gfn,
            block,
            zeroed: 0,
        }),
        Err(_) => {
            domain.space.lock().unclaim(1 << order);
            Err(ReservationError::NoMemory)
        }
    }
}

/// Puts a block that is zeroed in its place.
fn add(domain: &Domain, pending: Pending) -> Result<(), ReservationError> {
    let Pending { gfn, block, zeroed } = pending;
    let added = domain.space.lock().add_ram(gfn, block);
    added.map_err(|NotAdded { error, ram }| {
        let block = ram;
        Pending { gfn, block, zeroed }.cancel(domain);
        error.into()
    })
}

fn populate_directly(domain: &Domain, gfn: Gfn) -> Result<(), P2mError> {
    let frame = Mfn::new(gfn.get());
    if frames::owner_of_ram(frame) != Some(domain.id) {
        return Err(P2mError::NotOwnRam(gfn));
    }
    domain.space.lock().put(gfn, frame, Attributes::Ram)
}
