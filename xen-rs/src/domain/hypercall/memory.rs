//! `memory_op`: what lies behind a domain's guest frames.

use alloc::sync::Arc;

use xen_abi::memory::{
    AddToPhysmap, AddToPhysmapBatch, GRANT_STATUS_INDEX, MapSpace, MemoryDomain, MemoryOp,
    RemoveFromPhysmap, Reservation,
};
use xen_abi::{DomId, Errno};
use xen_core::p2m::P2mError;
use xen_core::paging::MapError;
use xen_core::paging::stage2::Attributes;
use xen_types::{Gfn, PAGE_SIZE};

use super::{NoValue, Outcome};
use crate::domain::memory::{read, write};
use crate::domain::run::Running;
use crate::domain::{Domain, reservation, table};
use crate::memory::frames;

/// Bits of x0 that are the operation; those above count what earlier goes have done
/// (`MEMOP_EXTENT_SHIFT`).
const OPERATION_BITS: u32 = 6;
/// Entries of a list, and pages of a reservation beyond its first extent, in one go.
const AT_ONCE: u64 = 64;
/// log2 of the frames in an extent at most, for a guest and for the control domain.
const MAX_ORDER: u32 = 9;
const MAX_ORDER_CONTROL: u32 = 10;

/// `memory_op`.
pub fn memory_op(running: &Running<'_>, operation: u64, buffer: u64) -> Outcome {
    let domain = running.domain;
    let done = operation >> OPERATION_BITS;
    let number = operation & ((1 << OPERATION_BITS) - 1);
    let kind = MemoryOp::from_number(number).ok_or(Errno::NoCall)?;
    let progress = Progress {
        number,
        buffer,
        done,
    };
    match kind {
        MemoryOp::DecreaseReservation => reserve(domain, &progress, reservation::decrease),
        MemoryOp::PopulatePhysmap => reserve(domain, &progress, reservation::populate),
        MemoryOp::CurrentReservation => {
            let request: MemoryDomain = read(domain, buffer)?;
            Ok(target(domain, request.domid)?.pages())
        }
        MemoryOp::MaximumReservation => {
            let request: MemoryDomain = read(domain, buffer)?;
            Ok(target(domain, request.domid)?.pages())
        }
        MemoryOp::MaximumGpfn => {
            let request: MemoryDomain = read(domain, buffer)?;
            let banks = &target(domain, request.domid)?.ram;
            let end = banks.iter().map(|bank| bank.end().get()).max();
            Ok(end.unwrap_or(0) / PAGE_SIZE)
        }
        MemoryOp::AddToPhysmap => {
            let request: AddToPhysmap = read(domain, buffer)?;
            let space = MapSpace::from_number(request.space).ok_or(Errno::NoCall)?;
            // A foreign frame has no owner here.
            if space == MapSpace::GmfnForeign {
                return Err(Errno::NoCall.into());
            }
            let target = target(domain, request.domid)?;
            let gfn = Gfn::new(request.gpfn);
            add(domain, &target, space, None, request.idx, gfn)?;
            Ok(0)
        }
        MemoryOp::AddToPhysmapBatch => add_batch(domain, &progress),
        MemoryOp::RemoveFromPhysmap => {
            let request: RemoveFromPhysmap = read(domain, buffer)?;
            let target = target(domain, request.domid)?;
            let removed = target.space.lock().remove(Gfn::new(request.gpfn));
            removed.map_err(errno)?;
            Ok(0)
        }
        _ => Err(Errno::NoCall.into()),
    }
}

/// What earlier goes of a call have done.
struct Progress {
    number: u64,
    buffer: u64,
    done: u64,
}

impl Progress {
    /// The guest calls again when `done` is done in all.
    fn again(&self, done: u64) -> NoValue {
        let operation = self.number | done << OPERATION_BITS;
        NoValue::Again([operation, self.buffer, 0])
    }
}

/// The domain that a caller may change: itself, or any if it is the control domain.
fn target(domain: &Domain, id: DomId) -> Result<Arc<Domain>, Errno> {
    let id = if id == DomId::SELF { domain.id } else { id };
    if id != domain.id && !domain.is_control() {
        return Err(Errno::NotPermitted);
    }
    table::lookup(id).ok_or(Errno::NoDomain)
}

fn errno(error: P2mError) -> Errno {
    match error {
        P2mError::Nothing(_) => Errno::NoEntry,
        P2mError::Map(MapError::OutOfTables(_)) => Errno::NoMemory,
        _ => Errno::Invalid,
    }
}

