//! How much memory a domain has: pages that it gives up and takes again (Linux's balloon).
//!
//! A direct-mapped domain keeps its frames: what it gives up is only unmapped, for something else to
//! be put there, and comes back in the same place. Others give frames back to the machine.

use xen_core::p2m::P2mError;
use xen_core::paging::stage2::Attributes;
use xen_types::{Gfn, Mfn, PAGE_SIZE};

use super::Domain;
use super::memory::before_start;
use crate::arch::cache;
use crate::memory::frames;

/// Takes a page of the domain's RAM away.
///
/// # Errors
/// [`P2mError`]: it is not there to be taken.
pub fn decrease(domain: &Domain, gfn: Gfn) -> Result<(), P2mError> {
    let frame = domain.space.lock().take_ram(gfn)?;
    if !domain.is_direct_mapped {
        frames::give_up(frame, domain.id);
    }
    Ok(())
}

/// Puts RAM at a guest frame, and in the place of what is mapped there, unless that is the domain's
/// own.
///
/// # Errors
/// [`P2mError`]; nothing has changed.
pub fn populate(domain: &Domain, gfn: Gfn) -> Result<(), P2mError> {
    let mut space = domain.space.lock();
    if domain.is_direct_mapped {
        let frame = Mfn::new(gfn.get());
        if frames::owner_of_ram(frame) != Some(domain.id) {
            return Err(P2mError::NotOwnRam(gfn));
        }
        return space.put(gfn, frame, Attributes::Ram);
    }
    if let Some((_, Attributes::Ram | Attributes::ReadOnlyRam)) = space.lookup(gfn) {
        return Err(P2mError::NotOwnRam(gfn));
    }
    let page = frames::allocate_for_domain(0, None, domain.id);
    let page = page.map_err(|_| P2mError::NotOwnRam(gfn))?;
    debug_assert_eq!(page.size(), PAGE_SIZE);
    // SAFETY: the allocator has just given the frame to this domain, and nothing leads to it yet.
    cache::zero_pages(unsafe { before_start(page) });
    let frame = page.start().frame();
    space
        .put(gfn, frame, Attributes::Ram)
        .inspect_err(|_| frames::give_up_unmapped(frame, domain.id))
}
