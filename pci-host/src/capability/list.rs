//! Walking the lists.

use arrayvec::ArrayVec;
use thiserror::Error;

use crate::capability::{CapabilityId, ExtendedCapabilityId};
use crate::config::{Access, ConfigAccess, ConfigOffset, Function};

/// The first byte that a capability may have.
const FIRST: u16 = 0x40;
/// The first byte of extended capabilities.
const FIRST_EXTENDED: u16 = 0x100;
/// As many capabilities as 192 bytes can hold.
const MOST: usize = 48;
/// More extended capabilities than there are kinds of; 3,840 bytes could hold 960.
const MOST_EXTENDED: usize = 96;
/// In the status register's half of its dword: there is a list.
const HAS_LIST: u32 = 1 << 20;

/// A capability in a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<I> {
    /// What it is.
    pub id: I,
    /// Where it is; a multiple of 4.
    pub offset: ConfigOffset,
}

/// What a list holds, as far as it can be followed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct List<I, const N: usize> {
    /// The capabilities, in the list's order.
    pub entries: ArrayVec<Entry<I>, N>,
    /// Where it went wrong.
    pub fault: Option<ListFault>,
}

/// Why a list of capabilities was not followed to its end.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum ListFault {
    /// An entry points back into the list.
    #[error("the capability list comes back to {0}: what follows is ignored")]
    Loop(ConfigOffset),
    /// An entry points to where no capability can be.
    #[error("the capability list points to {0:#x}, where none can be: what follows is ignored")]
    Outside(u16),
    /// There are more than anybody has.
    #[error("the capability list has no end: what is beyond {0} entries is ignored")]
    TooLong(usize),
}

/// The capabilities of a function.
pub fn capabilities<C: ConfigAccess + ?Sized>(
    function: Function<'_, C>,
) -> List<CapabilityId, MOST> {
    walk(&mut |offset| function.read_access(Access::dword(offset)))
}

/// The extended capabilities of a function; to be asked only of one that is PCI Express.
pub fn extended_capabilities<C: ConfigAccess + ?Sized>(
    function: Function<'_, C>,
) -> List<ExtendedCapabilityId, MOST_EXTENDED> {
    walk_extended(&mut |offset| function.read_access(Access::dword(offset)))
}

pub(crate) fn walk(read: &mut dyn FnMut(ConfigOffset) -> u32) -> List<CapabilityId, MOST> {
    let mut list = List::new();
    let mut dword = |offset| ConfigOffset::new(offset).map_or(u32::MAX, &mut *read);
    // An absent function. The ids of a virtual one read as ones, too (9.3.4.1.1).
    let status = dword(4);
    if status == u32::MAX || status & HAS_LIST == 0 {
        return list;
    }
    // The two low bits are reserved and must be masked (7.5.1.1.11).
    let mut next = (dword(0x34) & 0xfc) as u16;
    while next != 0 {
        let Some(offset) = list.place(next, FIRST..FIRST_EXTENDED) else {
            break;
        };
        let header = dword(next);
        if header == u32::MAX {
            list.fault = Some(ListFault::Outside(next));
            break;
        }
        let id = CapabilityId(header as u8);
        if !list.add(Entry { id, offset }) {
            break;
        }
        next = (header >> 8 & 0xfc) as u16;
    }
    list
}

pub(crate) fn walk_extended(
    read: &mut dyn FnMut(ConfigOffset) -> u32,
) -> List<ExtendedCapabilityId, MOST_EXTENDED> {
    let mut list = List::new();
    let mut next = FIRST_EXTENDED;
    while next != 0 {
        let Some(offset) = list.place(next, FIRST_EXTENDED..4096) else {
            break;
        };
        let header = read(offset);
        // No extended config space, or an empty one (7.9.1: id and next 0 in the first).
        if header == u32::MAX || header == 0 {
            break;
        }
        let id = ExtendedCapabilityId(header as u16);
        if !list.add(Entry { id, offset }) {
            break;
        }
        next = (header >> 20 & 0xffc) as u16;
    }
    list
}

impl<I: Copy + PartialEq, const N: usize> List<I, N> {
    fn new() -> Self {
        Self {
            entries: ArrayVec::new(),
            fault: None,
        }
    }

    /// The first capability of that kind.
    pub fn find(&self, id: I) -> Option<ConfigOffset> {
        let entry = self.entries.iter().find(|entry| entry.id == id)?;
        Some(entry.offset)
    }

    /// `next` as a place where a capability may be and none was yet; notes the fault if it is not.
    fn place(&mut self, next: u16, bounds: core::ops::Range<u16>) -> Option<ConfigOffset> {
        let place = ConfigOffset::new(next).filter(|_| bounds.contains(&next));
        let Some(place) = place else {
            self.fault = Some(ListFault::Outside(next));
            return None;
        };
        if self.entries.iter().any(|entry| entry.offset == place) {
            self.fault = Some(ListFault::Loop(place));
            return None;
        }
        Some(place)
    }

    /// Adds an entry; false, with the fault noted, where there are too many.
    fn add(&mut self, entry: Entry<I>) -> bool {
        let added = self.entries.try_push(entry).is_ok();
        if !added {
            self.fault = Some(ListFault::TooLong(N));
        }
        added
    }
}
