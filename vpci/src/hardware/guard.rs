//! What the hardware domain cannot change because others depend on it.

use alloc::vec::Vec;

use pci_host::capability::express::{self, INITIATE_RESET};
use pci_host::capability::{ExtendedCapabilityId, power};
use pci_host::header::BridgeControl;
use pci_host::{ConfigOffset, Device};

use crate::masks::{Filtered, Masks};

/// Who depends on a function besides the hardware domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Dependents {
    /// Something behind the bridge is not the hardware domain's.
    pub behind: bool,
    /// A virtual function of it is not the hardware domain's.
    pub virtual_functions: bool,
}

/// Resizable BAR control: size, 13:8.
const BAR_SIZE: u32 = 0x3f << 8;
/// Link control: disable.
const LINK_DISABLE: u32 = 1 << 4;
/// Slot control: power controller off.
const SLOT_POWER: u32 = 1 << 10;
/// Device control 2, of ports: forward ARI.
const ARI_FORWARDING: u32 = 1 << 5;

/// The dwords with bits that stay as they are, in order.
pub(super) fn guards(device: &Device, dependents: Dependents) -> Vec<Filtered> {
    let mut guards = Vec::new();
    let mut keep = |start: Option<ConfigOffset>, bytes: u16, bits: u32| {
        let offset = start.and_then(|start| start.checked_add(bytes));
        guards.extend(offset.map(|offset| Filtered {
            offset,
            masks: Masks {
                read_only: bits,
                writable: !bits,
                ..Masks::default()
            },
        }));
    };
    // Isolation is what groups are made by: nobody turns it off.
    keep(device.acs.map(|acs| acs.offset), 4, 0xffff << 16);
    // BARs have the sizes that they were found with; so have those of virtual functions.
    let resizable = device.find_extended(ExtendedCapabilityId::RESIZABLE_BAR);
    for number in 0..device.resizable_bars {
        keep(resizable, 8 + 8 * number, BAR_SIZE);
    }
    let sr_iov = device.sr_iov.map(|sr_iov| sr_iov.offset);
    keep(sr_iov, 0x20, u32::MAX);
    let express = device.express.map(|express| express.offset);
    let power = device.power.map(|power| power.offset);
    if dependents.behind {
        let header = ConfigOffset::new(0);
        // Bus numbers, windows, and the reset of what is behind.
        for dword in [0x18, 0x1c, 0x20, 0x24, 0x28, 0x2c, 0x30] {
            keep(header, dword, if dword == 0x1c { 0xffff } else { u32::MAX });
        }
        let reset = u32::from(BridgeControl::SECONDARY_BUS_RESET.bits()) << 16;
        keep(header, 0x3c, reset);
        keep(express, express::register::LINK_CONTROL, LINK_DISABLE);
        keep(express, express::register::SLOT_CONTROL, SLOT_POWER);
        keep(express, express::register::DEVICE_CONTROL_2, ARI_FORWARDING);
    }
    if dependents.virtual_functions {
        // Control, number and addresses of virtual functions.
        for dword in [0x08, 0x10, 0x24, 0x28, 0x2c, 0x30, 0x34, 0x38] {
            keep(sr_iov, dword, u32::MAX);
        }
    }
    if dependents.behind || dependents.virtual_functions {
        keep(
            express,
            express::register::DEVICE_CONTROL,
            INITIATE_RESET.into(),
        );
        keep(power, 4, power::STATE.into());
    }
    guards.sort_by_key(|guard| guard.offset);
    guards
}
