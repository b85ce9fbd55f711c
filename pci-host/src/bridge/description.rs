//! A host bridge as the device tree or ACPI describes it.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use platform_dt::{MappedId, PciInterrupts, RequesterMap};
use xen_types::{Hpa, HpaRange, Interrupt};

use crate::{Pin, RequesterId};

/// Bus numbers, at least one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BusRange {
    first: u8,
    last: u8,
}

/// What kind of addresses a window has.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Space {
    /// I/O ports.
    Io,
    /// Memory.
    Memory {
        /// Reading has no side effects.
        prefetchable: bool,
    },
}

/// A range of addresses that the bridge forwards to its bus.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Window {
    /// What the addresses are on the bus.
    pub space: Space,
    /// The first address on the bus.
    pub bus_address: u64,
    /// Where the processor has them; I/O ports, too, are memory for it.
    pub host: HpaRange,
}

/// A host bridge, before it is driven.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Description {
    /// For people: the path of its node.
    pub name: String,
    /// What kind it is, the most specific word first.
    pub compatible: Vec<String>,
    /// Its registers or config space.
    pub registers: Vec<HpaRange>,
    /// The segment (`linux,pci-domain`).
    pub segment: u16,
    /// Its buses.
    pub buses: BusRange,
    /// What it forwards downstream.
    pub windows: Vec<Window>,
    /// Who knows its functions, and as what.
    pub routes: Routes,
}

/// How what functions do is seen on the other side of a host bridge.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Routes {
    /// How IOMMUs know the source of DMA; `None` where there are none.
    pub iommu: Option<RequesterMap>,
    /// How MSI controllers know the source of a message.
    pub msi: Option<RequesterMap>,
    /// The controller of all messages, where there is no map.
    pub msi_parent: Option<u32>,
    /// Where the interrupt pins of the root bus lead.
    pub interrupts: Option<PciInterrupts>,
    /// Whether DMA sees the CPUs' caches.
    pub coherent: bool,
}

impl BusRange {
    /// All that a segment can have.
    pub const ALL: Self = Self {
        first: 0,
        last: u8::MAX,
    };

    /// From `first` to `last`; `None` if that is nothing.
    pub const fn new(first: u8, last: u8) -> Option<Self> {
        if first <= last {
            Some(Self { first, last })
        } else {
            None
        }
    }

    /// The root bus.
    pub const fn first(self) -> u8 {
        self.first
    }

    /// The last bus.
    pub const fn last(self) -> u8 {
        self.last
    }

    /// How many, 1 to 256.
    pub const fn count(self) -> u16 {
        self.last as u16 - self.first as u16 + 1
    }

    /// Whether `bus` is one of them.
    pub const fn contains(self, bus: u8) -> bool {
        self.first <= bus && bus <= self.last
    }

    /// Whether both have a bus in common.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The first `count` of them; `None` for none.
    pub fn truncated(self, count: u64) -> Option<Self> {
        let last = u64::from(self.first).checked_add(count)?.checked_sub(1)?;
        let last = last.min(self.last.into());
        Self::new(self.first, u8::try_from(last).ok()?)
    }
}

impl Window {
    /// The last address on the bus; `None` for a window that leaves 64 bits.
    pub fn last_bus_address(self) -> Option<u64> {
        self.bus_address.checked_add(self.host.size() - 1)
    }

    /// Where the processor has `size` bytes at `address` of the bus; `None` if not all of them are in
    /// the window.
    pub fn to_host(self, address: u64, size: u64) -> Option<HpaRange> {
        let offset = address.checked_sub(self.bus_address)?;
        let start = self.host.start().get().checked_add(offset)?;
        let range = HpaRange::new(Hpa::new(start), size)?;
        self.host.contains_range(range).then_some(range)
    }
}

impl Description {
    /// Where the processor has `size` bytes of I/O or memory at `address` of the bus; `None` where no
    /// window forwards all of them.
    pub fn to_host(&self, io: bool, address: u64, size: u64) -> Option<HpaRange> {
        let windows = self.windows.iter();
        let mut windows = windows.filter(|window| (window.space == Space::Io) == io);
        windows.find_map(|window| window.to_host(address, size))
    }
}

impl Routes {
    /// The IOMMU of a requester, and its stream ID there.
    pub fn stream(&self, requester: RequesterId) -> Option<MappedId> {
        self.iommu.as_ref()?.find(requester.bits())
    }

    /// The MSI controller of a requester, and its device ID there: the requester id itself where
    /// nothing maps it.
    pub fn message_source(&self, requester: RequesterId) -> Option<MappedId> {
        let unmapped = |controller| MappedId {
            controller,
            id: requester.bits().into(),
        };
        match &self.msi {
            Some(map) => map.find(requester.bits()),
            None => self.msi_parent.map(unmapped),
        }
    }

    /// The interrupt of a pin of a function on the root bus.
    pub fn interrupt(&self, function: RequesterId, pin: Pin) -> Option<Interrupt> {
        let interrupts = self.interrupts.as_ref()?;
        interrupts.find(function.bits(), pin.number())
    }
}

impl fmt::Display for BusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}-{:02x}", self.first, self.last)
    }
}

impl fmt::Debug for BusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
