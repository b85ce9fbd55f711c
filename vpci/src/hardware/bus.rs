//! The functions that the hardware domain has, found by their names in one step.

use alloc::boxed::Box;
use alloc::vec::Vec;

use pci_host::config::ConfigAccess;
use pci_host::{HostSbdf, RequesterId};

use super::{HardwareFunction, Locate};
use crate::access::GuestAccess;
use crate::effect::Effect;

/// Functions on a bus, and buses of a segment.
const COUNT: usize = 256;

/// All functions of the hardware domain. What it does not have is absent: it reads as all ones.
#[derive(Debug, Default)]
pub struct HardwarePci {
    /// In order, few.
    segments: Vec<(u16, Segment)>,
}

type Slot = Option<Box<HardwareFunction>>;
type Bus = Box<[Slot]>;
type Segment = Box<[Option<Bus>]>;

/// What stands in the place of a function 0 that the domain does not have: ids of Xen's vendor that no
/// driver knows, the class that fits nothing, and more functions.
const PLACEHOLDER: [(u16, u32); 3] = [
    (0x00, 0xfff0_5853),
    (0x08, 0xff00_0000),
    (0x0c, 0x0080_0000),
];

fn placeholder(access: GuestAccess) -> u64 {
    access.lanes().fold(0, |sum, placed| {
        let offset = placed.lane.dword() * 4;
        let known = PLACEHOLDER.iter().find(|(at, _)| *at == offset);
        sum | placed.to_access(known.map_or(0, |(_, value)| *value))
    })
}

fn empty<T>() -> Box<[Option<T>]> {
    core::iter::repeat_with(|| None).take(COUNT).collect()
}

impl HardwarePci {
    /// Adds a function, in the place of the one that is there, if there is.
    pub fn add(&mut self, function: HardwareFunction) {
        let sbdf = function.sbdf();
        let found = self
            .segments
            .binary_search_by_key(&sbdf.segment(), |(number, _)| *number);
        let place = match found {
            Ok(place) => place,
            Err(place) => {
                self.segments.insert(place, (sbdf.segment(), empty()));
                place
            }
        };
        let segment = self.segments.get_mut(place).map(|(_, segment)| segment);
        let bus = segment.and_then(|segment| segment.get_mut(usize::from(sbdf.bus())));
        let bus = bus.map(|bus| bus.get_or_insert_with(empty));
        let devfn = usize::from(sbdf.requester().devfn());
        if let Some(slot) = bus.and_then(|bus| bus.get_mut(devfn)) {
            *slot = Some(Box::new(function));
        }
    }

    /// Removes a function; `None` where there is none.
    pub fn remove(&mut self, sbdf: HostSbdf) -> Option<HardwareFunction> {
        self.slot_mut(sbdf)?.take().map(|function| *function)
    }

    /// All functions, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = &HardwareFunction> {
        let segments = self.segments.iter().map(|(_, segment)| segment);
        let buses = segments.flat_map(|segment| segment.iter().flatten());
        buses.flat_map(|bus| bus.iter().flatten().map(Box::as_ref))
    }

    /// A function; `None` where there is none.
    pub fn get(&self, sbdf: HostSbdf) -> Option<&HardwareFunction> {
        let place = self
            .segments
            .binary_search_by_key(&sbdf.segment(), |(number, _)| *number);
        let (_, segment) = self.segments.get(place.ok()?)?;
        let bus = segment.get(usize::from(sbdf.bus()))?.as_ref()?;
        bus.get(usize::from(sbdf.requester().devfn()))?.as_deref()
    }

    /// A function; `None` where there is none.
    pub fn get_mut(&mut self, sbdf: HostSbdf) -> Option<&mut HardwareFunction> {
        self.slot_mut(sbdf)?.as_deref_mut()
    }

    fn slot_mut(&mut self, sbdf: HostSbdf) -> Option<&mut Slot> {
        let place = self
            .segments
            .binary_search_by_key(&sbdf.segment(), |(number, _)| *number);
        let (_, segment) = self.segments.get_mut(place.ok()?)?;
        let bus = segment.get_mut(usize::from(sbdf.bus()))?.as_mut()?;
        bus.get_mut(usize::from(sbdf.requester().devfn()))
    }

    /// Reads config space.
    pub fn read<C: ConfigAccess + ?Sized>(
        &self,
        config: &C,
        sbdf: HostSbdf,
        access: GuestAccess,
    ) -> u64 {
        match self.get(sbdf) {
            Some(function) => function.read(config, access),
            None if self.stands_for_others(sbdf) => placeholder(access),
            None => access.ones(),
        }
    }

    /// Whether it is function 0 of a device of which the domain has other functions: without function
    /// 0 it would not look for them (PCI Local Bus 3.0, 3.2.2.3.4). Something stands in its place, if
    /// the domain does not have it.
    pub fn stands_for_others(&self, sbdf: HostSbdf) -> bool {
        let requester = sbdf.requester();
        let other = |number| RequesterId::new(requester.bus(), requester.device(), number);
        let mut others = (1..8).filter_map(other);
        requester.function() == 0 && others.any(|other| self.get(sbdf.neighbour(other)).is_some())
    }

    /// Writes config space. The domain goes on when [`HardwarePci::next_effect`] has nothing more.
    pub fn write<C: ConfigAccess + ?Sized>(
        &mut self,
        config: &C,
        sbdf: HostSbdf,
        access: GuestAccess,
        value: u64,
    ) {
        if let Some(function) = self.get_mut(sbdf) {
            function.write(config, access, value);
        }
    }

    /// What has to happen next because of writes to a function; `None` when nothing has to any more.
    pub fn next_effect<C: ConfigAccess + ?Sized>(
        &mut self,
        config: &C,
        sbdf: HostSbdf,
        locate: Locate<'_>,
    ) -> Option<Effect> {
        self.get_mut(sbdf)?.next_effect(config, locate)
    }
}
