//! How much memory a domain may have, and its caches.

use xen_abi::Errno;
use xen_abi::domctl::{AddressSize, CACHE_FLUSH_PAGES, CacheFlush, MaxMem, PagingMempool};
use xen_core::paging::stage2::Attributes;
use xen_types::{Gfn, HpaRange, PAGE_SIZE};

use super::{Call, Outcome};
use crate::arch::cache;

/// Pages whose caches are cleaned in one go.
const AT_ONCE: u64 = 512;

/// Says how much RAM a domain may have.
pub fn max_mem(call: &Call<'_>) -> Outcome {
    let request: MaxMem = call.payload()?;
    let target = call.target()?;
    let pages = request.max_memkb / (PAGE_SIZE >> 10);
    let mut space = target.space.lock();
    // One that has its RAM for good has neither more nor less.
    if space.quota().fixed {
        return Err(Errno::Invalid.into());
    }
    space.set_most(pages);
    Ok(0)
}

/// Says how much memory the tables of a domain's space may take.
pub fn set_mempool(call: &Call<'_>) -> Outcome {
    let request: PagingMempool = call.payload()?;
    let target = call.other()?;
    if !request.size.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::Invalid.into());
    }
    let enough = target
        .space
        .lock()
        .set_table_limit(request.size / PAGE_SIZE);
    if enough {
        Ok(0)
    } else {
        Err(Errno::Busy.into())
    }
}

/// How much memory they may take; of the control domain, which has no limit, how much they take.
pub fn get_mempool(call: &Call<'_>) -> Outcome {
    let target = call.target()?;
    let size = target.space.lock().table_pool().wrapping_mul(PAGE_SIZE);
    call.answer(&PagingMempool { size })
}

/// A domain's instructions are of 64 bits.
pub fn set_address_size(call: &Call<'_>) -> Outcome {
    let request: AddressSize = call.payload()?;
    let target = call.target()?;
    if target.pages() > 0 {
        return Err(Errno::Invalid.into());
    }
    match request.size {
        64 => Ok(0),
        _ => Err(Errno::Invalid.into()),
    }
}

/// A domain's instructions are of 64 bits.
pub fn get_address_size(call: &Call<'_>) -> Outcome {
    call.target()?;
    call.answer(&AddressSize { size: 64 })
}

/// Writes what caches hold of a domain's RAM back, for a guest that starts with its caches off: its
/// toolstack has just filled it.
pub fn cache_flush(call: &Call<'_>) -> Outcome {
    let mut request: CacheFlush = call.payload()?;
    if request.nr_pfns > CACHE_FLUSH_PAGES {
        return Err(Errno::Invalid.into());
    }
    let target = call.target()?;
    let now = request.nr_pfns.min(AT_ONCE);
    for number in 0..now {
        let gfn = Gfn::new(request.start_pfn.wrapping_add(number));
        let space = target.space.lock();
        let ram = space
            .lookup(gfn)
            .filter(|(_, attributes)| *attributes == Attributes::Ram)
            .and_then(|(mfn, _)| HpaRange::new(mfn.address()?, PAGE_SIZE));
        if let Some(page) = ram {
            // The lock keeps the frame the domain's.
            cache::clean_and_invalidate(page);
        }
    }
    if now == request.nr_pfns {
        cache::forget_instructions();
        return Ok(0);
    }
    request.start_pfn = request.start_pfn.wrapping_add(now);
    request.nr_pfns -= now;
    call.answer(&request)?;
    Err(call.again())
}
