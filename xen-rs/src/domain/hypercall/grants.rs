//! `grant_table_op`: arrays of operations on grants, each with a status of its own.

use alloc::sync::Arc;

use xen_abi::grant_table::{
    CacheFlush, GetVersion, GrantCopy, GrantStatus, GrantTableOp, MapGrantRef, QuerySize,
    SetVersion, SetupTable, UnmapGrantRef, cache_op,
};
use xen_abi::{DomId, Errno};
use xen_core::grant::{
    CopyEnd, CopyRequest, GrantError, Handle, MapRequest, Pin, SharedEntries as _, set_version,
};
use xen_core::paging::stage2::Attributes;
use xen_types::{Gfn, Hpa, HpaRange, Mfn, PAGE_SIZE};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{NoValue, Outcome};
use crate::arch::cache;
use crate::domain::grants::Memory;
use crate::domain::memory::{self, read, write};
use crate::domain::run::Running;
use crate::domain::{Domain, table, teardown};
use crate::memory::frames;

/// Operations in one go.
const AT_ONCE: u64 = 32;

/// `grant_table_op`: `count` operations of one kind at `list`.
pub fn grant_table_op(running: &Running<'_>, operation: u64, list: u64, count: u64) -> Outcome {
    let kind = GrantTableOp::from_number(operation).ok_or(Errno::NoCall)?;
    // The count is a C int, and not negative.
    let count = u64::from(count as u32);
    if count > i32::MAX as u64 {
        return Err(Errno::Invalid.into());
    }
    let domain = running.domain;
    let batch = Batch {
        domain,
        operation,
        list,
        count,
    };
    match kind {
        GrantTableOp::MapGrantRef => batch.each(|request| {
            map(domain, request);
            Ok(())
        }),
        GrantTableOp::UnmapGrantRef => batch.each(|request| {
            unmap(domain, request);
            Ok(())
        }),
        GrantTableOp::Copy => batch.each(|request| {
            copy(domain, request);
            Ok(())
        }),
        GrantTableOp::CacheFlush => batch.each(|request| flush(domain, request)),
        GrantTableOp::SetupTable => single(domain, list, count, setup_table),
        GrantTableOp::QuerySize => single(domain, list, count, query_size),
        GrantTableOp::GetVersion => single(domain, list, count, get_version),
        // This one has no count.
        GrantTableOp::SetVersion => {
            let request: SetVersion = read(domain, list)?;
            set_version(request.version)?;
            write(domain, list, &request)?;
            Ok(0)
        }
        GrantTableOp::DumpTable
        | GrantTableOp::Transfer
        | GrantTableOp::UnmapAndReplace
        | GrantTableOp::GetStatusFrames
        | GrantTableOp::SwapGrantRef => Err(Errno::NoCall.into()),
    }
}

/// The operations of one call.
struct Batch<'a> {
    domain: &'a Domain,
    operation: u64,
    list: u64,
    count: u64,
}

impl Batch<'_> {
    /// Carries out so many as one go may have; the guest calls again for the rest.
    fn each<T: FromBytes + IntoBytes + Immutable>(
        &self,
        act: impl Fn(&mut T) -> Result<(), Errno>,
    ) -> Outcome {
        let size = size_of::<T>() as u64;
        let now = self.count.min(AT_ONCE);
        for number in 0..now {
            let at = self.list.wrapping_add(number * size);
            let mut request: T = read(self.domain, at)?;
            act(&mut request)?;
            write(self.domain, at, &request)?;
        }
        if now == self.count {
            return Ok(0);
        }
        let rest = self.list.wrapping_add(now * size);
        Err(NoValue::Again([self.operation, rest, self.count - now]))
    }
}

/// Carries out an operation of which there is one in a call.
fn single<T: FromBytes + IntoBytes + Immutable>(
    domain: &Domain,
    at: u64,
    count: u64,
    act: impl Fn(&Domain, &mut T) -> Result<(), Errno>,
) -> Outcome {
    if count != 1 {
        return Err(Errno::Invalid.into());
    }
    let mut request: T = read(domain, at)?;
    act(domain, &mut request)?;
    write(domain, at, &request)?;
    Ok(0)
}

/// The domain of an id that a guest passes.
fn named(domain: &Domain, id: DomId) -> Option<Arc<Domain>> {
    let id = if id == DomId::SELF { domain.id } else { id };
    table::lookup(id)
}

