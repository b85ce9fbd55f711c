//! Which bits of a dword are cleared by writing 1 to them.
//!
//! Hardware that can only write whole dwords must write such neighbours of a narrow access as zeros.
//! Where a register is, is looked up each time: a function may be replaced or reset in between.

use crate::capability::{self, CapabilityId as Id, ExtendedCapabilityId as Extended};
use crate::config::ConfigOffset;

/// Offset of a dword in its capability, and its bits that writing 1 clears.
type Row<I> = (I, u16, u32);

/// Capabilities (PCI Express Base 6.0, 7.5.2 and 7.5.3).
const CAPABILITIES: &[Row<Id>] = &[
    // PMCSR: PME status.
    (Id::POWER_MANAGEMENT, 0x04, 1 << 15),
    // Device status: errors detected, emergency power reduction.
    (Id::PCI_EXPRESS, 0x08, 0x004f << 16),
    // Link status: bandwidth notifications.
    (Id::PCI_EXPRESS, 0x10, 0xc000 << 16),
    // Slot status: events.
    (Id::PCI_EXPRESS, 0x18, 0x011f << 16),
    // Root status: PME status.
    (Id::PCI_EXPRESS, 0x20, 1 << 16),
    // Link status 2: link equalization request and downstream component presence.
    (Id::PCI_EXPRESS, 0x30, 1 << 21 | 1 << 31),
];

/// Extended capabilities (7.7 to 7.9).
const EXTENDED: &[Row<Extended>] = &[
    // Uncorrectable error status, correctable error status, root error status.
    (Extended::ADVANCED_ERRORS, 0x04, u32::MAX),
    (Extended::ADVANCED_ERRORS, 0x10, u32::MAX),
    (Extended::ADVANCED_ERRORS, 0x30, 0x7f),
    // SR-IOV status: VF migration.
    (Extended::SR_IOV, 0x08, 1 << 16),
    // Lane error status.
    (Extended::SECONDARY_PCI_EXPRESS, 0x08, u32::MAX),
    // 16 GT/s status: link equalization request; three registers of parity mismatches.
    (Extended::PHYSICAL_LAYER_16, 0x0c, 1 << 4),
    (Extended::PHYSICAL_LAYER_16, 0x10, u32::MAX),
    (Extended::PHYSICAL_LAYER_16, 0x14, u32::MAX),
    (Extended::PHYSICAL_LAYER_16, 0x18, u32::MAX),
    // Page request status: response failure, unexpected index.
    (Extended::PAGE_REQUEST, 0x04, 0b11 << 16),
    // DPC status: triggered, interrupt.
    (Extended::DOWNSTREAM_CONTAINMENT, 0x08, 0b1001),
];

/// The status register's bits in the dword of the command, and those of the secondary status in a
/// bridge's dword of I/O base and limit.
const STATUS: u32 = 0xf900 << 16;

/// The bits of the dword that holds `offset` that writing 1 clears. `read` reads dwords of the
/// function.
pub(crate) fn write_1_to_clear(
    read: &mut dyn FnMut(ConfigOffset) -> u32,
    offset: ConfigOffset,
) -> u32 {
    let dword = offset.get() & !3;
    match dword {
        0x04 => STATUS,
        0x1c if is_bridge(read) => STATUS,
        0..0x40 => 0,
        0x40..0x100 => {
            let list = capability::walk(read).entries;
            let start = |id| list.iter().find(|entry| entry.id == id);
            row(CAPABILITIES, dword, |id| {
                start(id).map(|entry| entry.offset.get())
            })
        }
        _ => {
            let list = capability::walk_extended(read).entries;
            let start = |id| list.iter().find(|entry| entry.id == id);
            row(EXTENDED, dword, |id| {
                start(id).map(|entry| entry.offset.get())
            })
        }
    }
}

fn row<I: Copy>(rows: &[Row<I>], dword: u16, start: impl Fn(I) -> Option<u16>) -> u32 {
    let here =
        |row: &&Row<I>| start(row.0).and_then(|start| start.checked_add(row.1)) == Some(dword);
    rows.iter().find(here).map_or(0, |row| row.2)
}

fn is_bridge(read: &mut dyn FnMut(ConfigOffset) -> u32) -> bool {
    let header = ConfigOffset::new(0x0c).map_or(0, read);
    header >> 16 & 0x7f == 1
}
