//! PCI functions, and the list of those that guests can have.

use std::io;

use xen_abi::assignable::{
    Assignable, AssignableCommand, AssignableEntry, FunctionState, SYSCTL_ASSIGNABLE,
};
use xen_abi::domctl::{self as dom, DomctlOp};
use xen_abi::{DomId, Errno};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::buffer::{Buffer, LIST, LIST_SIZE};
use super::{Xen, answer};
use crate::hypervisor::error::HypervisorError;
use crate::hypervisor::functions::reason;
use crate::hypervisor::{DeviceSupport, FunctionInfo, Functions, GuestBdf, Result};
use crate::pci::Sbdf;

/// What is called.
const CALL: &str = "assignable";
/// Bytes of an entry.
const ENTRY: usize = size_of::<AssignableEntry>();
/// Entries of one list.
const ENTRIES: usize = LIST_SIZE / ENTRY;

impl Buffer<'_> {
    /// A call about one function, whose entry comes back, also where the call fails.
    fn one(
        &self,
        command: AssignableCommand,
        function: Sbdf,
        state: FunctionState,
    ) -> io::Result<(io::Result<()>, AssignableEntry)> {
        self.memory
            .write(LIST, AssignableEntry::new_zeroed().as_bytes())?;
        let request = Assignable {
            command: command.number(),
            sbdf: function.number(),
            state: state.number(),
            entries: self.handle(LIST),
            ..Assignable::new_zeroed()
        };
        let outcome = self.sysctl_of(SYSCTL_ASSIGNABLE, request).map(drop);
        Ok((outcome, self.take(LIST)?))
    }
}

impl Functions for Xen {
    fn functions(&self) -> Result<Vec<FunctionInfo>> {
        let mut all = Vec::new();
        loop {
            let (entries, total) = self.with_buffer(CALL, |buffer| {
                let first = all.len() as u32;
                let list = Assignable {
                    command: AssignableCommand::List.number(),
                    count: ENTRIES as u32,
                    first,
                    entries: buffer.handle(LIST),
                    ..Assignable::new_zeroed()
                };
                // The hypervisor writes as many as it likes; where it wrote none, there are zeros.
                buffer.memory.write(LIST, &[0; ENTRIES * ENTRY])?;
                let list = buffer.sysctl_of(SYSCTL_ASSIGNABLE, list)?;
                let here = (list.count.saturating_sub(first) as usize).min(ENTRIES);
                let entries = (0..here).map(|place| buffer.take(LIST + place * ENTRY));
                let entries = entries.collect::<io::Result<Vec<AssignableEntry>>>()?;
                Ok((entries, list.count as usize))
            })?;
            let before = all.len();
            for entry in entries.iter().take_while(|entry| entry.vendor != 0) {
                let info = FunctionInfo::new(entry);
                all.push(info.ok_or_else(|| answer(CALL, format!("{entry:?}")))?);
            }
            if all.len() >= total || all.len() == before {
                return Ok(all);
            }
        }
    }

    fn function(&self, function: Sbdf) -> Result<Option<FunctionInfo>> {
        let asked = self.with_buffer(CALL, |buffer| {
            let of_nobody = FunctionState::ControlDomain;
            let (outcome, entry) = buffer.one(AssignableCommand::Get, function, of_nobody)?;
            outcome.map(|()| entry)
        });
        match asked {
            Ok(entry) => {
                let info = FunctionInfo::new(&entry);
                info.map(Some)
                    .ok_or_else(|| answer(CALL, format!("{entry:?}")))
            }
            Err(error) if error.errno() == Some(Errno::NoDevice) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn set_assignable(&self, function: Sbdf, assignable: bool) -> Result<()> {
        let state = match assignable {
            true => FunctionState::Assignable,
            false => FunctionState::ControlDomain,
        };
        let (outcome, entry) = self.with_buffer(CALL, |buffer| {
            buffer.one(AssignableCommand::Set, function, state)
        })?;
        outcome.map_err(|error| match reason(&entry) {
            Some(reason) => HypervisorError::Refused { reason },
            None => HypervisorError::Call { call: CALL, error },
        })
    }

    fn assign(&self, domain: DomId, function: Sbdf, slot: Option<u8>) -> Result<GuestBdf> {
        let argument = dom::AssignFunction {
            sbdf: function.number(),
            slot: slot.unwrap_or(dom::ANY_SLOT),
            pad: 0,
            virtual_bdf: 0,
        };
        let op = DomctlOp::AssignFunction;
        let assigned = self.domctl("assign_function", op, domain, argument)?;
        Ok(GuestBdf::from_number(assigned.virtual_bdf))
    }

    fn deassign(&self, domain: DomId, function: Sbdf) -> Result<()> {
        let argument = dom::AssignDevice {
            dev: dom::DEVICE_PCI,
            sbdf_or_size: function.number(),
            ..dom::AssignDevice::new_zeroed()
        };
        let op = DomctlOp::DeassignDevice;
        self.domctl("deassign_device", op, domain, argument)
            .map(drop)
    }

    fn device_support(&self, domain: DomId) -> Result<DeviceSupport> {
        let empty = dom::DeviceSupport::new_zeroed();
        let op = DomctlOp::DeviceSupport;
        let support = self.domctl("device_support", op, domain, empty)?;
        Ok(DeviceSupport::new(&support))
    }
}
