//! PCI functions, and whose they are.

use xen_abi::{DomId, Errno};

use super::{Simulated, State};
use crate::config::GicChoice;
use crate::hypervisor::{
    DeviceSupport, FunctionInfo, FunctionState, Functions, GuestBdf, Messages, Result,
};
use crate::pci::Sbdf;

/// Device numbers of a guest's bus; the bridge has those before the first.
const FIRST_SLOT: u8 = 1;
const SLOTS: u8 = 32;

impl Functions for Simulated {
    fn functions(&self) -> Result<Vec<FunctionInfo>> {
        self.call("assignable", |state| {
            Ok(state.functions.values().cloned().collect())
        })
    }

    fn function(&self, function: Sbdf) -> Result<Option<FunctionInfo>> {
        self.call("assignable", |state| {
            Ok(state.functions.get(&function).cloned())
        })
    }

    fn set_assignable(&self, function: Sbdf, assignable: bool) -> Result<()> {
        self.call("assignable", |state| {
            let info = state.functions.get_mut(&function);
            let info = info.ok_or(Errno::NoDevice)?;
            if info.state == FunctionState::Guest {
                return Err(Errno::Busy);
            }
            info.state = match assignable {
                true => FunctionState::Assignable,
                false => FunctionState::Dom0,
            };
            Ok(())
        })
    }

    fn assign(&self, domain: DomId, function: Sbdf, slot: Option<u8>) -> Result<GuestBdf> {
        self.call("assign_function", |state| {
            let domain_of = state.domains.get_mut(&domain.get());
            let of = domain_of.ok_or(Errno::NoDomain)?;
            let info = state.functions.get_mut(&function);
            let info = info.ok_or(Errno::NoDevice)?;
            if !of.new.devices {
                return Err(Errno::NotSupported);
            }
            if info.state != FunctionState::Assignable {
                return Err(Errno::Busy);
            }
            let free = |slot: &u8| !of.slots.contains_key(slot);
            let slot = match slot {
                Some(slot) => Some(slot).filter(free).ok_or(Errno::Exists)?,
                None => (FIRST_SLOT..SLOTS).find(free).ok_or(Errno::NoSpace)?,
            };
            of.slots.insert(slot, function);
            let guest = GuestBdf::from_number(u16::from(slot) << 3);
            info.state = FunctionState::Guest;
            (info.domain, info.guest) = (Some(domain.get()), Some(guest));
            Ok(guest)
        })
    }

    fn deassign(&self, domain: DomId, function: Sbdf) -> Result<()> {
        self.call("deassign_device", |state| {
            let domain = state.domains.get_mut(&domain.get());
            let domain = domain.ok_or(Errno::NoDomain)?;
            let slot = domain.slots.iter().find(|(_, of)| **of == function);
            let slot = *slot.ok_or(Errno::NoDevice)?.0;
            domain.slots.remove(&slot);
            state.quarantine([function]);
            Ok(())
        })
    }

    fn device_support(&self, domain: DomId) -> Result<DeviceSupport> {
        self.on("device_support", domain, |domain| {
            let pci = domain.new.devices;
            let messages = match (pci, domain.new.gic) {
                (false, _) => Messages::None,
                (true, GicChoice::V2) => Messages::Frame {
                    first: 64,
                    count: 32,
                },
                (true, _) => Messages::Its,
            };
            Ok(DeviceSupport {
                pci,
                messages,
                lines: pci.then_some(40),
            })
        })
    }
}

impl State {
    /// Functions that a domain had are nobody's again.
    pub(super) fn quarantine(&mut self, functions: impl IntoIterator<Item = Sbdf>) {
        for function in functions {
            if let Some(info) = self.functions.get_mut(&function) {
                info.state = FunctionState::Assignable;
                (info.domain, info.guest) = (None, None);
            }
        }
    }
}
