//! What a guest loads and stores where its host bridge is, and nothing is mapped.

use pci_host::{ConfigOffset, RequesterId, Sbdf};
use vpci::GuestSbdf;
use vpci::access::GuestAccess;
use vpci::guest::Trapped;
use xen_abi::layout::{self, Region};
use xen_types::{Gpa, Hpa};

use super::{GuestBus, State};
use crate::domain::Domain;
use crate::pci::{PCI, Pci};

/// What is at an address of the guest.
#[derive(Clone, Copy)]
pub enum GuestPlace {
    /// Config space, at an offset (PCI Express Base 6.0, 7.2.2).
    Config(u64),
    /// A window.
    Window(Gpa),
}

/// What comes of an access.
pub enum Answer {
    /// It is done; a load gives this.
    Value(u64),
    /// It is not done: the guest tries again, as there is something to be done before.
    Again,
    /// Nothing was there.
    Nothing,
}

fn offset_in(region: Region, address: Gpa) -> Option<u64> {
    let offset = address.get().checked_sub(region.base)?;
    (offset < region.size).then_some(offset)
}

/// The function and the register at an offset of config space.
fn register(offset: u64, bytes: u16) -> Option<(GuestSbdf, GuestAccess)> {
    let requester = RequesterId::from_bits(u16::try_from(offset >> 12).ok()?);
    let register = ConfigOffset::new((offset & 0xfff) as u16)?;
    let access = GuestAccess::new(register, bytes)?;
    Some((GuestSbdf(Sbdf::new(0, requester)), access))
}

impl GuestBus {
    /// What is at an address of the guest; `None` where the host bridge is not.
    #[inline]
    pub fn find(&self, address: Gpa) -> Option<GuestPlace> {
        if let Some(offset) = offset_in(layout::VPCI_ECAM, address) {
            return Some(GuestPlace::Config(offset));
        }
        let windows = [layout::VPCI_MEMORY, layout::VPCI_PREFETCH];
        let mut windows = windows.into_iter();
        let window = windows.any(|window| offset_in(window, address).is_some());
        window.then_some(GuestPlace::Window(address))
    }

    /// A load.
    pub fn read(&self, domain: &Domain, place: GuestPlace, bytes: u16) -> Answer {
        let Some(pci) = PCI.get() else {
            return Answer::Nothing;
        };
        let mut state = self.state.lock();
        if !state.settle(pci, domain) {
            return Answer::Again;
        }
        match place {
            GuestPlace::Config(offset) => match register(offset, bytes) {
                Some((sbdf, access)) => {
                    Answer::Value(state.functions.read(&pci.bridges, sbdf, access))
                }
                None => Answer::Nothing,
            },
            GuestPlace::Window(address) => state.read_window(address, bytes),
        }
    }

    /// A store.
    pub fn write(&self, domain: &Domain, place: GuestPlace, bytes: u16, value: u64) -> Answer {
        let Some(pci) = PCI.get() else {
            return Answer::Nothing;
        };
        let mut state = self.state.lock();
        if !state.settle(pci, domain) {
            return Answer::Again;
        }
        match place {
            GuestPlace::Config(offset) => {
                let Some((sbdf, access)) = register(offset, bytes) else {
                    return Answer::Nothing;
                };
                state.functions.write(&pci.bridges, sbdf, access, value);
                state.begin(pci, domain, sbdf);
                Answer::Value(0)
            }
            GuestPlace::Window(address) => state.write_window(pci, domain, (address, bytes), value),
        }
    }
}

impl State {
    /// Begins with what follows from a write to a function.
    fn begin(&mut self, pci: &Pci, domain: &Domain, sbdf: GuestSbdf) {
        self.unsettled = Some(sbdf);
        // What is left is done before anything else of the guest's PCI is.
        let _ = self.settle(pci, domain);
    }

    fn read_window(&self, address: Gpa, bytes: u16) -> Answer {
        match self.functions.read_trapped(address, bytes.into()) {
            None => Answer::Nothing,
            Some(Trapped::Value(value)) => Answer::Value(value),
            Some(Trapped::Forward(at)) => {
                let loaded = self.given.iter().find_map(|given| given.load(at, bytes));
                loaded.map_or(Answer::Nothing, Answer::Value)
            }
        }
    }

    fn write_window(
        &mut self,
        pci: &Pci,
        domain: &Domain,
        (address, bytes): (Gpa, u16),
        value: u64,
    ) -> Answer {
        let written = self.functions.write_trapped(address, bytes.into(), value);
        match written {
            None => Answer::Nothing,
            Some((sbdf, Trapped::Value(_))) => {
                self.begin(pci, domain, sbdf);
                Answer::Value(0)
            }
            Some((_, Trapped::Forward(at))) => {
                self.forward(at, bytes, value);
                Answer::Value(0)
            }
        }
    }

    fn forward(&self, at: Hpa, bytes: u16, value: u64) {
        let mut given = self.given.iter();
        given.any(|given| given.store(at, bytes, value));
    }
}
