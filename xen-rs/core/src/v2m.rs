//! Message interrupts of a GICv2 host: GICv2m frames (Arm Server Base System Architecture, DEN
//! 0029, appendix on GICv2m). A write of an SPI's INTID to a frame's doorbell raises that SPI.
//!
//! [`Frame`] gives a frame's SPIs out in ranges, and [`GuestFrame`] is what a guest sees of one of them:
//! a frame of its own, with SPIs of its own numbers. A frame does not know who writes: any device that
//! can reach its doorbell can raise all of its SPIs, so that domains with devices of their own are
//! kept apart only where they have different frames.

extern crate alloc;

use alloc::vec::Vec;

use xen_types::{Hpa, HpaRange, Spi};

/// `MSI_TYPER`, 32 bits.
pub const MSI_TYPER: u32 = 0x008;
/// `MSI_SETSPI_NS`: the doorbell.
pub const MSI_SETSPI: u64 = 0x040;
/// `MSI_IIDR`, and what it reads: product 'X', implementer Arm, as the other emulated registers say.
const MSI_IIDR: u64 = 0xfcc;
const IIDR_VALUE: u32 = 0x58 << 20 | 0x43b;

/// INTID of the first SPI.
const FIRST_SPI: u32 = 32;

/// Why a frame cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum V2mError {
    /// The frame has no SPIs, or ones that do not exist.
    #[error(
        "the GICv2m frame at {frame} has {count} interrupts from INTID {first}: not all are SPIs"
    )]
    Range {
        /// Where the frame is.
        frame: Hpa,
        /// Its first INTID.
        first: u32,
        /// How many.
        count: u32,
    },
    /// The frame ends before its doorbell.
    #[error("the GICv2m frame at {0} has no room for its registers")]
    Short(HpaRange),
    /// No memory.
    #[error("no memory for the GICv2m frame at {0}")]
    OutOfMemory(Hpa),
}

/// SPIs side by side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpiRange {
    first: Spi,
    count: u16,
}

impl SpiRange {
    /// `count` SPIs from `first` on; `None` where there are not as many, or for 0.
    pub fn new(first: Spi, count: u16) -> Option<Self> {
        range_of(first.intid(), count.into())
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = Spi> {
        (0..self.count).filter_map(move |index| self.get(index))
    }

    /// The place of an INTID among them, counted from 0.
    fn place(self, intid: u32) -> Option<u16> {
        let place = u16::try_from(intid.checked_sub(self.first.intid())?).ok()?;
        (place < self.count).then_some(place)
    }

    /// The first; a device's message carries its INTID.
    pub const fn first(self) -> Spi {
        self.first
    }

    /// How many; never 0.
    pub const fn count(self) -> u16 {
        self.count
    }

    /// The SPI at a place, counted from 0.
    pub const fn get(self, index: u16) -> Option<Spi> {
        if index < self.count {
            Spi::new(self.first.number() as u32 + index as u32)
        } else {
            None
        }
    }
}

/// A GICv2m frame and which of its SPIs are given out.
#[derive(Debug)]
pub struct Frame {
    doorbell: Hpa,
    spis: SpiRange,
    used: Vec<bool>,
}

impl Frame {
    /// A frame whose SPIs are all free. `typer` is what its [`MSI_TYPER`] reads; `base` and `count`
    /// are what the device tree says instead, if it does (`arm,msi-base-spi` and
    /// `arm,msi-num-spis`, for frames whose register is wrong).
    ///
    /// # Errors
    /// [`V2mError`].
    pub fn new(
        registers: HpaRange,
        typer: u32,
        base: Option<Spi>,
        count: Option<u16>,
    ) -> Result<Self, V2mError> {
        let at = registers.start();
        let first = base.map_or(typer >> 16 & 0x3ff, Spi::intid);
        let count = count.map_or(typer & 0x3ff, u32::from);
        let range = V2mError::Range {
            frame: at,
            first,
            count,
        };
        let spis = range_of(first, count).ok_or(range)?;
        let doorbell = at
            .checked_add(MSI_SETSPI)
            .filter(|doorbell| registers.contains(*doorbell))
            .ok_or(V2mError::Short(registers))?;
        let mut used = Vec::new();
        used.try_reserve_exact(spis.count.into())
            .map_err(|_| V2mError::OutOfMemory(at))?;
        used.resize(spis.count.into(), false);
        Ok(Self {
            doorbell,
            spis,
            used,
        })
    }

    /// Where devices write their messages.
    pub const fn doorbell(&self) -> Hpa {
        self.doorbell
    }

    /// All of its SPIs.
    pub const fn spis(&self) -> SpiRange {
        self.spis
    }

