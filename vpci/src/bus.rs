//! A guest's host bridges, and where on their buses its functions are.
//!
//! Each virtual host bridge has a segment and one bus of its own. A function is found by its name in
//! one step, however many there are.

use alloc::boxed::Box;
use alloc::vec::Vec;

use pci_host::config::ConfigAccess;
use pci_host::{HostSbdf, RequesterId, Sbdf};
use thiserror::Error;
use xen_types::{Gpa, GpaRange};

use crate::GuestSbdf;
use crate::access::GuestAccess;
use crate::effect::{Effect, Piece};
use crate::guest::{GuestFunction, GuestWindows, Trapped};

/// Functions on a bus.
const FUNCTIONS: usize = 256;
/// Functions of a device.
const DEVICE: u8 = 8;

/// Why a function cannot be where it is wanted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum BusError {
    /// There is no such bus.
    #[error("{0}: the guest has no such PCI bus")]
    NoBus(GuestSbdf),
    /// Something else is there.
    #[error("{0}: another function is there")]
    Occupied(GuestSbdf),
    /// There is no function.
    #[error("{0}: the guest has no such function")]
    NoFunction(GuestSbdf),
    /// No device number is left.
    #[error("segment {0:#x} of the guest has no device number left")]
    Full(u16),
    /// Something of it is mapped.
    #[error("{0}: its registers are still mapped")]
    Mapped(GuestSbdf),
    /// A device without its function 0 is not found by a guest.
    #[error("{0}: function 0 of the device comes first and goes last")]
    FunctionZero(GuestSbdf),
}

/// All PCI functions of a guest.
#[derive(Debug, Default)]
pub struct GuestPci {
    /// Their places in the list are their segments.
    bridges: Vec<Bridge>,
}

/// A host bridge: bus 0 of its segment.
#[derive(Debug)]
struct Bridge {
    windows: GuestWindows,
    functions: Box<[Option<Box<GuestFunction>>]>,
    /// BARs with pages that are trapped, in order.
    trapped: Vec<(GpaRange, u8)>,
}

impl GuestPci {
    /// With host bridges that forward these windows, of segments 0, 1 and so on.
    pub fn new(bridges: impl IntoIterator<Item = GuestWindows>) -> Self {
        let bridge = |windows| Bridge {
            windows,
            functions: core::iter::repeat_with(|| None).take(FUNCTIONS).collect(),
            trapped: Vec::new(),
        };
        Self {
            bridges: bridges.into_iter().map(bridge).collect(),
        }
    }

    /// Adds a function at a place of the caller's choice.
    pub fn add_at(&mut self, sbdf: GuestSbdf, function: GuestFunction) -> Result<(), BusError> {
        let devfn = place(sbdf)?;
        let bridge = self.bridge_mut(sbdf)?;
        if bridge.function(devfn).is_some() {
            return Err(BusError::Occupied(sbdf));
        }
        if devfn % DEVICE != 0 && bridge.function(devfn / DEVICE * DEVICE).is_none() {
            return Err(BusError::FunctionZero(sbdf));
        }
        // Room for all of its BARs, so that none is looked for later.
        bridge.trapped.reserve(function.bars().len());
        if let Some(slot) = bridge.functions.get_mut(usize::from(devfn)) {
            *slot = Some(Box::new(function));
        }
        bridge.mark_multifunction(devfn);
        Ok(())
    }

    /// Where there is room for a function of the machine: beside other functions of the same device of
    /// the machine, or as function 0 of the first free device from 1 on, as 0 is a host bridge's number.
    pub fn free_place(&self, segment: u16, host: HostSbdf) -> Result<GuestSbdf, BusError> {
        let bridge = self.bridges.get(usize::from(segment));
        let bridge = bridge.ok_or(BusError::Full(segment))?;
        let devfn = bridge.beside(host).or_else(|| bridge.free_device());
        let devfn = devfn.ok_or(BusError::Full(segment))?;
        Ok(GuestSbdf(Sbdf::new(segment, RequesterId::ari(0, devfn))))
    }

    /// Adds a function where there is room.
    pub fn add(&mut self, segment: u16, function: GuestFunction) -> Result<GuestSbdf, BusError> {
        let sbdf = self.free_place(segment, function.host())?;
        self.add_at(sbdf, function)?;
        Ok(sbdf)
    }