/// The domain of an id, if the caller may ask about it: itself, or any if it is the control domain.
fn about(domain: &Domain, id: DomId) -> Result<Arc<Domain>, GrantStatus> {
    let found = named(domain, id).ok_or(GrantStatus::BadDomain)?;
    if found.id == domain.id || domain.is_control() {
        Ok(found)
    } else {
        Err(GrantStatus::PermissionDenied)
    }
}

fn map(domain: &Domain, request: &mut MapGrantRef) {
    let status = match try_map(domain, request) {
        Ok((handle, mfn)) => {
            request.handle = handle.get();
            request.dev_bus_addr = mfn.address().map_or(0, Hpa::get);
            GrantStatus::Okay
        }
        Err(status) => status,
    };
    request.status = status.number();
}

fn try_map(domain: &Domain, request: &MapGrantRef) -> Result<(Handle, Mfn), GrantStatus> {
    let request = MapRequest::parse(request).map_err(GrantError::status)?;
    let granter = named(domain, request.granter).ok_or(GrantStatus::BadDomain)?;
    let entries = &granter.grants.entries;
    let mut maptrack = domain.grants.maptrack.lock();
    let map = {
        let mut table = granter.grants.table.lock();
        maptrack
            .begin_map(&mut table, entries, &Memory, request)
            .map_err(GrantError::status)?
    };
    drop(maptrack);
    let mfn = map.pin().mfn();
    let attributes = if map.pin().is_writable() {
        Attributes::Granted
    } else {
        Attributes::ReadOnlyGranted
    };
    let put = domain.space.lock().put(map.gfn(), mfn, attributes);
    let mut maptrack = domain.grants.maptrack.lock();
    match put {
        Ok(()) => Ok((maptrack.commit_map(map), mfn)),
        Err(_) => {
            let mut table = granter.grants.table.lock();
            maptrack.cancel_map(&mut table, entries, &Memory, map);
            drop(table);
            drop(maptrack);
            teardown::reap(&granter);
            Err(GrantStatus::GeneralError)
        }
    }
}

fn unmap(domain: &Domain, request: &mut UnmapGrantRef) {
    let status = match try_unmap(domain, request) {
        Ok(()) => GrantStatus::Okay,
        Err(status) => status,
    };
    request.status = status.number();
}

fn try_unmap(domain: &Domain, request: &UnmapGrantRef) -> Result<(), GrantStatus> {
    let begun = domain
        .grants
        .maptrack
        .lock()
        .begin_unmap(request.handle, request.host_addr);
    let unmap = begun.map_err(GrantError::status)?;
    let granter = table::lookup(unmap.pin().granter()).ok_or(GrantStatus::BadDomain)?;
    let removed = domain
        .space
        .lock()
        .remove_granted(unmap.gfn(), unmap.pin().mfn());
    let mut maptrack = domain.grants.maptrack.lock();
    let Ok(frame) = removed else {
        maptrack.cancel_unmap(unmap);
        return Err(GrantStatus::GeneralError);
    };
    let mut table = granter.grants.table.lock();
    maptrack.commit_unmap(&mut table, &granter.grants.entries, &Memory, unmap, frame);
    drop(table);
    drop(maptrack);
    teardown::reap(&granter);
    Ok(())
}

fn copy(domain: &Domain, request: &mut GrantCopy) {
    let status = match try_copy(domain, request) {
        Ok(()) => GrantStatus::Okay,
        Err(status) => status,
    };
    request.status = status.number();
}

fn try_copy(domain: &Domain, request: &GrantCopy) -> Result<(), GrantStatus> {
    let request = CopyRequest::parse(request).map_err(GrantError::status)?;
    let source = Taken::new(domain, request.source, false)?;
    let dest = Taken::new(domain, request.dest, true)?;
    let from = source.bytes(request.source_offset, request.len);
    let to = dest.bytes(request.dest_offset, request.len);
    if let (Some(from), Some(to)) = (from, to) {
        memory::copy_between(from, to);
    }
    Ok(())
}

/// A frame in use for a copy.
enum Taken {
    Granted(Arc<Domain>, Option<Pin>),
    Own(Mfn),
}

