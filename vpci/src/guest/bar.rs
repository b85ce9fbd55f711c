//! A base address register as a guest sees it (PCI Local Bus 3.0, 6.2.5.1).
//!
//! It is the guest's own: what it holds is where the guest wants the registers, and the hardware's
//! address does not change.

use pci_host::bar::{Bar, BarKind};
use xen_types::{Gpa, GpaRange, HpaRange, PAGE_SIZE};

use crate::access::Lane;

/// What a guest's host bridge forwards.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GuestWindows {
    /// Memory; addresses on the bus are the guest's.
    pub memory: alloc::vec::Vec<GpaRange>,
    /// Where the guest has the I/O ports from 0 on.
    pub io: Option<GpaRange>,
}

/// A register, or two for 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestBar {
    kind: BarKind,
    size: u64,
    host: HpaRange,
    address: u64,
    rom_enabled: bool,
}

impl GuestWindows {
    /// Where the guest has `size` bytes at a bus address; `None` where no window forwards them all.
    pub fn place(&self, io: bool, address: u64, size: u64) -> Option<GpaRange> {
        if io {
            let window = self.io?;
            let start = window.start().get().checked_add(address)?;
            let range = GpaRange::new(Gpa::new(start), size)?;
            return window.contains_range(range).then_some(range);
        }
        let range = GpaRange::new(Gpa::new(address), size)?;
        let mut windows = self.memory.iter();
        windows
            .any(|window| window.contains_range(range))
            .then_some(range)
    }
}

impl GuestBar {
    /// For `bar`, which the host has at `host`; `None` for one that cannot be given to a guest:
    /// I/O ports that share their page.
    ///
    /// Memory of less than a page is shown as a page, which it has for itself: the guest could not
    /// have less.
    pub fn new(bar: Bar, host: HpaRange) -> Option<Self> {
        let host = host.page_aligned_outwards()?;
        let in_pages = bar.size.is_multiple_of(PAGE_SIZE) && host.size() == bar.size;
        if !bar.kind.is_memory() && !in_pages {
            return None;
        }
        let size = bar.size.max(PAGE_SIZE);
        (host.size() == size).then_some(Self {
            kind: bar.kind,
            size,
            host,
            address: 0,
            rom_enabled: false,
        })
    }

    /// What kind it is.
    pub fn kind(&self) -> BarKind {
        self.kind
    }

    /// Bytes, as the guest sees it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the host has it.
    pub fn host(&self) -> HpaRange {
        self.host
    }

    /// What the guest has written, as far as it could.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// Puts it somewhere, as firmware would.
    pub fn set_address(&mut self, address: u64) {
        self.address = address & self.address_bits();
    }

    /// As after power-on.
    pub fn reset(&mut self) {
        (self.address, self.rom_enabled) = (0, false);
    }

    /// The bits of an address that the register holds.
    fn address_bits(&self) -> u64 {
        let width = if self.kind.is_64bit() {
            u64::MAX
        } else {
            u64::from(u32::MAX)
        };
        !(self.size - 1) & width
    }

    /// Whether it would answer, if the function decoded.
    pub fn is_enabled(&self) -> bool {
        self.kind != BarKind::Rom || self.rom_enabled
    }

    /// Reads the first register.
    pub fn read_low(&self) -> u32 {
        let enabled = u32::from(self.kind == BarKind::Rom && self.rom_enabled);
        self.address as u32 | self.kind.flags() | enabled
    }

    /// Reads the second register.
    pub fn read_high(&self) -> u32 {
        (self.address >> 32) as u32
    }

    /// Writes the first register.
    pub fn write_low(&mut self, lane: Lane, value: u32) {
        let low = lane.insert(self.address as u32, value);
        self.set_address(self.address & !u64::from(u32::MAX) | u64::from(low));
        if self.kind == BarKind::Rom && lane.mask() & 1 != 0 {
            self.rom_enabled = value & 1 != 0;
        }
    }

    /// Writes the second register.
    pub fn write_high(&mut self, lane: Lane, value: u32) {
        let high = lane.insert(self.read_high(), value);
        self.set_address(self.address & u64::from(u32::MAX) | u64::from(high) << 32);
    }

