//! What a config access is: an offset, a width, and the trait that carries it out.

use core::fmt;

use crate::HostSbdf;

/// Bytes of a function's config space on PCI Express.
pub const CONFIG_SIZE: u16 = 4096;
/// Bytes of it that conventional PCI has, too; what follows are extended capabilities.
pub const CONVENTIONAL_SIZE: u16 = 256;

/// A byte of config space, 0 to 4095.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigOffset(u16);

/// How many bytes an access has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
}

/// An access that a config transaction can carry: 1, 2 or 4 bytes at a multiple of their number, so
/// that it never leaves its dword (PCI Express Base 6.0, 2.2.7 and 2.2.8.1: one dword and its byte
/// enables).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Access {
    offset: ConfigOffset,
    width: Width,
}

/// Config space of the machine's functions.
///
/// An access reaches the function with the width it is made with: a narrow write is never made of a
/// read and a wider write, because its neighbours may be cleared by writing what they hold.
///
/// Nothing fails: as on the bus, reading what does not exist gives all ones and writing it does
/// nothing.
pub trait ConfigAccess {
    /// The bits at `access`, in the low end of the result.
    fn read(&self, function: HostSbdf, access: Access) -> u32;

    /// Writes the low bits of `value`.
    fn write(&self, function: HostSbdf, access: Access, value: u32);
}

impl<C: ConfigAccess + ?Sized> ConfigAccess for &C {
    fn read(&self, function: HostSbdf, access: Access) -> u32 {
        (**self).read(function, access)
    }

    fn write(&self, function: HostSbdf, access: Access, value: u32) {
        (**self).write(function, access, value);
    }
}

impl ConfigOffset {
    /// Byte `offset`; `None` beyond 4095.
    pub const fn new(offset: u16) -> Option<Self> {
        if offset < CONFIG_SIZE {
            Some(Self(offset))
        } else {
            None
        }
    }

    /// The byte's number, below 4096.
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The byte `bytes` further up; `None` beyond config space.
    pub const fn checked_add(self, bytes: u16) -> Option<Self> {
        match self.0.checked_add(bytes) {
            Some(offset) => Self::new(offset),
            None => None,
        }
    }

    /// Whether conventional PCI has this byte, too.
    pub const fn is_conventional(self) -> bool {
        self.0 < CONVENTIONAL_SIZE
    }
}

impl Width {
    /// From a number of bytes: 1, 2 or 4.
    pub const fn from_bytes(bytes: u16) -> Option<Self> {
        match bytes {
            1 => Some(Self::Byte),
            2 => Some(Self::Word),
            4 => Some(Self::Dword),
            _ => None,
        }
    }

    /// Bytes of such an access.
    pub const fn bytes(self) -> u16 {
        match self {
            Self::Byte => 1,
            Self::Word => 2,
            Self::Dword => 4,
        }
    }

    /// All bits of such an access, which is also what an absent function reads as.
    pub const fn ones(self) -> u32 {
        match self {
            Self::Byte => 0xff,
            Self::Word => 0xffff,
            Self::Dword => 0xffff_ffff,
        }
    }
}

impl Access {
    /// `width` at `offset`; `None` if it is not aligned to its width.
    pub const fn new(offset: ConfigOffset, width: Width) -> Option<Self> {
        if offset.0.is_multiple_of(width.bytes()) {
            Some(Self { offset, width })
        } else {
            None
        }
    }

    /// The dword that holds `offset`.
    pub const fn dword(offset: ConfigOffset) -> Self {
        Self {
            offset: ConfigOffset(offset.0 & !3),
            width: Width::Dword,
        }
    }

    /// The first byte.
    pub const fn offset(self) -> ConfigOffset {
        self.offset
    }

    /// How many bytes.
    pub const fn width(self) -> Width {
        self.width
    }

    /// Where the access begins in its dword, in bits: 0, 8, 16 or 24.
    pub const fn shift(self) -> u32 {
        (self.offset.0 & 3) as u32 * 8
    }

    /// Its bits in its dword.
    pub const fn mask(self) -> u32 {
        self.width.ones() << self.shift()
    }

    /// What the access sees of its `dword`.
    pub const fn extract(self, dword: u32) -> u32 {
        dword >> self.shift() & self.width.ones()
    }

    /// `dword` with the accessed bits replaced by `value`. Only for memory: a register may mind.
    pub const fn insert(self, dword: u32, value: u32) -> u32 {
        dword & !self.mask() | (value & self.width.ones()) << self.shift()
    }
}

impl fmt::Display for ConfigOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#05x}", self.0)
    }
}

impl fmt::Debug for ConfigOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_stays_in_its_dword() {
        for offset in 0..CONFIG_SIZE {
            let offset = ConfigOffset::new(offset).unwrap();
            for width in [Width::Byte, Width::Word, Width::Dword] {
                let Some(access) = Access::new(offset, width) else {
                    assert_ne!(offset.get() % width.bytes(), 0);
                    continue;
                };
                let last = offset.get() + width.bytes() - 1;
                assert_eq!(offset.get() / 4, last / 4);
                assert_eq!(access.mask().count_ones(), u32::from(width.bytes()) * 8);
            }
        }
        assert_eq!(ConfigOffset::new(4096), None);
        let last = ConfigOffset::new(4095).unwrap();
        assert_eq!(last.checked_add(1), None);
        assert_eq!(last.checked_add(u16::MAX), None);
    }

    #[test]
    fn what_is_inserted_is_extracted() {
        let at = |offset, width| Access::new(ConfigOffset::new(offset).unwrap(), width).unwrap();
        let word = at(6, Width::Word);
        assert_eq!(word.insert(0x1234_5678, 0xf_abcd), 0xabcd_5678);
        assert_eq!(word.extract(0xabcd_5678), 0xabcd);
        assert_eq!(at(7, Width::Byte).extract(0xabcd_5678), 0xab);
        assert_eq!(
            Access::dword(ConfigOffset::new(7).unwrap()),
            at(4, Width::Dword)
        );
    }
}
