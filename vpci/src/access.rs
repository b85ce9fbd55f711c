//! Accesses to config space as a guest makes them, and the dwords that they touch.
//!
//! A processor may access 1, 2, 4 or 8 bytes anywhere. A bus knows dwords and which of their bytes are
//! meant (PCI Express Base 6.0, 2.2.5); so do the registers here.

use pci_host::config::CONFIG_SIZE;
use pci_host::{Access, ConfigOffset, Width};

/// An access of 1, 2, 4 or 8 bytes that stays in config space (XSA-112).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GuestAccess {
    offset: ConfigOffset,
    bytes: u16,
}

/// What an access touches of one dword.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Lane {
    dword: u16,
    mask: u32,
}

/// A lane, and where its bits are in the access: that many bits further up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Placed {
    /// The lane.
    pub lane: Lane,
    /// Bits from the dword's start to the access's: negative where the access begins inside the
    /// dword.
    shift: i32,
}

impl GuestAccess {
    /// `bytes` at `offset`; `None` for a number of bytes that no access has, or beyond config space.
    pub fn new(offset: ConfigOffset, bytes: u16) -> Option<Self> {
        let end = offset.get().checked_add(bytes)?;
        let valid = matches!(bytes, 1 | 2 | 4 | 8) && end <= CONFIG_SIZE;
        valid.then_some(Self { offset, bytes })
    }

    /// The first byte.
    pub fn offset(self) -> ConfigOffset {
        self.offset
    }

    /// How many bytes.
    pub fn bytes(self) -> u16 {
        self.bytes
    }

    /// The same as an access of a bus, if it is one: the usual case.
    #[inline]
    pub fn single(self) -> Option<Access> {
        Access::new(self.offset, Width::from_bytes(self.bytes)?)
    }

    /// All bits of the access: what an absent function reads as.
    pub fn ones(self) -> u64 {
        u64::MAX >> (64 - 8 * u32::from(self.bytes))
    }

    /// The dwords that it touches, at most three, in order.
    pub fn lanes(self) -> impl Iterator<Item = Placed> {
        let start = self.offset.get();
        let end = start + self.bytes;
        let dwords = start / 4..end.div_ceil(4);
        dwords.map(move |dword| {
            let first = 4 * dword;
            let from = start.max(first) - first;
            let to = end.min(first + 4) - first;
            let mask = (u32::MAX >> (32 - 8 * u32::from(to - from))) << (8 * from);
            Placed {
                lane: Lane { dword, mask },
                shift: 8 * (i32::from(first) - i32::from(start)),
            }
        })
    }
}

impl Lane {
    /// All of the dword at `offset`.
    pub fn whole(offset: ConfigOffset) -> Self {
        Self {
            dword: offset.get() / 4,
            mask: u32::MAX,
        }
    }

    /// Some of the dword's bits, for tests of registers.
    #[cfg(test)]
    pub(crate) fn part(offset: u16, mask: u32) -> Self {
        Self {
            dword: offset / 4,
            mask,
        }
    }

    /// The dword's number, 0 to 1023.
    pub fn dword(self) -> u16 {
        self.dword
    }

    /// The bits that are accessed: whole bytes.
    pub fn mask(self) -> u32 {
        self.mask
    }

    /// Whether all of these bits are accessed.
    pub fn covers(self, bits: u32) -> bool {
        self.mask & bits == bits
    }

    /// `before` with what is accessed replaced by `value`.
    pub fn insert(self, before: u32, value: u32) -> u32 {
        before & !self.mask | value & self.mask
    }
}

impl Placed {
    /// What the lane adds to what the access reads.
    pub fn to_access(self, dword: u32) -> u64 {
        let bits = u64::from(dword & self.lane.mask);
        if self.shift < 0 {
            bits >> self.shift.unsigned_abs()
        } else {
            bits << self.shift.unsigned_abs()
        }
    }

    /// What the access writes of the dword.
    pub fn from_access(self, value: u64) -> u32 {
        let bits = if self.shift < 0 {
            value << self.shift.unsigned_abs()
        } else {
            value >> self.shift.unsigned_abs()
        };
        bits as u32 & self.lane.mask
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn access(offset: u16, bytes: u16) -> Option<GuestAccess> {
        GuestAccess::new(ConfigOffset::new(offset)?, bytes)
    }

    #[test]
    fn xsa_112_no_access_leaves_config_space() {
        for offset in 0..CONFIG_SIZE {
            for bytes in 0..=16 {
                let valid = [1, 2, 4, 8].contains(&bytes) && offset + bytes <= CONFIG_SIZE;
                assert_eq!(access(offset, bytes).is_some(), valid);
            }
        }
    }

    proptest! {
        #[test]
        fn lanes_are_the_bytes_of_the_access(
            offset in 0..CONFIG_SIZE, log in 0..4_u32, value: u64, memory: [u32; 4],
        ) {
            let Some(access) = access(offset, 1 << log) else { return Ok(()) };
            let base = usize::from(offset / 4 * 4);
            let mut bytes: Vec<u8> = memory.iter().flat_map(|dword| dword.to_le_bytes()).collect();
            let at = usize::from(offset) - base;
            let count = usize::from(access.bytes());
            // Reading: the bytes from there on.
            let expected = (0..count).rev().fold(0, |sum, byte| sum << 8 | u64::from(bytes[at + byte]));
            let dword = |lane: Lane| memory[usize::from(lane.dword()) - base / 4];
            let read = access.lanes().fold(0, |sum, placed| sum | placed.to_access(dword(placed.lane)));
            prop_assert_eq!(read, expected);
            let single = access.single();
            let aligned = access.bytes() <= 4 && offset.is_multiple_of(access.bytes());
            prop_assert_eq!(single.is_some(), aligned);
            if let Some(single) = single {
                let dword = memory[usize::from(offset) / 4 - base / 4];
                prop_assert_eq!(u64::from(single.extract(dword)), read);
            }
            // Writing: those bytes, and no others.
            let mut written = memory;
            for placed in access.lanes() {
                let place = &mut written[usize::from(placed.lane.dword()) - base / 4];
                *place = placed.lane.insert(*place, placed.from_access(value));
            }
            bytes[at..at + count].copy_from_slice(&value.to_le_bytes()[..count]);
            let after: Vec<u8> = written.iter().flat_map(|dword| dword.to_le_bytes()).collect();
            prop_assert_eq!(after, bytes);
        }
    }
}
