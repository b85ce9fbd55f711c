//! Base address registers (PCI Local Bus 3.0, 6.2.5.1; PCI Express Base 6.0, 7.5.1.2.1).

use core::fmt;

use crate::config::{ConfigAccess, Function, Register};

/// What space a base address register asks for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BarKind {
    /// I/O ports.
    Io,
    /// Memory below 4 GiB.
    Memory32 {
        /// Reading has no side effects.
        prefetchable: bool,
    },
    /// Memory anywhere; takes two registers.
    Memory64 {
        /// Reading has no side effects.
        prefetchable: bool,
    },
    /// An expansion ROM, memory below 4 GiB with an enable bit of its own.
    Rom,
}

/// A base address register as sizing found it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Bar {
    /// What it asks for.
    pub kind: BarKind,
    /// Bytes: a power of two, at least 4 of I/O, 16 of memory and 2048 of ROM.
    pub size: u64,
    /// Where it is on the bus; `None` where nobody has assigned an address.
    pub address: Option<u64>,
}

/// The base address registers of a function, by their numbers; the second register of a 64-bit one is
/// `None`.
pub type Bars = [Option<Bar>; 6];

/// Why a base address register is taken for one that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum BarFault {
    /// Its type bits have a reserved value.
    #[error("its type is reserved")]
    ReservedType,
    /// It takes two registers and is the last.
    #[error("it has 64 bits and no second register")]
    NoSecondRegister,
    /// Its writable bits are not those of a power of two.
    #[error("its size is no power of two: {0:#x} can be written")]
    NotAPowerOfTwo(u64),
}

impl Bar {
    /// The last address that it has on the bus; `None` where it has no address.
    pub fn last_address(self) -> Option<u64> {
        self.address?.checked_add(self.size.checked_sub(1)?)
    }

    /// Writes the address to the register, or both; 0 for none. A ROM stays disabled. The function
    /// must not decode meanwhile.
    pub fn write<C: ConfigAccess + ?Sized>(
        self,
        function: Function<'_, C>,
        low: Register<u32>,
        high: Option<Register<u32>>,
    ) {
        let address = self.address.unwrap_or(0);
        function.write(low, address as u32 | self.kind.flags());
        if let Some(high) = high {
            function.write(high, (address >> 32) as u32);
        }
    }

    /// Takes the address that the register holds, or both do.
    pub fn read_address<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        low: Register<u32>,
        high: Option<Register<u32>>,
    ) {
        let low = u64::from(function.read(low) & !self.kind.flag_mask());
        let high = high.map_or(0, |high| u64::from(function.read(high)) << 32);
        self.address = Some(high | low).filter(|address| *address != 0);
    }

    /// The BAR `index` places further on, where several of the same size follow each other.
    pub fn nth(self, index: u16) -> Self {
        let distance = self.size.checked_mul(index.into());
        let address = self
            .address
            .and_then(|address| address.checked_add(distance?));
        Self { address, ..self }
    }
}

/// Takes the addresses that registers hold. `register` is the register of each number.
pub(crate) fn read_addresses<C: ConfigAccess + ?Sized>(
    function: Function<'_, C>,
    bars: &mut Bars,
    register: impl Fn(usize) -> Option<Register<u32>>,
) {
    for (number, bar) in bars.iter_mut().enumerate() {
        if let (Some(bar), Some(low)) = (bar, register(number)) {
            let high = register(number + 1).filter(|_| bar.kind.is_64bit());
            bar.read_address(function, low, high);
        }
    }
}

impl BarKind {
    /// From the low bits of a register that is not a ROM's.
    pub const fn from_register(register: u32) -> Result<Self, BarFault> {
        if register & 1 != 0 {
            return Ok(Self::Io);
        }
        let prefetchable = register & 0b1000 != 0;
        match register >> 1 & 0b11 {
            // 01 was "below 1 MiB" once (PCI Local Bus 2.1, 6.2.5.1): 32 bits, too.
            0b00 | 0b01 => Ok(Self::Memory32 { prefetchable }),
            0b10 => Ok(Self::Memory64 { prefetchable }),
            _ => Err(BarFault::ReservedType),
        }
    }

    /// Whether it is memory, a ROM included.
    pub const fn is_memory(self) -> bool {
        !matches!(self, Self::Io)
    }

    /// Whether reading has no side effects.
    pub const fn is_prefetchable(self) -> bool {
        match self {
            Self::Memory32 { prefetchable } | Self::Memory64 { prefetchable } => prefetchable,
            Self::Io | Self::Rom => false,
        }
    }

    /// Whether it takes two registers.
    pub const fn is_64bit(self) -> bool {
        matches!(self, Self::Memory64 { .. })
    }

    /// The low bits of the register, which are not address (and cannot be written).
    pub const fn flags(self) -> u32 {
        match self {
            Self::Io => 1,
            Self::Memory32 { prefetchable } => (prefetchable as u32) << 3,
            Self::Memory64 { prefetchable } => (prefetchable as u32) << 3 | 0b100,
            Self::Rom => 0,
        }
    }

    /// The register's low bits that are not address.
    pub const fn flag_mask(self) -> u32 {
        match self {
            Self::Io => 0x3,
            Self::Memory32 { .. } | Self::Memory64 { .. } => 0xf,
            // 31:11 are address; 10:1 are reserved or validation status, 0 enables.
            Self::Rom => 0x7ff,
        }
    }
}

impl fmt::Display for BarKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, prefetchable) = match self {
            Self::Io => ("I/O", false),
            Self::Memory32 { prefetchable } => ("32-bit memory", *prefetchable),
            Self::Memory64 { prefetchable } => ("64-bit memory", *prefetchable),
            Self::Rom => ("ROM", false),
        };
        f.write_str(if prefetchable { "prefetchable " } else { "" })?;
        f.write_str(name)
    }
}
