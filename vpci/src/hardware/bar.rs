//! A base address register of hardware that the hardware domain may move.

use pci_host::bar::{Bar, BarKind};
use xen_types::HpaRange;

use crate::access::Lane;

/// What was written to a register, or two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tracked {
    bar: Bar,
    written: u64,
    rom_enabled: bool,
}

impl Tracked {
    pub fn new(bar: Bar) -> Self {
        Self {
            bar,
            written: bar.address.unwrap_or(0),
            rom_enabled: false,
        }
    }

    pub fn kind(&self) -> BarKind {
        self.bar.kind
    }

    /// Whether it answers when the function decodes.
    pub fn is_enabled(&self) -> bool {
        self.bar.kind != BarKind::Rom || self.rom_enabled
    }

    /// The address that hardware has by what was written.
    pub fn address(&self) -> u64 {
        let width = if self.bar.kind.is_64bit() {
            u64::MAX
        } else {
            u64::from(u32::MAX)
        };
        self.written & !(self.bar.size - 1) & width
    }

    pub fn size(&self) -> u64 {
        self.bar.size
    }

    pub fn write_low(&mut self, lane: Lane, value: u32) {
        let low = lane.insert(self.written as u32, value);
        self.written = self.written & !u64::from(u32::MAX) | u64::from(low);
        if self.bar.kind == BarKind::Rom && lane.mask() & 1 != 0 {
            self.rom_enabled = value & 1 != 0;
        }
    }

    pub fn write_high(&mut self, lane: Lane, value: u32) {
        let high = lane.insert((self.written >> 32) as u32, value);
        self.written = self.written & u64::from(u32::MAX) | u64::from(high) << 32;
    }

    /// Takes what hardware's registers hold, written by somebody else.
    pub fn refresh(&mut self, low: u32, high: u32) {
        self.written = u64::from(high) << 32 | u64::from(low);
        self.rom_enabled = self.bar.kind == BarKind::Rom && low & 1 != 0;
    }
}

/// Where the processor has the registers behind a BAR: what is at an address of the bus, by the host
/// bridge's windows. `None` where no window leads there, or where others than the hardware domain have
/// something in the same pages.
pub type Locate<'a> = &'a dyn Fn(BarKind, u64, u64) -> Option<HpaRange>;
