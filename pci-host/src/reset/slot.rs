//! The slot behind a port that is reset (PCI Express Base 6.0, 6.7.3).

use super::Method;
use crate::HostSbdf;
use crate::capability::{self, CapabilityId, Express, express};
use crate::config::{ConfigAccess, Function, Register};

/// A slot whose port would take a reset for somebody pulling out what is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    port: HostSbdf,
    control: Register<u16>,
    status: Register<u16>,
    /// What the control register held.
    before: u16,
}

/// Slot control: presence detect changed and data link layer state changed, as events.
const SLOT_EVENTS: u16 = 1 << 3 | 1 << 12;
/// Slot status: the same.
const SLOT_CHANGES: u16 = 1 << 3 | 1 << 8;

impl Slot {
    /// The slot of a method that resets a bus, if things can be plugged in there.
    pub fn find<C: ConfigAccess + ?Sized>(config: &C, method: Method) -> Option<Self> {
        let Method::SecondaryBus(port) = method else {
            return None;
        };
        let function = Function::new(config, port);
        let list = capability::capabilities(function);
        let express = Express::read(function, list.find(CapabilityId::PCI_EXPRESS)?)?;
        let control = express.register(express::register::SLOT_CONTROL)?;
        let status = express.register(express::register::SLOT_STATUS)?;
        express.hot_plug.then(|| Self {
            port,
            control,
            status,
            before: function.read(control),
        })
    }

    /// Nobody is told of what happens from here on.
    pub fn mute<C: ConfigAccess + ?Sized>(&self, config: &C) {
        let port = Function::new(config, self.port);
        port.write(self.control, self.before & !SLOT_EVENTS);
    }

    /// Forgets what has happened since.
    pub fn unmute<C: ConfigAccess + ?Sized>(&self, config: &C) {
        let port = Function::new(config, self.port);
        port.write(self.status, SLOT_CHANGES);
        port.write(self.control, self.before);
    }
}
