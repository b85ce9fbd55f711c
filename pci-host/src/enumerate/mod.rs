//! Finding the functions behind a host bridge.
//!
//! Buses are numbered on the way, depth first as Linux does it; numbers that firmware has given and
//! that make sense stay. A bridge leads to nothing until it has numbers of its own, so that no
//! function ever answers at two places.

mod functions;
mod numbers;

use alloc::vec::Vec;

use thiserror::Error;

pub(crate) use functions::isolate;
pub use numbers::{BusNumbers, NumbersFault};

use crate::bridge::Bridge;
use crate::capability::{Express, Placement};
use crate::config::{ConfigAccess, Function};
use crate::{Device, HostSbdf, Time};

/// Bridges behind each other: more than any machine has, few enough for the stack.
const MAX_DEPTH: usize = 24;
/// Functions behind one host bridge: what is found costs memory, and config space can pretend.
const MAX_FUNCTIONS: usize = 4096;

/// What is behind a host bridge.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Enumeration {
    /// The functions, each after the bridge that it is behind.
    pub devices: Vec<Device>,
    /// What was not reached or left alone, and why.
    pub faults: Vec<(HostSbdf, EnumerationFault)>,
}

/// Why a function, or what is behind it, was left alone.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum EnumerationFault {
    /// Its header is of no known type.
    #[error("its header is of no known type: it is left alone")]
    UnknownHeader,
    /// It says that it is not ready, and does not stop to.
    #[error("it does not become ready: it is left alone")]
    NotReady,
    /// There is no bus number for what is behind the bridge.
    #[error("no bus number is left: what is behind the bridge is not reached")]
    NoBusNumber,
    /// Its virtual functions would be on buses that are not there.
    #[error("no bus number is left for its virtual functions: some cannot be used")]
    NoBusForVirtualFunctions,
    /// There are more bridges behind each other than anybody has.
    #[error("{MAX_DEPTH} bridges are before it: what is behind the bridge is not looked at")]
    TooDeep,
    /// There are more functions than anybody has.
    #[error("there are {MAX_FUNCTIONS} functions before it: others are not looked at")]
    TooMany,
}

/// Finds all functions behind a host bridge, and numbers its buses.
///
/// It is for a machine at rest: registers are sized, virtual functions turned off, and isolation of
/// ports is turned on (ACS).
pub fn enumerate(bridge: &Bridge, time: &dyn Time) -> Enumeration {
    let buses = bridge.description().buses;
    let mut scan = Scan {
        bridge,
        time,
        found: Enumeration::default(),
    };
    scan.bus(Bus {
        number: buses.first(),
        last: buses.last(),
        parent: None,
        link: None,
        depth: 0,
    });
    scan.found
}

/// The virtual functions of `physical` that are enabled, as `placement` says; those that do not answer
/// are left out. They need up to a second after they were enabled (PCI Express Base 6.0, 6.6.1).
pub fn virtual_functions<C: ConfigAccess + ?Sized>(
    config: &C,
    physical: &Device,
    placement: Placement,
) -> Vec<Device> {
    let read = |index| {
        let requester = placement.requester(physical.sbdf.requester(), index)?;
        let function = Function::new(config, physical.sbdf.neighbour(requester));
        Device::read_virtual(function, physical, index)
    };
    (0..placement.count).filter_map(read).collect()
}

struct Scan<'a> {
    bridge: &'a Bridge,
    time: &'a dyn Time,
    found: Enumeration,
}

/// A bus to look at.
#[derive(Clone, Copy)]
struct Bus {
    number: u8,
    /// The highest number that a bus behind it may have.
    last: u8,
    /// The bridge that leads to it.
    parent: Option<HostSbdf>,
    /// That bridge's port, if the bus is a link.
    link: Option<Express>,
    depth: usize,
}

/// A bridge on a bus that is looked at.
#[derive(Clone, Copy)]
struct Child {
    sbdf: HostSbdf,
    link: Option<Express>,
    /// The numbers that firmware has given, if they can stay.
    numbers: Option<BusNumbers>,
}

