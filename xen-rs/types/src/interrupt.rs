//! Interrupt ids of each kind (GIC architecture specification IHI 0069, 2.2.1).

use core::fmt;

macro_rules! id {
    ($name:ident, $first:literal, $count:literal, $what:literal) => {
        #[doc = $what]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(u16);

        impl $name {
            /// How many there are.
            pub const COUNT: u16 = $count;

            /// Number `number` of this kind, counted from 0 as a device tree does.
            pub const fn new(number: u32) -> Option<Self> {
                if number < $count {
                    Some(Self(number as u16))
                } else {
                    None
                }
            }

            /// The number among its kind.
            pub const fn number(self) -> u16 {
                self.0
            }

            /// The INTID that the GIC knows it by.
            pub const fn intid(self) -> u32 {
                self.0 as u32 + $first
            }
        }

        impl From<$name> for IntId {
            fn from(id: $name) -> Self {
                Self::$name(id)
            }
        }
    };
}

id!(Sgi, 0, 16, "A software generated interrupt: INTID 0 to 15.");
id!(
    Ppi,
    16,
    16,
    "A private peripheral interrupt: INTID 16 to 31."
);
id!(
    Spi,
    32,
    988,
    "A shared peripheral interrupt: INTID 32 to 1019."
);

/// A locality-specific peripheral interrupt, which a message raises: INTID 8192 and above.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Lpi(u16);

impl Lpi {
    /// The INTID of the first.
    pub const FIRST: u32 = 8192;
    /// Most bits that an INTID has here. List registers and `ICC_IAR1_EL1` hold 24; 57,344 LPIs are
    /// more than a machine of this kind uses, and small numbers make every interrupt cheaper.
    pub const MAX_BITS: u32 = 16;

    /// Number `number`, counted from 0; `None` where its INTID has too many bits.
    pub const fn new(number: u32) -> Option<Self> {
        if number < (1 << Self::MAX_BITS) - Self::FIRST {
            Some(Self(number as u16))
        } else {
            None
        }
    }

    /// The LPI of an INTID; `None` for the INTID of another kind.
    pub const fn from_intid(intid: u32) -> Option<Self> {
        match intid.checked_sub(Self::FIRST) {
            Some(number) => Self::new(number),
            None => None,
        }
    }

    /// The number among the LPIs.
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    /// The INTID that the GIC knows it by.
    pub const fn intid(self) -> u32 {
        self.0 as u32 + Self::FIRST
    }
}

impl From<Lpi> for IntId {
    fn from(id: Lpi) -> Self {
        Self::Lpi(id)
    }
}

impl fmt::Display for Lpi {
    /// By its INTID, as there is no other way to name it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LPI {}", self.intid())
    }
}

/// An interrupt of any kind but the special INTIDs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum IntId {
    /// Software generated.
    Sgi(Sgi),
    /// Private to a CPU.
    Ppi(Ppi),
    /// Shared by all CPUs.
    Spi(Spi),
    /// Raised by a message.
    Lpi(Lpi),
}

impl IntId {
    /// From an INTID; `None` for special ids (1020 to 1023) and what is reserved above them.
    pub const fn new(intid: u32) -> Option<Self> {
        match intid {
            0..=15 => Some(Self::Sgi(Sgi(intid as u16))),
            16..=31 => Some(Self::Ppi(Ppi(intid as u16 - 16))),
            32..=1019 => Some(Self::Spi(Spi(intid as u16 - 32))),
            _ => match Lpi::from_intid(intid) {
                Some(lpi) => Some(Self::Lpi(lpi)),
                None => None,
            },
        }
    }

    /// The INTID.
    pub const fn get(self) -> u32 {
        match self {
            Self::Sgi(id) => id.intid(),
            Self::Ppi(id) => id.intid(),
            Self::Spi(id) => id.intid(),
            Self::Lpi(id) => id.intid(),
        }
    }
}

impl fmt::Display for IntId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sgi(id) => write!(f, "SGI {}", id.number()),
            Self::Ppi(id) => write!(f, "PPI {}", id.number()),
            Self::Spi(id) => write!(f, "SPI {}", id.number()),
            Self::Lpi(id) => id.fmt(f),
        }
    }
}

/// What makes an interrupt pending.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Trigger {
    /// A transition of the line.
    Edge,
    /// The line's level, for as long as it lasts.
    Level,
}

/// An interrupt as a device tree describes it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Interrupt {
    /// Which.
    pub id: IntId,
    /// Level or edge.
    pub trigger: Trigger,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_intid_maps_to_itself() {
        for intid in 0..1020 {
            assert_eq!(IntId::new(intid).unwrap().get(), intid);
        }
        for reserved in [1020, 1023, 1024, 8191, 1 << 16, u32::MAX] {
            assert_eq!(IntId::new(reserved), None);
        }
        for lpi in [8192, 0xa000, 0xffff] {
            assert_eq!(IntId::new(lpi).unwrap().get(), lpi);
        }
    }

    #[test]
    fn numbers_end_where_the_kind_ends() {
        assert_eq!(Ppi::new(15).unwrap().intid(), 31);
        assert_eq!(Ppi::new(16), None);
        assert_eq!(Spi::new(987).unwrap().intid(), 1019);
        assert_eq!(Spi::new(988), None);
    }
}
