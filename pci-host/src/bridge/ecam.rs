//! The enhanced configuration access mechanism: config space as memory (PCI Express Base 6.0, 7.2.2),
//! and its predecessor without extended config space (bindings `pci-host-ecam-generic` and
//! `pci-host-cam-generic`).

use alloc::boxed::Box;

use crate::bridge::{BridgeError, BusRange, Description, Driver, HostBridge, Registers, Sharing};
use crate::config::{Access, ConfigAccess, ConfigOffset};
use crate::{HostSbdf, RequesterId};

/// 4 KiB for each function.
pub const GENERIC: Driver = Driver {
    name: "ECAM",
    compatible: &["pci-host-ecam-generic"],
    aborts: false,
    probe: |description, registers| Layout::Enhanced.probe(description, registers, false),
};

/// Synopsys' DesignWare controllers that firmware has set up as ECAM. On their root bus is just the
/// root port, which answers for every device number.
pub const DESIGNWARE: Driver = Driver {
    name: "DesignWare ECAM",
    compatible: &[
        "marvell,armada8k-pcie-ecam",
        "snps,dw-pcie-ecam",
        "socionext,synquacer-pcie-ecam",
    ],
    aborts: false,
    probe: |description, registers| Layout::Enhanced.probe(description, registers, true),
};

/// 256 bytes for each function.
pub const CAM: Driver = Driver {
    name: "CAM",
    compatible: &["pci-host-cam-generic"],
    aborts: false,
    probe: |description, registers| Layout::Conventional.probe(description, registers, false),
};

/// How a function's config space is placed in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Layout {
    /// 4 KiB for each function.
    Enhanced,
    /// 256 bytes for each function.
    Conventional,
}

struct Ecam {
    layout: Layout,
    buses: BusRange,
    /// On the root bus is device 0 and no other.
    one_root_port: bool,
    registers: Box<dyn Registers>,
}

impl Layout {
    /// log2 of a function's bytes.
    const fn function_shift(self) -> u32 {
        match self {
            Self::Enhanced => 12,
            Self::Conventional => 8,
        }
    }

    /// Bytes of a bus.
    pub const fn bus_size(self) -> u64 {
        1 << (self.function_shift() + 8)
    }

    /// Where a byte of config space is, from the start of a window that begins with `buses`; `None`
    /// for a bus that is not in it, or a byte that the layout does not have.
    pub fn offset(
        self,
        buses: BusRange,
        function: RequesterId,
        offset: ConfigOffset,
    ) -> Option<u64> {
        if !buses.contains(function.bus()) || offset.get() >> self.function_shift() != 0 {
            return None;
        }
        let number = u64::from(function.bits()) - (u64::from(buses.first()) << 8);
        Some(number << self.function_shift() | u64::from(offset.get()))
    }

    /// Which function and byte of config space is at `offset` of a window that begins with `buses`:
    /// the way back of [`Layout::offset`], for an access that was trapped.
    pub fn locate(self, buses: BusRange, offset: u64) -> Option<(RequesterId, ConfigOffset)> {
        let number =
            (offset >> self.function_shift()).checked_add(u64::from(buses.first()) << 8)?;
        let function = RequesterId::from_bits(u16::try_from(number).ok()?);
        let mask = (1 << self.function_shift()) - 1;
        let offset = ConfigOffset::new((offset & mask) as u16)?;
        buses.contains(function.bus()).then_some((function, offset))
    }

    /// Takes charge of a bridge. Buses that the window has no room for are taken from it.
    fn probe(
        self,
        description: &mut Description,
        registers: Box<dyn Registers>,
        one_root_port: bool,
    ) -> Result<Box<dyn HostBridge>, BridgeError> {
        let covered = registers.size() / self.bus_size();
        let too_few = || BridgeError::TooFewRegisters {
            bridge: description.name.clone(),
            size: registers.size(),
            needed: self.bus_size(),
        };
        let buses = description.buses.truncated(covered).ok_or_else(too_few)?;
        description.buses = buses;
        Ok(Box::new(Ecam {
            layout: self,
            buses,
            one_root_port,
            registers,
        }))
    }
}

impl Ecam {
    fn offset(&self, function: HostSbdf, access: Access) -> Option<u64> {
        let function = function.requester();
        let on_root = function.bus() == self.buses.first();
        if self.one_root_port && on_root && function.device() != 0 {
            return None;
        }
        self.layout.offset(self.buses, function, access.offset())
    }
}

impl ConfigAccess for Ecam {
    fn read(&self, function: HostSbdf, access: Access) -> u32 {
        match self.offset(function, access) {
            Some(offset) => self.registers.read(offset, access.width()),
            None => access.width().ones(),
        }
    }

    fn write(&self, function: HostSbdf, access: Access, value: u32) {
        if let Some(offset) = self.offset(function, access) {
            self.registers.write(offset, access.width(), value);
        }
    }
}

impl HostBridge for Ecam {
    fn sharing(&self) -> Sharing {
        Sharing::Memory(self.layout)
    }
}