impl Scan<'_> {
    fn function(&self, sbdf: HostSbdf) -> Function<'_, Bridge> {
        Function::new(self.bridge, sbdf)
    }

    fn note(&mut self, sbdf: HostSbdf, fault: EnumerationFault) {
        if self.found.faults.len() < MAX_FUNCTIONS {
            self.found.faults.push((sbdf, fault));
        }
    }

    /// Looks at a bus and all behind it. Returns the highest bus number in use.
    fn bus(&mut self, bus: Bus) -> u8 {
        let first = self.found.devices.len();
        self.functions(bus);
        let reserved = self.virtual_buses(bus, first);
        let children = self.children(bus, first, reserved);
        let kept = children.iter().filter_map(|child| child.numbers);
        let mut highest = kept.fold(reserved, |highest, kept| highest.max(kept.subordinate));
        for child in children.iter().filter(|child| child.numbers.is_some()) {
            self.keep(bus, *child);
        }
        for child in children.iter().filter(|child| child.numbers.is_none()) {
            highest = self.number(bus, *child, highest);
        }
        highest
    }

    /// The bridges on the bus, whose own functions reach up to bus `reserved`. Those whose numbers
    /// cannot stay lead to nothing from here on.
    fn children(&self, bus: Bus, first: usize, reserved: u8) -> Vec<Child> {
        let mut children: Vec<Child> = Vec::new();
        let devices = self.found.devices.get(first..).unwrap_or(&[]);
        for device in devices.iter().filter(|device| device.is_bridge()) {
            let function = self.function(device.sbdf);
            let numbers = BusNumbers::read(function);
            let clashes = |child: &Child| child.numbers.is_some_and(|kept| kept.overlap(numbers));
            let fit = numbers.fit(bus.number, bus.last)
                && numbers.secondary > reserved
                && !children.iter().any(clashes);
            if !fit {
                BusNumbers::NONE.write(function);
            }
            children.push(Child {
                sbdf: device.sbdf,
                link: device.express.filter(|_| device.leads_to_link()),
                numbers: fit.then_some(numbers),
            });
        }
        children
    }

    /// Looks behind a bridge whose numbers stay.
    fn keep(&mut self, bus: Bus, child: Child) {
        if let Some(numbers) = child.numbers {
            self.behind(bus, child, numbers);
        }
    }

    /// Numbers what is behind a bridge from `highest + 1` on. Returns the highest number in use.
    fn number(&mut self, bus: Bus, child: Child, highest: u8) -> u8 {
        let Some(secondary) = highest.checked_add(1).filter(|next| *next <= bus.last) else {
            self.note(child.sbdf, EnumerationFault::NoBusNumber);
            return highest;
        };
        let numbers = BusNumbers {
            primary: bus.number,
            secondary,
            subordinate: bus.last,
        };
        numbers.write(self.function(child.sbdf));
        let subordinate = self.behind(bus, child, numbers);
        let numbers = BusNumbers {
            subordinate,
            ..numbers
        };
        numbers.write(self.function(child.sbdf));
        subordinate
    }

    fn behind(&mut self, bus: Bus, child: Child, numbers: BusNumbers) -> u8 {
        let port = self.function(child.sbdf);
        if child.link.is_some_and(|link| link.link_is_down(port)) {
            return numbers.secondary;
        }
        if bus.depth >= MAX_DEPTH {
            self.note(child.sbdf, EnumerationFault::TooDeep);
            return numbers.secondary;
        }
        self.bus(Bus {
            number: numbers.secondary,
            last: numbers.subordinate,
            parent: Some(child.sbdf),
            link: child.link,
            depth: bus.depth + 1,
        })
    }

    /// The highest bus that virtual functions of the bus's functions reach; the bus itself if there
    /// are none.
    fn virtual_buses(&mut self, bus: Bus, first: usize) -> u8 {
        let devices = self.found.devices.get(first..).unwrap_or(&[]);
        let lasts = devices.iter().filter_map(|device| {
            let last = device.sr_iov?.most().last_bus(device.sbdf.requester());
            Some((device.sbdf, last.unwrap_or(u8::MAX)))
        });
        let lasts: Vec<_> = lasts.collect();
        for &(sbdf, last) in &lasts {
            if last > bus.last {
                self.note(sbdf, EnumerationFault::NoBusForVirtualFunctions);
            }
        }
        let fitting = lasts.iter().map(|&(_, last)| last);
        let fitting = fitting.filter(|&last| last <= bus.last);
        fitting.fold(bus.number, u8::max)
    }
}

#[cfg(test)]
mod tests;