    /// How many are free.
    pub fn free_count(&self) -> usize {
        self.used.iter().filter(|used| !**used).count()
    }

    /// Gives out `count` SPIs side by side; `None` where there are not as many, or for 0. A device
    /// with several messages and one address (PCI 6.8.1.6, Multiple Message Enable) changes the low
    /// bits of what it writes: the first INTID is a multiple of `count` rounded up to a power of
    /// two if `aligned`.
    pub fn allocate(&mut self, count: u16, aligned: bool) -> Option<SpiRange> {
        if count == 0 {
            return None;
        }
        let align = match aligned {
            true => u32::from(count).next_power_of_two(),
            false => 1,
        };
        let first = self.spis.first.intid();
        let mut places = (0_u32..).zip(self.used.windows(count.into()));
        let (place, _) = places.find(|(place, window)| {
            (first + place).is_multiple_of(align) && !window.contains(&true)
        })?;
        let found = range_of(first + place, count.into())?;
        self.mark(found, true);
        Some(found)
    }

    /// Takes back what [`Frame::allocate`] gave.
    pub fn free(&mut self, range: SpiRange) {
        self.mark(range, false);
    }

    fn mark(&mut self, range: SpiRange, in_use: bool) {
        let start = range.first.number().checked_sub(self.spis.first.number());
        let places = start.and_then(|start| {
            let start = usize::from(start);
            self.used.get_mut(start..start + usize::from(range.count))
        });
        if let Some(places) = places {
            places.fill(in_use);
        }
    }
}

/// A frame as a guest sees it, and the SPIs of one of the host's that are behind it, in their order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestFrame {
    own: SpiRange,
    host: SpiRange,
}

impl GuestFrame {
    /// `None` unless both have as many, and messages that differ in low bits do so on both sides.
    pub fn new(own: SpiRange, host: SpiRange) -> Option<Self> {
        let low_bits = u32::from(host.count).next_power_of_two() - 1;
        let apart = own.first.intid() ^ host.first.intid();
        (own.count == host.count && apart & low_bits == 0).then_some(Self { own, host })
    }

    /// What the guest's device tree says of it.
    pub const fn own(self) -> SpiRange {
        self.own
    }

    /// The guest's SPIs, and each with the one of the host that it stands for.
    pub fn pairs(self) -> impl Iterator<Item = (Spi, Spi)> {
        self.own.iter().zip(self.host.iter())
    }

    /// What a load of 32 bits reads.
    pub fn read(self, offset: u64) -> u32 {
        match offset {
            offset if offset == u64::from(MSI_TYPER) => {
                self.own.first.intid() << 16 | u32::from(self.own.count)
            }
            MSI_IIDR => IIDR_VALUE,
            _ => 0,
        }
    }

    /// The SPI of the guest's that a store of its CPU raises.
    pub fn raised(self, offset: u64, value: u32) -> Option<Spi> {
        let place = self.own.place(value).filter(|_| offset == MSI_SETSPI)?;
        self.own.get(place)
    }

    /// What a device has to write to the host's frame for what the guest has it write to its own:
    /// a message, or the first of 2^`vectors_log2` that differ in their low bits. `None` for what is
    /// not the guest's, in part or whole.
    pub fn to_host(self, data: u32, vectors_log2: u8) -> Option<u32> {
        let others = 1_u32.checked_shl(vectors_log2.into())?.checked_sub(1)?;
        let place = self.own.place(data & !others)?;
        self.own.place(data | others)?;
        Some(self.host.get(place)?.intid())
    }
}