    /// Whether a function could be removed if nothing of it were mapped.
    pub fn check_removal(&self, sbdf: GuestSbdf) -> Result<(), BusError> {
        let devfn = place(sbdf)?;
        let bridge = self.bridges.get(usize::from(sbdf.0.segment()));
        let bridge = bridge.ok_or(BusError::NoBus(sbdf))?;
        bridge.function(devfn).ok_or(BusError::NoFunction(sbdf))?;
        match devfn % DEVICE == 0 && bridge.functions_of(devfn) > 1 {
            true => Err(BusError::FunctionZero(sbdf)),
            false => Ok(()),
        }
    }

    /// Removes a function of which nothing is mapped any more.
    pub fn remove(&mut self, sbdf: GuestSbdf) -> Result<GuestFunction, BusError> {
        let devfn = place(sbdf)?;
        let bridge = self.bridge_mut(sbdf)?;
        let function = bridge.function(devfn).ok_or(BusError::NoFunction(sbdf))?;
        if function.claims().next().is_some() {
            return Err(BusError::Mapped(sbdf));
        }
        self.check_removal(sbdf)?;
        let bridge = self.bridge_mut(sbdf)?;
        let slot = bridge.functions.get_mut(usize::from(devfn));
        let function = slot.and_then(Option::take);
        bridge.note_trapped(devfn);
        bridge.mark_multifunction(devfn);
        function
            .map(|function| *function)
            .ok_or(BusError::NoFunction(sbdf))
    }

    /// A function; `None` where there is none.
    pub fn get(&self, sbdf: GuestSbdf) -> Option<&GuestFunction> {
        let bridge = self.bridges.get(usize::from(sbdf.0.segment()))?;
        bridge.function(place(sbdf).ok()?)
    }

    /// A function; `None` where there is none.
    pub fn get_mut(&mut self, sbdf: GuestSbdf) -> Option<&mut GuestFunction> {
        let bridge = self.bridges.get_mut(usize::from(sbdf.0.segment()))?;
        bridge.function_mut(place(sbdf).ok()?)
    }

    /// All functions, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (GuestSbdf, &GuestFunction)> {
        let bridges = (0..).zip(&self.bridges);
        bridges.flat_map(|(segment, bridge)| {
            let slots = (0..=u8::MAX).zip(&bridge.functions);
            slots.filter_map(move |(devfn, slot)| {
                let sbdf = GuestSbdf(Sbdf::new(segment, RequesterId::ari(0, devfn)));
                Some((sbdf, &**slot.as_ref()?))
            })
        })
    }

    /// Reads config space: all ones where there is no function.
    pub fn read<C: ConfigAccess + ?Sized>(
        &self,
        config: &C,
        sbdf: GuestSbdf,
        access: GuestAccess,
    ) -> u64 {
        match self.get(sbdf) {
            Some(function) => function.read(config, access) & access.ones(),
            None => access.ones(),
        }
    }

    /// Writes config space. The guest goes on when [`GuestPci::next_effect`] has nothing more.
    pub fn write<C: ConfigAccess + ?Sized>(
        &mut self,
        config: &C,
        sbdf: GuestSbdf,
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
        sbdf: GuestSbdf,
    ) -> Option<Effect> {
        let devfn = place(sbdf).ok()?;
        let bridge = self.bridges.get_mut(usize::from(sbdf.0.segment()))?;
        // Out of its place while the others are looked at.
        let slot = bridge.functions.get_mut(usize::from(devfn))?;
        let mut function = slot.take()?;
        let others = &bridge.functions;
        let is_free = |range: GpaRange| {
            let mut others = others.iter().flatten();
            !others.any(|other| other.claims_any(range))
        };
        let effect = function.next_effect(config, &bridge.windows, &is_free);
        let moved = function.take_moved();
        if let Some(slot) = bridge.functions.get_mut(usize::from(devfn)) {
            *slot = Some(function);
        }
        if moved {
            bridge.note_trapped(devfn);
        }
        effect
    }

    /// Mapping `piece` of a function has failed.
    pub fn fail(&mut self, sbdf: GuestSbdf, piece: Piece) {
        if let Some(function) = self.get_mut(sbdf) {
            function.fail(piece);
        }
    }

    /// Reads `bytes` of guest memory where a function's registers are not mapped; `None` where no
    /// function's are.
    pub fn read_trapped(&self, address: Gpa, bytes: u64) -> Option<Trapped> {
        self.bridges.iter().find_map(|bridge| {
            let (devfn, bar, offset) = bridge.find_trapped(address)?;
            Some(bridge.function(devfn)?.read_trapped(bar, offset, bytes))
        })
    }

    /// Writes `bytes` of guest memory where a function's registers are not mapped; `None` where no
    /// function's are. The function may have effects then.
    pub fn write_trapped(
        &mut self,
        address: Gpa,
        bytes: u64,
        value: u64,
    ) -> Option<(GuestSbdf, Trapped)> {
        let bridges = (0..).zip(&mut self.bridges);
        let mut found = bridges.filter_map(|(segment, bridge)| {
            let (devfn, bar, offset) = bridge.find_trapped(address)?;
            let function = bridge.function_mut(devfn)?;
            let sbdf = GuestSbdf(Sbdf::new(segment, RequesterId::ari(0, devfn)));
            Some((sbdf, function.write_trapped(bar, offset, bytes, value)))
        });
        found.next()
    }

    fn bridge_mut(&mut self, sbdf: GuestSbdf) -> Result<&mut Bridge, BusError> {
        let bridge = self.bridges.get_mut(usize::from(sbdf.0.segment()));
        bridge.ok_or(BusError::NoBus(sbdf))
    }
}

