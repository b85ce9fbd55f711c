//! The bus numbers of a bridge (PCI Express Base 6.0, 7.5.1.3.2 to 7.5.1.3.4).

use thiserror::Error;

use crate::bridge::BusRange;
use crate::config::{ConfigAccess, Function, Register};
use crate::{Device, HostSbdf};

/// Primary, secondary and subordinate bus, and a latency timer, in one register, so that a bridge is
/// never between two states.
const NUMBERS: Register<u32> = Register::at(0x18);
const TIMER: u32 = 0xff << 24;

/// Why a bridge cannot lead to some buses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum NumbersFault {
    /// Not behind the bus that it is on.
    #[error("bus {secondary:#04x} cannot be behind a bridge on bus {bus:#04x}")]
    NotBehind {
        /// The first of them.
        secondary: u8,
        /// The bus that the bridge is on.
        bus: u8,
    },
    /// Nothing leads to all of them.
    #[error(
        "bus {subordinate:#04x} cannot be behind it: what is before it leads up to {last:#04x}"
    )]
    Beyond {
        /// The last of them.
        subordinate: u8,
        /// The last that the bus it is on can have behind it.
        last: u8,
    },
    /// Another leads there.
    #[error("{0} leads to some of the same buses")]
    Taken(HostSbdf),
}

/// Which buses a bridge is between.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BusNumbers {
    /// The bus that it is on.
    pub primary: u8,
    /// The bus directly behind it.
    pub secondary: u8,
    /// The highest bus behind it.
    pub subordinate: u8,
}

impl BusNumbers {
    /// What a bridge forwards nothing with.
    pub const NONE: Self = Self {
        primary: 0,
        secondary: 0,
        subordinate: 0,
    };

    /// Reads them.
    pub fn read<C: ConfigAccess + ?Sized>(bridge: Function<'_, C>) -> Self {
        Self::from_bits(bridge.read(NUMBERS))
    }

    /// Writes them.
    pub fn write<C: ConfigAccess + ?Sized>(self, bridge: Function<'_, C>) {
        let before = bridge.read(NUMBERS);
        let numbers = u32::from_le_bytes([self.primary, self.secondary, self.subordinate, 0]);
        let after = before & TIMER | numbers;
        if after != before {
            bridge.write(NUMBERS, after);
        }
    }

    /// What the register holds.
    pub const fn from_bits(register: u32) -> Self {
        let [primary, secondary, subordinate, _] = register.to_le_bytes();
        Self {
            primary,
            secondary,
            subordinate,
        }
    }

    /// Whether any bus is behind a bridge that has them.
    pub const fn lead_anywhere(self) -> bool {
        self.subordinate != 0 && self.secondary <= self.subordinate
    }

    /// Whether a bridge can have them as things are: what it leads to is behind the bus that it is
    /// on, and behind no other bridge of that bus, of which `beside` are all functions. `parent` is the
    /// bridge to that bus, which is one of the host bridge's `buses`.
    ///
    /// # Errors
    /// [`NumbersFault`].
    pub fn check<'a, C: ConfigAccess + ?Sized>(
        self,
        config: &C,
        bridge: HostSbdf,
        parent: Option<HostSbdf>,
        buses: BusRange,
        beside: impl Iterator<Item = &'a Device>,
    ) -> Result<(), NumbersFault> {
        if !self.lead_anywhere() {
            return Ok(());
        }
        let bus = bridge.bus();
        if self.secondary <= bus {
            let secondary = self.secondary;
            return Err(NumbersFault::NotBehind { secondary, bus });
        }
        let numbers_of = |sbdf| Self::read(Function::new(config, sbdf));
        let last = parent.map_or(buses.last(), |parent| numbers_of(parent).subordinate);
        if self.subordinate > last {
            let subordinate = self.subordinate;
            return Err(NumbersFault::Beyond { subordinate, last });
        }
        let mut others = beside.filter(|other| other.is_bridge() && other.sbdf != bridge);
        let taken = others.find(|other| {
            let theirs = numbers_of(other.sbdf);
            theirs.lead_anywhere() && theirs.overlap(self)
        });
        taken.map_or(Ok(()), |other| Err(NumbersFault::Taken(other.sbdf)))
    }

    /// Whether they make sense for a bridge on `bus`, behind which there may be buses up to `last`.
    pub const fn fit(self, bus: u8, last: u8) -> bool {
        self.primary == bus
            && self.secondary > bus
            && self.secondary <= self.subordinate
            && self.subordinate <= last
    }

    /// Whether a bus is behind both of two bridges.
    pub const fn overlap(self, other: Self) -> bool {
        self.secondary <= other.subordinate && other.secondary <= self.subordinate
    }
}
