//! A base address register of hardware that the hardware domain may move.

use pci_host::bar::{Bar, BarKind};
use xen_types::HpaRange;

use crate::access::Lane;

/// What was written to a register, or two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Tracked {
    bar: Bar,
    written: u64,
    /// What the domain has written while the function decodes: it has not reached hardware yet.
    held: Option<u64>,
    rom_enabled: bool,
}

impl Tracked {
    pub fn new(bar: Bar) -> Self {
        Self {
            bar,
            written: bar.address.unwrap_or(0),
            held: None,
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

    /// Notes a write that does not reach hardware yet, to the second register or the first. The domain
    /// finds what it wrote.
    pub fn hold(&mut self, second: bool, lane: Lane, value: u32) {
        let shift = if second { 32 } else { 0 };
        let before = self.held.unwrap_or(self.written);
        let half = lane.insert((before >> shift) as u32, value);
        let held = before & !(u64::from(u32::MAX) << shift) | u64::from(half) << shift;
        let address = !(self.bar.size - 1);
        self.held = Some(held).filter(|held| (held ^ self.written) & address != 0);
    }

    /// What the domain finds in the second register or the first, where that is not hardware's.
    pub fn held(&self, second: bool) -> Option<u32> {
        let address = self.held? & !(self.bar.size - 1);
        Some(match second {
            true => (address >> 32) as u32,
            false => address as u32 | self.bar.kind.flags(),
        })
    }

    /// Whether something is held.
    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// What is held reaches hardware: what its first register is written with, and its second.
    pub fn release(&mut self) -> Option<(u32, Option<u32>)> {
        let held = self.held.take()?;
        self.written = held;
        let high = self.bar.kind.is_64bit().then_some((held >> 32) as u32);
        Some((held as u32, high))
    }

    /// Takes what hardware's registers hold, written by somebody else.
    pub fn refresh(&mut self, low: u32, high: u32) {
        self.written = u64::from(high) << 32 | u64::from(low);
        self.held = None;
        self.rom_enabled = self.bar.kind == BarKind::Rom && low & 1 != 0;
    }
}

/// Where the processor has the registers behind a BAR: what is at an address of the bus, by the host
/// bridge's windows. `None` where no window leads there, or where others than the hardware domain have
/// something in the same pages.
pub type Locate<'a> = &'a dyn Fn(BarKind, u64, u64) -> Option<HpaRange>;