    /// Where the guest has it, if the function decodes.
    pub fn place(&self, windows: &GuestWindows) -> Option<GpaRange> {
        let io = self.kind == BarKind::Io;
        let place = windows.place(io, self.address, self.size);
        place.filter(|place| self.is_enabled() && place.start().is_aligned(PAGE_SIZE))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use xen_types::Hpa;

    use super::*;

    fn bar(kind: BarKind, size: u64) -> GuestBar {
        let bar = Bar {
            kind,
            size,
            address: Some(0),
        };
        let host = HpaRange::new(Hpa::new(0x80_0000_0000), size).unwrap();
        GuestBar::new(bar, host).unwrap()
    }

    const LARGE: BarKind = BarKind::Memory64 { prefetchable: true };
    const SMALL: BarKind = BarKind::Memory32 {
        prefetchable: false,
    };

    #[test]
    fn sizing_answers_as_hardware_does() {
        let mut large = bar(LARGE, 16 << 30);
        let all = Lane::part(0x10, u32::MAX);
        large.write_low(all, u32::MAX);
        large.write_high(all, u32::MAX);
        assert_eq!((large.read_low(), large.read_high()), (0xc, 0xffff_fffc));
        let mut rom = bar(BarKind::Rom, 64 << 10);
        rom.write_low(all, 0xffff_f800);
        assert_eq!(rom.read_low(), 0xffff_0000);
        rom.write_low(all, 0xffff_f801);
        assert_eq!(rom.read_low(), 0xffff_0001);
        assert!(rom.is_enabled());
    }

    #[test]
    fn less_than_a_page_is_shown_as_a_page_and_small_io_not_at_all() {
        assert_eq!(bar(SMALL, 256).size(), PAGE_SIZE);
        let ports = Bar {
            kind: BarKind::Io,
            size: 32,
            address: Some(0),
        };
        let host = HpaRange::new(Hpa::new(0x3eff_1000), 32).unwrap();
        assert_eq!(GuestBar::new(ports, host), None);
    }

    #[test]
    fn only_whole_bars_inside_a_window_have_a_place() {
        let window = |start, size| GpaRange::new(Gpa::new(start), size).unwrap();
        let windows = GuestWindows {
            memory: alloc::vec![window(0x2000_0000, 0x10_0000)],
            io: Some(window(0x3000_0000, 0x1_0000)),
        };
        let mut small = bar(SMALL, 0x8_0000);
        assert_eq!(small.place(&windows), None);
        small.set_address(0x2008_0000);
        assert_eq!(small.place(&windows), Some(window(0x2008_0000, 0x8_0000)));
        small.set_address(0x2010_0000);
        assert_eq!(small.place(&windows), None);
        let mut ports = bar(BarKind::Io, 0x1000);
        ports.set_address(0x2000);
        assert_eq!(ports.place(&windows), Some(window(0x3000_2000, 0x1000)));
    }

    proptest! {
        /// Whatever is written, in whatever pieces, the register is an aligned address and its flags.
        #[test]
        fn a_register_holds_what_its_size_lets_it(
            shift in 12..40_u32, wide: bool,
            writes in proptest::collection::vec((any::<bool>(), 0..6_usize, any::<u32>()), 0..12),
        ) {
            let kind = if wide { LARGE } else { SMALL };
            let size = 1_u64 << if wide { shift } else { shift.min(31) };
            let mut bar = bar(kind, size);
            let mut model = 0_u64;
            let lanes = [u32::MAX, 0xff, 0xff00, 0xffff, 0xffff_0000, 0xff00_0000];
            for (high, lane, value) in writes {
                let mask = lanes[lane];
                let lane = Lane::part(0x10, mask);
                if high && wide {
                    bar.write_high(lane, value);
                    model = model & !(u64::from(mask) << 32) | u64::from(value & mask) << 32;
                } else if !high {
                    bar.write_low(lane, value);
                    model = model & !u64::from(mask) | u64::from(value & mask);
                }
                model &= !(size - 1);
                prop_assert_eq!(bar.address(), model);
                prop_assert_eq!(bar.read_low(), model as u32 | kind.flags());
                prop_assert_eq!(u64::from(bar.read_high()), model >> 32);
            }
        }
    }
}
