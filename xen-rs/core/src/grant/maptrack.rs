//! The mapping side: a handle for each mapping of a domain.

use xen_abi::DomId;
use xen_abi::grant_table::{self as abi, map_flags as flag};
use xen_types::{Gfn, Gpa, Mfn};

use super::alloc::vec::Vec;
use super::{Frames, GrantError, GrantTable, Pin, SharedEntries};
use crate::paging::Unreachable;

/// Handles for each frame of the toolstack's limit.
pub const HANDLES_PER_FRAME: u32 = 1024;

/// Names a mapping to the domain that has it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle(u32);

impl Handle {
    /// Its number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// What a domain asks to be mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapRequest {
    /// Whose grant; such a domain need not exist.
    pub granter: DomId,
    /// Which.
    pub reference: u32,
    /// Where.
    pub gfn: Gfn,
    /// Whether for writing too.
    pub writable: bool,
}

impl MapRequest {
    /// Checks what a guest asks for.
    ///
    /// # Errors
    /// [`GrantError::NothingToMap`], [`GrantError::UnsupportedFlags`],
    /// [`GrantError::BadAddress`].
    pub fn parse(request: &abi::MapGrantRef) -> Result<Self, GrantError> {
        let flags = request.flags & !flag::GUEST_AVAILABLE;
        if flags & (flag::HOST_MAP | flag::DEVICE_MAP) == 0 {
            return Err(GrantError::NothingToMap(flags));
        }
        if flags & !(flag::HOST_MAP | flag::READ_ONLY) != 0 {
            return Err(GrantError::UnsupportedFlags(flags));
        }
        Ok(Self {
            granter: request.dom,
            reference: request.reference,
            gfn: page_at(request.host_addr)?,
            writable: flags & flag::READ_ONLY == 0,
        })
    }
}

fn page_at(address: u64) -> Result<Gfn, GrantError> {
    match Gpa::new(address) {
        gpa if gpa.offset_in_page() == 0 => Ok(gpa.frame()),
        _ => Err(GrantError::BadAddress(address)),
    }
}

/// A use of a granted frame at a place.
#[derive(PartialEq, Eq, Debug)]
struct Mapping {
    gfn: Gfn,
    pin: Pin,
}

/// What to do to map a grant: put the pin's frame at `gfn`, as memory of another domain. Then
/// [`Maptrack::commit_map`], or [`Maptrack::cancel_map`] if that failed.
#[derive(Debug)]
#[must_use = "a map that has begun is committed or cancelled"]
pub struct MapForeign {
    handle: Handle,
    mapping: Mapping,
}

/// What to do to unmap a grant: if the pin's frame is still at `gfn`, take it away, and in any
/// case see to it that no TLB has it. Then [`Maptrack::commit_unmap`], or
/// [`Maptrack::cancel_unmap`] if that failed. One flush does for many.
#[derive(Debug)]
#[must_use = "an unmap that has begun is committed or cancelled"]
pub struct Unmap {
    handle: Handle,
    mapping: Mapping,
}

macro_rules! effect {
    ($effect:ident) => {
        impl $effect {
            /// By which the domain names it.
            pub fn handle(&self) -> Handle {
                self.handle
            }

            /// Where.
            pub fn gfn(&self) -> Gfn {
                self.mapping.gfn
            }

            /// Which frame, and how.
            pub fn pin(&self) -> &Pin {
                &self.mapping.pin
            }
        }
    };
}
effect!(MapForeign);
effect!(Unmap);

#[derive(Debug)]
enum Slot {
    /// With the next free one.
    Free(Option<u32>),
    /// A map or unmap has begun and not ended: to others there is no such mapping.
    Busy,
    Mapped(Mapping),
}

/// The mappings that a domain has of others' grants.
#[derive(Debug)]
pub struct Maptrack {
    domain: DomId,
    slots: Vec<Slot>,
    /// The first of the list of free slots.
    free: Option<u32>,
    limit: u32,
}

impl Maptrack {
    /// No mappings yet, and up to `limit` at a time.
    pub const fn new(domain: DomId, limit: u32) -> Self {
        Self {
            domain,
            slots: Vec::new(),
            free: None,
            limit,
        }
    }

