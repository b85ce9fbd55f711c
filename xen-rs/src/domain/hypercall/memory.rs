//! `memory_op`: what lies behind a domain's guest frames.

use alloc::sync::Arc;

use xen_abi::memory::{
    AcquireResource, AddToPhysmap, AddToPhysmapBatch, GRANT_STATUS_INDEX, MapSpace, MemoryDomain,
    MemoryOp, RemoveFromPhysmap, Reservation, ReservedDeviceMemoryMap, Resource,
};
use xen_abi::{DomId, Errno};
use xen_core::grant::GrantError;
use xen_core::memory::buddy;
use xen_core::p2m::P2mError;
use xen_core::paging::MapError;
use xen_core::paging::stage2::Attributes;
use xen_types::{Gfn, Mfn};

use super::{NoValue, Outcome};
use crate::domain::memory::{read, write};
use crate::domain::reservation::{self, Done, ReservationError};
use crate::domain::run::Running;
use crate::domain::{Domain, table};
use crate::memory::frames;

/// Bits of x0 that are the operation; those above count what earlier goes have done
/// (`MEMOP_EXTENT_SHIFT`).
const OPERATION_BITS: u32 = 6;
/// Entries of a list in one go.
const AT_ONCE: u64 = 64;
/// Pages of a reservation in one go beyond its first extent.
const PAGES_AT_ONCE: u64 = 512;
/// log2 of the frames in an extent at most: for a guest, and for the control domain where it does not
/// give memory to a domain.
const MAX_ORDER: u32 = 9;
const MAX_ORDER_CONTROL: u32 = 10;
/// Where it does.
const MAX_ORDER_POPULATE: u32 = buddy::MAX_ORDER as u32;

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
        MemoryOp::DecreaseReservation => reserve(domain, &progress, MAX_ORDER, decrease),
        MemoryOp::PopulatePhysmap => reserve(domain, &progress, MAX_ORDER_POPULATE, populate),
        MemoryOp::AcquireResource => acquire(domain, &progress),
        // Nothing is shared, and no device has memory of its own.
        MemoryOp::GetSharingFreedPages | MemoryOp::GetSharingSharedPages => Ok(0),
        MemoryOp::ReservedDeviceMemoryMap => {
            let mut request: ReservedDeviceMemoryMap = read(domain, buffer)?;
            request.nr_entries = 0;
            write(domain, buffer, &request)?;
            Ok(0)
        }
        MemoryOp::CurrentReservation => {
            let request: MemoryDomain = read(domain, buffer)?;
            Ok(target(domain, request.domid)?.pages())
        }
        MemoryOp::MaximumReservation => {
            let request: MemoryDomain = read(domain, buffer)?;
            Ok(target(domain, request.domid)?.space.lock().quota().most)
        }
        MemoryOp::MaximumGpfn => {
            let request: MemoryDomain = read(domain, buffer)?;
            Ok(target(domain, request.domid)?.space.lock().highest().get())
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

/// Changes an extent of a domain.
type Change = fn(&Domain, Gfn, u8) -> Result<Done, ReservationError>;

fn populate(target: &Domain, start: Gfn, order: u8) -> Result<Done, ReservationError> {
    // One that is being destroyed gets nothing.
    if target.life.lock().is_dying() {
        return Err(P2mError::Closed(start).into());
    }
    reservation::populate(target, start, order)
}

fn decrease(target: &Domain, start: Gfn, order: u8) -> Result<Done, ReservationError> {
    for page in 0..1 << order {
        let gfn = start.checked_add(page).ok_or(P2mError::OutOfRange(start))?;
        reservation::decrease(target, gfn)?;
    }
    Ok(Done::All)
}

/// Changes the extents of a list, one after the other, until one cannot be changed. Returns how many
/// have been.
fn reserve(domain: &Domain, progress: &Progress, of_control: u32, change: Change) -> Outcome {
    let request: Reservation = read(domain, progress.buffer)?;
    let target = target(domain, request.domid)?;
    let first = progress.done;
    let largest = match domain.is_control() {
        // What it does to itself goes page by page.
        true if target.is_direct_mapped => MAX_ORDER_CONTROL,
        true => of_control.max(MAX_ORDER_CONTROL),
        false => MAX_ORDER,
    };
    // What is asked for is not done, and that is the answer.
    if request.extent_order > largest || first >= request.nr_extents {
        return Ok(first);
    }
    let pages = 1 << request.extent_order;
    let most = (PAGES_AT_ONCE / pages).clamp(1, AT_ONCE);
    let now = most.min(request.nr_extents - first);
    for extent in first..first + now {
        let at = request
            .extent_start
            .get()
            .wrapping_add(extent.wrapping_mul(8));
        let start: u64 = match read(domain, at) {
            Ok(start) => start,
            Err(_) => return Ok(extent),
        };
        match change(&target, Gfn::new(start), request.extent_order as u8) {
            Ok(Done::All) => (),
            Ok(Done::Part) => return Err(progress.again(extent)),
            Err(_) => return Ok(extent),
        }
    }
    match first + now {
        all if all == request.nr_extents => Ok(all),
        done => Err(progress.again(done)),
    }
}

/// Maps what belongs to a domain but not to its memory: frames of its grant table. Without a list it
/// says how many there can be.
fn acquire(domain: &Domain, progress: &Progress) -> Outcome {
    let mut request: AcquireResource = read(domain, progress.buffer)?;
    if request.pad != 0 {
        return Err(Errno::Invalid.into());
    }
    let id = request.domid;
    if id == DomId::SELF || id == domain.id || !domain.is_control() {
        return Err(Errno::NotPermitted.into());
    }
    let target = table::lookup(id).ok_or(Errno::NoDomain)?;
    match Resource::from_number(request.kind) {
        // Version 1 has entries only.
        Some(Resource::GrantTable) if request.id == 0 => (),
        Some(Resource::GrantTable) => return Err(Errno::Invalid.into()),
        _ => return Err(Errno::NotSupported.into()),
    }
    if request.frame_list.is_null() {
        if request.nr_frames != 0 {
            return Err(Errno::Invalid.into());
        }
        let (_, most) = target.grants.table.lock().size();
        request.nr_frames = most;
        write(domain, progress.buffer, &request)?;
        return Ok(0);
    }
    let count = u64::from(request.nr_frames);
    let first = progress.done.min(count);
    let end = count.min(first + AT_ONCE);
    for number in first..end {
        let at = request.frame_list.get().wrapping_add(number * 8);
        let gfn: u64 = read(domain, at)?;
        let index = request.frame.checked_add(number).ok_or(Errno::Invalid)?;
        map_grant_frame(domain, &target, index, Gfn::new(gfn))?;
    }
    if end < count {
        return Err(progress.again(end));
    }
    Ok(0)
}

/// Maps a frame of another domain's grant table: the mapping holds a reference to it.
fn map_grant_frame(domain: &Domain, owner: &Domain, index: u64, gfn: Gfn) -> Result<(), Errno> {
    let frame = grant_frame(owner, index)?;
    put_shared(domain, owner, gfn, frame, Attributes::Foreign)
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
            put_shared(target, target, gfn, page, Attributes::Shared)
        }
        (MapSpace::SharedInfo, _) => Err(Errno::Invalid),
        (MapSpace::GrantTable, _) => add_grant_frame(target, index, gfn),
        (MapSpace::GmfnForeign, Some(foreign)) => {
            add_foreign(domain, target, foreign, Gfn::new(index), gfn)
        }
        _ => Err(Errno::NoCall),
    }
}

