//! Single root I/O virtualization (PCI Express Base 6.0, 9.3.3).

use super::at;
use crate::RequesterId;
use crate::bar::Bars;
use crate::config::{ConfigAccess, ConfigOffset, Function, Register};
use crate::sizing::{self, Sizes};

/// Control: VF enable and VF memory space enable.
const VF_ENABLE: u16 = 1 << 0;
const VF_MEMORY: u16 = 1 << 3;
/// Control: virtual functions may have function numbers above 7.
const ARI_HIERARCHY: u16 = 1 << 4;
/// Where the BARs of virtual functions begin.
const BARS: u16 = 0x24;

/// A physical function's virtual ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SrIov {
    /// Where the capability begins.
    pub offset: ConfigOffset,
    /// The most virtual functions there can be.
    pub total: u16,
    /// The device id of each.
    pub device: u16,
    /// How far the first one's requester id is from the physical function's, with all of them.
    pub first: u16,
    /// How far each one's is from the one's before, with all of them.
    pub stride: u16,
    /// The BARs of one virtual function; those of the others follow each other. Addresses are those
    /// of the first one's.
    pub bars: Bars,
}

/// Where virtual functions are: valid as long as the number of enabled ones is the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Placement {
    /// Enabled virtual functions.
    pub count: u16,
    /// Requester id of the first, less the physical function's.
    pub first: u16,
    /// From one to the next.
    pub stride: u16,
}

impl Placement {
    /// The requester id of virtual function `index` of `physical`; `None` beyond the last, and where
    /// the id would leave the segment (9.2.1.2).
    pub fn requester(self, physical: RequesterId, index: u16) -> Option<RequesterId> {
        if index >= self.count {
            return None;
        }
        let distance = self.stride.checked_mul(index)?.checked_add(self.first)?;
        let bits = physical.bits().checked_add(distance)?;
        (distance != 0).then_some(RequesterId::from_bits(bits))
    }

    /// Which virtual function of `physical` has a requester id; `None` where none has.
    pub fn index(self, physical: RequesterId, requester: RequesterId) -> Option<u16> {
        let distance = requester.bits().checked_sub(physical.bits())?;
        let beyond_first = distance.checked_sub(self.first)?;
        // One alone needs no stride.
        let index = beyond_first.checked_div(self.stride).unwrap_or(0);
        (self.requester(physical, index) == Some(requester)).then_some(index)
    }

    /// The highest bus with a virtual function.
    pub fn last_bus(self, physical: RequesterId) -> Option<u8> {
        let last = self.requester(physical, self.count.checked_sub(1)?)?;
        Some(last.bus())
    }
}

impl SrIov {
    /// Turns virtual functions off, and reads the capability at `offset`. `ari` tells whether requests
    /// to function numbers above 7 arrive.
    ///
    /// Where virtual functions are may depend on their number (9.3.3.9): all are asked for while it
    /// is read, and the number then gets back what it was.
    pub fn read<C: ConfigAccess + ?Sized>(
        function: Function<'_, C>,
        offset: ConfigOffset,
        ari: bool,
    ) -> Option<(Self, Sizes)> {
        let control: Register<u16> = at(offset, 0x08)?;
        let count: Register<u16> = at(offset, 0x10)?;
        let before = function.read(control);
        let mut quiet = before & !(VF_ENABLE | VF_MEMORY | ARI_HIERARCHY);
        if ari {
            quiet |= ARI_HIERARCHY;
        }
        if quiet != before {
            function.write(control, quiet);
        }
        let total: u16 = function.read(at(offset, 0x0e)?);
        let number = function.read(count);
        function.write(count, total);
        let (first, stride) = (
            function.read(at(offset, 0x14)?),
            function.read(at(offset, 0x16)?),
        );
        function.write(count, number);
        let sizes = sizing::virtual_functions(function, offset.checked_add(BARS)?);
        let sr_iov = Self {
            offset,
            total,
            device: function.read(at(offset, 0x1a)?),
            first,
            stride,
            bars: sizes.bars,
        };
        Some((sr_iov, sizes))
    }

    /// Where all virtual functions would be.
    pub fn most(self) -> Placement {
        Placement {
            count: self.total,
            first: self.first,
            stride: self.stride,
        }
    }

    /// Where the virtual functions are that are enabled now; `None` where they are not.
    pub fn enabled<C: ConfigAccess + ?Sized>(self, function: Function<'_, C>) -> Option<Placement> {
        let read = |register| Some(function.read(at::<u16>(self.offset, register)?));
        let enabled = read(0x08)? & VF_ENABLE != 0;
        let placement = Placement {
            count: read(0x10)?.min(self.total),
            first: read(0x14)?,
            stride: read(0x16)?,
        };
        enabled.then_some(placement)
    }

    /// Where the register of virtual BAR `number` is.
    pub fn bar_register(self, number: usize) -> Option<Register<u32>> {
        at(self.offset, BARS + 4 * u16::try_from(number).ok()?)
    }
}