    /// Begins a map; `table` is that of the request's granter, with its entries.
    ///
    /// # Errors
    /// [`GrantError::NoHandle`], [`GrantError::NoMemory`], and those of
    /// [`GrantTable::acquire`].
    pub fn begin_map(
        &mut self,
        table: &mut GrantTable,
        entries: &impl SharedEntries,
        frames: &impl Frames,
        request: MapRequest,
    ) -> Result<MapForeign, GrantError> {
        let handle = self.claim()?;
        let MapRequest {
            reference,
            gfn,
            writable,
            ..
        } = request;
        match table.acquire(entries, frames, reference, self.domain, writable) {
            Ok(pin) => Ok(MapForeign {
                handle,
                mapping: Mapping { gfn, pin },
            }),
            Err(error) => {
                self.give_back(handle);
                Err(error)
            }
        }
    }

    /// The frame is mapped: from now on the handle can be used.
    pub fn commit_map(&mut self, map: MapForeign) -> Handle {
        self.set(map.handle, Slot::Mapped(map.mapping));
        map.handle
    }

    /// The frame could not be mapped: all is as before.
    pub fn cancel_map(
        &mut self,
        table: &mut GrantTable,
        entries: &impl SharedEntries,
        frames: &impl Frames,
        map: MapForeign,
    ) {
        table.release(entries, frames, map.mapping.pin);
        self.give_back(map.handle);
    }

    /// Begins the unmap of what a guest says is mapped with this handle at this address.
    ///
    /// # Errors
    /// [`GrantError::NoMapping`], [`GrantError::NotThere`].
    pub fn begin_unmap(&mut self, handle: u32, address: u64) -> Result<Unmap, GrantError> {
        let slot = self.slots.get_mut(handle as usize);
        let slot = slot.ok_or(GrantError::NoMapping(handle))?;
        let at = match slot {
            Slot::Mapped(mapping) => mapping.gfn,
            _ => return Err(GrantError::NoMapping(handle)),
        };
        if page_at(address) != Ok(at) {
            return Err(GrantError::NotThere { handle, address });
        }
        take(slot, Handle(handle)).ok_or(GrantError::NoMapping(handle))
    }

    /// Begins the unmap of any mapping, for a domain that is destroyed; `from` is the lowest
    /// handle to look at. `None` if there is none.
    pub fn begin_unmap_any(&mut self, from: u32) -> Option<Unmap> {
        let slots = self.slots.iter_mut().enumerate().skip(from as usize);
        slots
            .filter_map(|(index, slot)| take(slot, Handle(index as u32)))
            .next()
    }

    /// The frame is unmapped and in no TLB, as `frame` proves: the use of it ends. `table` is that of
    /// the pin's granter.
    pub fn commit_unmap(
        &mut self,
        table: &mut GrantTable,
        entries: &impl SharedEntries,
        frames: &impl Frames,
        unmap: Unmap,
        frame: Unreachable<Mfn>,
    ) {
        debug_assert_eq!(*frame.held(), unmap.mapping.pin.mfn());
        table.release(entries, frames, unmap.mapping.pin);
        self.give_back(unmap.handle);
    }

    /// The frame could not be unmapped: all is as before.
    pub fn cancel_unmap(&mut self, unmap: Unmap) {
        self.set(unmap.handle, Slot::Mapped(unmap.mapping));
    }

    /// Takes a free slot, a new one if need be.
    fn claim(&mut self) -> Result<Handle, GrantError> {
        if let Some(index) = self.free
            && let Some(slot) = self.slots.get_mut(index as usize)
            && let Slot::Free(next) = *slot
        {
            self.free = next;
            *slot = Slot::Busy;
            return Ok(Handle(index));
        }
        let index = self.slots.len() as u32;
        if index >= self.limit {
            return Err(GrantError::NoHandle);
        }
        self.slots
            .try_reserve(1)
            .map_err(|_| GrantError::NoMemory)?;
        self.slots.push(Slot::Busy);
        Ok(Handle(index))
    }

    fn give_back(&mut self, handle: Handle) {
        self.set(handle, Slot::Free(self.free));
        self.free = Some(handle.0);
    }

    fn set(&mut self, handle: Handle, to: Slot) {
        if let Some(slot) = self.slots.get_mut(handle.0 as usize) {
            *slot = to;
        }
    }
}

/// Begins the unmap of what is in a slot.
fn take(slot: &mut Slot, handle: Handle) -> Option<Unmap> {
    match core::mem::replace(slot, Slot::Busy) {
        Slot::Mapped(mapping) => Some(Unmap { handle, mapping }),
        other => {
            *slot = other;
            None
        }
    }
}
