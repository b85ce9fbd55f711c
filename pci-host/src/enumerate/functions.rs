//! The functions of one bus (PCI Local Bus 3.0, 3.2.2.3.4; of ARI: PCI Express Base 6.0, 6.13).

use core::time::Duration;

use super::{Bus, EnumerationFault, MAX_FUNCTIONS, Scan};
use crate::bridge::Bridge;
use crate::config::{ConfigAccess, Function};
use crate::header;
use crate::{Device, HostSbdf, RequesterId, Time};

/// How long a function may say that it is not ready before it is left alone (PCI Express Base 6.0,
/// 6.6.1: a second after a reset, which was long ago).
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it is given between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether a function answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Presence {
    Here,
    Absent,
    NotReady,
}

impl Scan<'_> {
    /// Adds all functions of the bus.
    pub(super) fn functions(&mut self, bus: Bus) {
        self.forward_ari(bus, false);
        // A link has one device, number 0 (PCI Express Base 6.0, 7.3.1).
        let devices = if bus.link.is_some() { 1 } else { 32 };
        for device in 0..devices {
            self.device(bus, device);
        }
    }

    /// Adds the functions of a device.
    fn device(&mut self, bus: Bus, device: u8) {
        let Some(zero) = RequesterId::new(bus.number, device, 0) else {
            return;
        };
        if !self.add(bus, zero, false) {
            return;
        }
        let Some(found) = self.found.devices.last() else {
            return;
        };
        let (multifunction, ari) = (found.multifunction, found.ari);
        let forwards = bus.link.is_some_and(|link| link.forwards_ari);
        match ari.filter(|_| forwards) {
            Some(ari) => {
                self.forward_ari(bus, true);
                self.read_again(bus);
                self.ari_functions(bus, ari.next);
            }
            None if multifunction => self.conventional_functions(bus, device),
            None => {}
        }
    }

    fn conventional_functions(&mut self, bus: Bus, device: u8) {
        for number in 1..8 {
            if let Some(requester) = RequesterId::new(bus.number, device, number) {
                self.add(bus, requester, false);
            }
        }
    }

    /// Follows the list of functions, whose numbers only grow.
    fn ari_functions(&mut self, bus: Bus, mut next: Option<u8>) {
        while let Some(number) = next {
            if !self.add(bus, RequesterId::ari(bus.number, number), true) {
                return;
            }
            let found = self.found.devices.last();
            next = found.and_then(|device| device.ari?.next);
        }
    }

    /// Where function 0's virtual functions are may depend on whether ARI is forwarded.
    fn read_again(&mut self, bus: Bus) {
        let Some(zero) = self.found.devices.pop() else {
            return;
        };
        let function = self.function(zero.sbdf);
        let again = Device::read(function, bus.parent, true);
        self.found.devices.push(again.unwrap_or(zero));
    }

    fn forward_ari(&self, bus: Bus, forward: bool) {
        if let (Some(link), Some(port)) = (bus.link, bus.parent) {
            link.forward_ari(self.function(port), forward);
        }
    }

    /// Adds the function, if there is one that can be used.
    fn add(&mut self, bus: Bus, requester: RequesterId, ari: bool) -> bool {
        let sbdf = HostSbdf::new(self.bridge.description().segment, requester);
        let function = self.function(sbdf);
        match presence(function, self.time) {
            Presence::Absent => return false,
            Presence::NotReady => {
                self.note(sbdf, EnumerationFault::NotReady);
                return false;
            }
            Presence::Here => {}
        }
        if self.found.devices.len() >= MAX_FUNCTIONS {
            self.note(sbdf, EnumerationFault::TooMany);
            return false;
        }
        let Ok(mut device) = Device::read(function, bus.parent, ari) else {
            self.note(sbdf, EnumerationFault::UnknownHeader);
            return false;
        };
        isolate(function, &mut device);
        self.found.devices.push(device);
        true
    }
}

/// Keeps the function's requests to the root, and to its own number.
pub(crate) fn isolate<C: ConfigAccess + ?Sized>(function: Function<'_, C>, device: &mut Device) {
    if let Some(acs) = &mut device.acs {
        acs.isolate(function);
    }
    if let Some(express) = device.express {
        express.disable_phantom_functions(function);
    }
}

fn presence(function: Function<'_, Bridge>, time: &dyn Time) -> Presence {
    let start = time.now();
    loop {
        match function.read(header::VENDOR_ID) {
            // Some bridges give zeros for what is not there.
            header::NO_VENDOR | 0 => return Presence::Absent,
            header::NOT_READY_VENDOR => {}
            _ => return Presence::Here,
        }
        if time.now().saturating_sub(start) >= PATIENCE {
            return Presence::NotReady;
        }
        time.wait(PAUSE);
    }
}