impl Taken {
    fn new(domain: &Domain, end: CopyEnd, writable: bool) -> Result<Self, GrantStatus> {
        match end {
            CopyEnd::Granted { granter, reference } => {
                let granter = named(domain, granter).ok_or(GrantStatus::BadDomain)?;
                let entries = &granter.grants.entries;
                let pin = {
                    let mut table = granter.grants.table.lock();
                    table.acquire(entries, &Memory, reference, domain.id, writable)
                };
                let pin = pin.map_err(GrantError::status)?;
                Ok(Self::Granted(granter, Some(pin)))
            }
            CopyEnd::Own(gfn) => {
                let frame = domain.space.lock().reference_ram(gfn, writable);
                frame.map(Self::Own).map_err(|_| GrantStatus::BadPage)
            }
        }
    }

    /// Bytes of the frame; `None` if they are none.
    fn bytes(&self, offset: u16, length: u16) -> Option<HpaRange> {
        let mfn = match self {
            Self::Granted(_, pin) => pin.as_ref()?.mfn(),
            Self::Own(mfn) => *mfn,
        };
        let start = mfn.address()?.checked_add(offset.into())?;
        HpaRange::new(start, length.into())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        match self {
            Self::Granted(granter, pin) => {
                if let Some(pin) = pin.take() {
                    let mut table = granter.grants.table.lock();
                    table.release(&granter.grants.entries, &Memory, pin);
                    drop(table);
                    teardown::reap(granter);
                }
            }
            Self::Own(mfn) => frames::put(*mfn),
        }
    }
}

/// Cleans and invalidates what caches hold of memory that a device without coherence uses. Whoever
/// asks, nothing is lost by it: lines are written back before they go.
fn flush(domain: &Domain, request: &mut CacheFlush) -> Result<(), Errno> {
    let end = u64::from(request.offset) + u64::from(request.length);
    let known = cache_op::CLEAN | cache_op::INVALIDATE | cache_op::SOURCE_GREF;
    if end > PAGE_SIZE || request.op & !known != 0 {
        return Err(Errno::Invalid);
    }
    if request.length == 0 || request.op & !cache_op::SOURCE_GREF == 0 {
        return Ok(());
    }
    let taken = if request.op & cache_op::SOURCE_GREF != 0 {
        // The reference is one of the caller's own table.
        let reference = request.address_or_reference as u32;
        let gfn = domain.grants.entries.frame(reference);
        let frame = domain
            .space
            .lock()
            .reference_ram(Gfn::new(gfn.into()), false);
        Taken::Own(frame.map_err(|_| Errno::NotPermitted)?)
    } else {
        let mfn = Hpa::new(request.address_or_reference).frame();
        let owner = frames::owner_of_ram(mfn).ok_or(Errno::NotPermitted)?;
        frames::get(mfn, owner).map_err(|_| Errno::NotPermitted)?;
        Taken::Own(mfn)
    };
    if let Some(bytes) = taken.bytes(request.offset, request.length) {
        cache::clean_and_invalidate(bytes);
    }
    Ok(())
}

fn setup_table(domain: &Domain, request: &mut SetupTable) -> Result<(), Errno> {
    let status = match about(domain, request.dom) {
        Err(status) => status,
        Ok(owner) if request.nr_frames > 0 => match owner.grants.frame(request.nr_frames - 1) {
            Err(error) => error.status(),
            Ok(_) => {
                write_frame_list(domain, &owner, request)?;
                GrantStatus::Okay
            }
        },
        Ok(_) => GrantStatus::Okay,
    };
    request.status = status.number();
    Ok(())
}

/// Guest frames of a table, all ones where the domain has put none.
fn write_frame_list(domain: &Domain, owner: &Domain, request: &SetupTable) -> Result<(), Errno> {
    for index in 0..request.nr_frames {
        let gfn = owner.grants.entries.guest_frame(index);
        let number = gfn.map_or(u64::MAX, |gfn| gfn.get());
        let at = request.frame_list.get();
        write(domain, at.wrapping_add(u64::from(index) * 8), &number)?;
    }
    Ok(())
}

fn query_size(domain: &Domain, request: &mut QuerySize) -> Result<(), Errno> {
    let status = match about(domain, request.dom) {
        Ok(owner) => {
            (request.nr_frames, request.max_nr_frames) = owner.grants.table.lock().size();
            GrantStatus::Okay
        }
        Err(status) => status,
    };
    request.status = status.number();
    Ok(())
}

fn get_version(domain: &Domain, request: &mut GetVersion) -> Result<(), Errno> {
    about(domain, request.dom).map_err(|status| match status {
        GrantStatus::BadDomain => Errno::NoDomain,
        _ => Errno::NotPermitted,
    })?;
    request.version = 1;
    Ok(())
}