/// Changes the extents of a list, one after the other, until one cannot be changed. Returns how many
/// have been.
fn reserve(
    domain: &Domain,
    progress: &Progress,
    change: fn(&Domain, Gfn) -> Result<(), P2mError>,
) -> Outcome {
    let request: Reservation = read(domain, progress.buffer)?;
    let target = target(domain, request.domid)?;
    let first = progress.done;
    let largest = if domain.is_control() {
        MAX_ORDER_CONTROL
    } else {
        MAX_ORDER
    };
    // What is asked for is not done, and that is the answer.
    if request.extent_order > largest || first >= request.nr_extents {
        return Ok(first);
    }
    let pages = 1 << request.extent_order;
    let now = (AT_ONCE / pages).max(1).min(request.nr_extents - first);
    for extent in first..first + now {
        let at = request
            .extent_start
            .get()
            .wrapping_add(extent.wrapping_mul(8));
        let start: u64 = match read(domain, at) {
            Ok(start) => start,
            Err(_) => return Ok(extent),
        };
        for page in 0..pages {
            if change(&target, Gfn::new(start.wrapping_add(page))).is_err() {
                return Ok(extent);
            }
        }
    }
    match first + now {
        all if all == request.nr_extents => Ok(all),
        done => Err(progress.again(done)),
    }
}

fn add_batch(domain: &Domain, progress: &Progress) -> Outcome {
    let request: AddToPhysmapBatch = read(domain, progress.buffer)?;
    let space = MapSpace::from_number(request.space.into()).ok_or(Errno::NoCall)?;
    if space == MapSpace::GmfnRange {
        return Err(Errno::NotSupported.into());
    }
    let target = target(domain, request.domid)?;
    let foreign = match space {
        MapSpace::GmfnForeign => Some(foreign_domain(domain, &target, request.foreign_domid)?),
        _ => None,
    };
    let size = u64::from(request.size);
    let first = progress.done.min(size);
    let end = size.min(first + AT_ONCE);
    for number in first..end {
        let item =
            |list: xen_abi::GuestHandle, bytes| list.get().wrapping_add(number.wrapping_mul(bytes));
        let index: u64 = read(domain, item(request.idxs, 8))?;
        let gfn: u64 = read(domain, item(request.gpfns, 8))?;
        let added = add(
            domain,
            &target,
            space,
            foreign.as_deref(),
            index,
            Gfn::new(gfn),
        );
        let error = added.map_or_else(|error| error.to_return_value() as i32, |()| 0);
        write(domain, item(request.errs, 4), &error)?;
    }
    if end < size {
        return Err(progress.again(end));
    }
    Ok(0)
}

/// The domain whose memory is mapped: another one, and the caller controls it.
fn foreign_domain(domain: &Domain, target: &Domain, id: DomId) -> Result<Arc<Domain>, Errno> {
    if id == DomId::SELF || id == target.id || !domain.is_control() {
        return Err(Errno::NotPermitted);
    }
    table::lookup(id).ok_or(Errno::NoDomain)
}

/// Puts what `index` names in a space at a guest frame.
fn add(
    domain: &Domain,
    target: &Domain,
    space: MapSpace,
    foreign: Option<&Domain>,
    index: u64,
    gfn: Gfn,
) -> Result<(), Errno> {
    match (space, foreign) {
        (MapSpace::SharedInfo, _) if index == 0 => {
            let page = target.shared_page.start().frame();
            put(target, gfn, page, Attributes::Shared)
        }
        (MapSpace::SharedInfo, _) => Err(Errno::Invalid),
        (MapSpace::GrantTable, _) => add_grant_frame(target, index, gfn),
        (MapSpace::GmfnForeign, Some(foreign)) => {
            add_foreign(domain, target, foreign, Gfn::new(index), gfn)
        }
        _ => Err(Errno::NoCall),
    }
}

fn put(
    target: &Domain,
    gfn: Gfn,
    mfn: xen_types::Mfn,
    attributes: Attributes,
) -> Result<(), Errno> {
    target.space.lock().put(gfn, mfn, attributes).map_err(errno)
}

fn add_grant_frame(target: &Domain, index: u64, gfn: Gfn) -> Result<(), Errno> {
    // Version 1 has no status frames.
    if index & GRANT_STATUS_INDEX != 0 {
        return Err(Errno::Invalid);
    }
    let index = u32::try_from(index).map_err(|_| Errno::Invalid)?;
    let frame = target.grants.frame(index).map_err(|error| match error {
        xen_core::grant::GrantError::NoMemory => Errno::NoMemory,
        _ => Errno::Invalid,
    })?;
    put(target, gfn, frame, Attributes::Shared)?;
    target.grants.entries.moved(index, gfn);
    Ok(())
}

/// Maps a frame of another domain: the mapping holds a reference to it.
fn add_foreign(
    domain: &Domain,
    target: &Domain,
    foreign: &Domain,
    from: Gfn,
    gfn: Gfn,
) -> Result<(), Errno> {
    debug_assert!(domain.is_control());
    let (mfn, attributes) = {
        let space = foreign.space.lock();
        match space.reference_ram(from, true) {
            Ok(mfn) => (mfn, Attributes::Foreign),
            Err(_) => {
                let mfn = space.reference_ram(from, false);
                (
                    mfn.map_err(|_| Errno::Invalid)?,
                    Attributes::ReadOnlyForeign,
                )
            }
        }
    };
    put(target, gfn, mfn, attributes).inspect_err(|_| frames::put(mfn))
}