fn put(target: &Domain, gfn: Gfn, mfn: Mfn, attributes: Attributes) -> Result<(), Errno> {
    target.space.lock().put(gfn, mfn, attributes).map_err(errno)
}

/// Maps a frame that `owner` shares: the mapping holds a reference to it.
fn put_shared(
    target: &Domain,
    owner: &Domain,
    gfn: Gfn,
    frame: Mfn,
    attributes: Attributes,
) -> Result<(), Errno> {
    frames::get_shared(frame, owner.id).map_err(|_| Errno::Invalid)?;
    put(target, gfn, frame, attributes).inspect_err(|_| frames::put(frame))
}

fn add_grant_frame(target: &Domain, index: u64, gfn: Gfn) -> Result<(), Errno> {
    // Version 1 has no status frames.
    if index & GRANT_STATUS_INDEX != 0 {
        return Err(Errno::Invalid);
    }
    let frame = grant_frame(target, index)?;
    put_shared(target, target, gfn, frame, Attributes::Shared)?;
    target.grants.entries.moved(index as u32, gfn);
    Ok(())
}

fn grant_frame(owner: &Domain, index: u64) -> Result<Mfn, Errno> {
    let index = u32::try_from(index).map_err(|_| Errno::Invalid)?;
    owner.grants.frame(index).map_err(|error| match error {
        GrantError::NoMemory => Errno::NoMemory,
        _ => Errno::Invalid,
    })
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