/// The SPIs with these INTIDs, if all are some.
fn range_of(first: u32, count: u32) -> Option<SpiRange> {
    let last = first.checked_add(count.checked_sub(1)?)?;
    let spi = |intid: u32| intid.checked_sub(FIRST_SPI).and_then(Spi::new);
    spi(last)?;
    Some(SpiRange {
        first: spi(first)?,
        count: u16::try_from(count).ok()?,
    })
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn registers() -> HpaRange {
        HpaRange::new(Hpa::new(0x802_0000), 0x1000).unwrap()
    }

    fn spi(intid: u32) -> Spi {
        Spi::new(intid - 32).unwrap()
    }

    fn range(first: u32, count: u16) -> SpiRange {
        SpiRange::new(spi(first), count).unwrap()
    }

    #[test]
    fn a_guest_sees_a_frame_of_its_own() {
        let frame = GuestFrame::new(range(80, 16), range(112, 16)).unwrap();
        assert_eq!(frame.read(0x008), 80 << 16 | 16);
        assert_eq!(frame.read(0xfcc) & 0xfff, 0x43b);
        assert_eq!(frame.read(0x040), 0);
        assert_eq!(frame.raised(0x040, 95), Some(spi(95)));
        assert_eq!(frame.raised(0x040, 96), None);
        assert_eq!(frame.raised(0x044, 80), None);
        let pairs: Vec<_> = frame.pairs().collect();
        assert_eq!(pairs.len(), 16);
        assert_eq!(pairs[15], (spi(95), spi(127)));
    }

    #[test]
    fn ranges_that_messages_side_by_side_would_leave_are_no_frame() {
        assert_eq!(GuestFrame::new(range(80, 16), range(112, 8)), None);
        assert_eq!(GuestFrame::new(range(80, 16), range(120, 16)), None);
        assert!(GuestFrame::new(range(80, 8), range(120, 8)).is_some());
    }

    proptest! {
        #[test]
        fn a_message_is_the_guests_or_none(data in 60..130_u32, log2 in 0..8_u8, any: u32) {
            let frame = GuestFrame::new(range(80, 16), range(112, 16)).unwrap();
            let first = data >> log2 << log2;
            let inside = first >= 80 && first + (1 << log2) <= 96;
            prop_assert_eq!(frame.to_host(data, log2), inside.then_some(first + 32));
            if let Some(host) = frame.to_host(any, log2) {
                // Whatever the device puts into the low bits is a message of the guest's.
                prop_assert!(host >= 112 && host + (1 << log2) <= 128);
                prop_assert!(host.is_multiple_of(1 << log2));
            }
        }
    }

    /// The frame of QEMU's `virt`: 64 SPIs from INTID 80.
    fn qemu() -> Frame {
        Frame::new(registers(), 80 << 16 | 64, None, None).unwrap()
    }

    #[test]
    fn a_frame_says_what_it_has() {
        let frame = qemu();
        assert_eq!(frame.doorbell(), Hpa::new(0x802_0040));
        assert_eq!(frame.spis().first(), spi(80));
        assert_eq!(frame.free_count(), 64);
    }

    #[test]
    fn the_device_tree_knows_better() {
        let frame = Frame::new(registers(), 0, Some(spi(100)), Some(3)).unwrap();
        assert_eq!(frame.spis().get(2), Some(spi(102)));
        assert_eq!(frame.spis().get(3), None);
    }

    #[test]
    fn only_spis_are_given_out() {
        for (first, count) in [(31, 2), (0, 0), (80, 0), (1019, 2), (1020, 1)] {
            let frame = Frame::new(registers(), first << 16 | count, None, None);
            assert!(frame.is_err(), "{first} {count}");
        }
        assert!(Frame::new(registers(), 1019 << 16 | 1, None, None).is_ok());
        let error = Frame::new(registers(), 0, None, Some(u16::MAX)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the GICv2m frame at 0x8020000 has 65535 interrupts from INTID 0: not all are SPIs"
        );
        let short = HpaRange::new(Hpa::new(0x1000), 0x40).unwrap();
        let error = Frame::new(short, 80 << 16 | 64, None, None).unwrap_err();
        assert_eq!(error, V2mError::Short(short));
    }

    #[test]
    fn messages_that_share_an_address_start_at_a_multiple_of_their_number() {
        let mut frame = Frame::new(registers(), 81 << 16 | 20, None, None).unwrap();
        let first = |range: Option<SpiRange>| range.map(|range| range.first().intid());
        assert_eq!(first(frame.allocate(8, true)), Some(88));
        assert_eq!(first(frame.allocate(8, true)), None);
        assert_eq!(first(frame.allocate(7, false)), Some(81));
        assert_eq!(first(frame.allocate(3, true)), Some(96));
        assert_eq!(first(frame.allocate(0, true)), None);
    }

    proptest! {
        #[test]
        fn no_spi_is_given_out_twice_and_none_is_lost(
            steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0..20_u16), 0..60)
        ) {
            let mut frame = qemu();
            let mut held: Vec<SpiRange> = Vec::new();
            for (give, aligned, number) in steps {
                if give {
                    let Some(new) = frame.allocate(number, aligned) else { continue };
                    for index in 0..new.count() {
                        let spi = new.get(index).unwrap();
                        prop_assert!((80..144).contains(&spi.intid()));
                        for old in &held {
                            prop_assert!((0..old.count()).all(|index| old.get(index) != Some(spi)));
                        }
                    }
                    held.push(new);
                } else if !held.is_empty() {
                    frame.free(held.swap_remove(usize::from(number) % held.len()));
                }
            }
            for range in held {
                frame.free(range);
            }
            prop_assert_eq!(frame.free_count(), 64);
        }
    }
}