/// The place of a function on its bus.
fn place(sbdf: GuestSbdf) -> Result<u8, BusError> {
    let requester = sbdf.0.requester();
    if requester.bus() == 0 {
        Ok(requester.devfn())
    } else {
        Err(BusError::NoBus(sbdf))
    }
}

impl Bridge {
    fn function(&self, devfn: u8) -> Option<&GuestFunction> {
        self.functions.get(usize::from(devfn))?.as_deref()
    }

    fn function_mut(&mut self, devfn: u8) -> Option<&mut GuestFunction> {
        self.functions.get_mut(usize::from(devfn))?.as_deref_mut()
    }

    /// How many functions the device has that `devfn` is one of.
    fn functions_of(&self, devfn: u8) -> usize {
        let zero = devfn / DEVICE * DEVICE;
        let device = (0..DEVICE).filter(|number| self.function(zero + number).is_some());
        device.count()
    }

    fn mark_multifunction(&mut self, devfn: u8) {
        let multifunction = self.functions_of(devfn) > 1;
        if let Some(zero) = self.function_mut(devfn / DEVICE * DEVICE) {
            zero.set_multifunction(multifunction);
        }
    }

    /// A place in the device that has another function of the same device of the machine. Virtual
    /// functions and those with alternative routing ids have no device number that means anything:
    /// they are not kept together.
    fn beside(&self, host: HostSbdf) -> Option<u8> {
        let device = |sbdf: HostSbdf| sbdf.requester().bits() / u16::from(DEVICE);
        let same =
            |other: HostSbdf| other.segment() == host.segment() && device(other) == device(host);
        let mut places = (0..=u8::MAX).filter(|devfn| {
            let function = self.function(*devfn);
            function.is_some_and(|function| same(function.host()))
        });
        let zero = places.next()? / DEVICE * DEVICE;
        let own = zero + host.requester().function();
        let mut free = (0..DEVICE).map(|number| zero + number);
        match self.function(own) {
            None => Some(own),
            Some(_) => free.find(|devfn| self.function(*devfn).is_none()),
        }
    }

    fn free_device(&self) -> Option<u8> {
        let mut devices = (1..32).map(|device| device * DEVICE);
        devices.find(|zero| self.functions_of(*zero) == 0)
    }

    /// Notes where the function's trapped pages are now.
    fn note_trapped(&mut self, devfn: u8) {
        self.trapped.retain(|(_, other)| *other != devfn);
        let function = self.functions.get(usize::from(devfn));
        if let Some(function) = function.and_then(Option::as_deref) {
            let ranges = function.trapped_claims().map(|range| (range, devfn));
            self.trapped.extend(ranges);
            self.trapped
                .sort_unstable_by_key(|(range, _)| range.start());
        }
    }

    /// The function, BAR and offset of an access to a page that is not mapped.
    fn find_trapped(&self, address: Gpa) -> Option<(u8, u8, u64)> {
        let after = self
            .trapped
            .partition_point(|(range, _)| range.start() <= address);
        let (_, devfn) = *self.trapped.get(after.checked_sub(1)?)?;
        let (bar, offset) = self.function(devfn)?.find_trapped(address)?;
        Some((devfn, bar, offset))
    }
}

#[cfg(test)]
mod tests;
