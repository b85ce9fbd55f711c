//! The PCI Express controller of Renesas R-Car Gen3 and RZ/G2 (PCIEC of the R-Car series, 3rd
//! generation, user's manual; bindings `renesas,pcie-rcar-gen3` and those of each SoC).
//!
//! Config space is behind three registers: an address (PCIECAR), a control (PCIECCTLR) and the data
//! (PCIECDR). An access is a sequence of them, so a controller does one at a time, under its own
//! lock. The root port has its config space in the controller's registers and does not answer
//! requests from the bus. All registers are accessed with 32 bits: a narrower write has to say what
//! becomes of its neighbours, and `neighbours` knows which of them writing would clear.

pub mod registers;

use alloc::boxed::Box;

use spin::Mutex;

use self::registers as reg;
use crate::HostSbdf;
use crate::bridge::{
    BridgeError, BusRange, Description, Driver, HostBridge, Link, Registers, Sharing,
};
use crate::config::{Access, ConfigAccess, ConfigOffset, Width};
use crate::neighbours;

/// The controllers that are driven here.
pub const GEN3: Driver = Driver {
    name: "R-Car Gen3",
    compatible: &[
        "renesas,pcie-rcar-gen3",
        "renesas,pcie-r8a774a1",
        "renesas,pcie-r8a774b1",
        "renesas,pcie-r8a774c0",
        "renesas,pcie-r8a774e1",
        "renesas,pcie-r8a7795",
        "renesas,pcie-r8a7796",
        "renesas,pcie-r8a77961",
        "renesas,pcie-r8a77965",
        "renesas,pcie-r8a77980",
        "renesas,pcie-r8a77990",
    ],
    aborts: true,
    probe,
};

/// How often the link's wake-up is looked at before it is given up: each look takes a bus cycle, the
/// wake-up some microseconds.
const WAKE_UP_LOOKS: u32 = 10_000;

/// Calls come with interrupts masked, or from where no handler uses config space: the lock is plain.
struct RCar {
    buses: BusRange,
    controller: Mutex<Controller>,
}

struct Controller(Box<dyn Registers>);

/// Whose config space an access is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    /// The root port: in the controller's registers.
    RootPort,
    /// The device at the other end of the link.
    Link,
    /// A bus further down.
    Behind,
}

/// An access failed: nobody is there, or the link is down.
struct Absent;

fn probe(
    description: &mut Description,
    registers: Box<dyn Registers>,
) -> Result<Box<dyn HostBridge>, BridgeError> {
    if registers.size() < reg::SIZE {
        return Err(BridgeError::TooFewRegisters {
            bridge: description.name.clone(),
            size: registers.size(),
            needed: reg::SIZE,
        });
    }
    Ok(Box::new(RCar {
        buses: description.buses,
        controller: Mutex::new(Controller(registers)),
    }))
}

impl HostBridge for RCar {
    fn link(&self) -> Link {
        self.controller.lock().link()
    }

    fn sharing(&self) -> Sharing {
        Sharing::Sequence
    }
}

impl ConfigAccess for RCar {
    fn read(&self, function: HostSbdf, access: Access) -> u32 {
        let controller = self.controller.lock();
        match controller.read(self.buses, function, access.offset()) {
            Ok(dword) => access.extract(dword),
            Err(Absent) => access.width().ones(),
        }
    }

    fn write(&self, function: HostSbdf, access: Access, value: u32) {
        let controller = self.controller.lock();
        // As on the bus, a write that nobody takes is lost.
        let _ = controller.write_narrow(self.buses, function, access, value);
    }
}

impl Controller {
    fn get(&self, register: u64) -> u32 {
        self.0.read(register, Width::Dword)
    }

    fn set(&self, register: u64, value: u32) {
        self.0.write(register, Width::Dword, value);
    }

    fn link(&self) -> Link {
        if self.get(reg::PCIETSTR) & reg::DATA_LINK_ACTIVE != 0 {
            Link::Up
        } else {
            Link::Down
        }
    }

    fn target(&self, buses: BusRange, function: HostSbdf) -> Result<Target, Absent> {
        let requester = function.requester();
        if requester.bus() == buses.first() {
            let root_port = requester.devfn() == 0;
            return root_port.then_some(Target::RootPort).ok_or(Absent);
        }
        // The hardware does not use the root port's bus numbers, but whoever numbers the buses writes
        // them.
        let numbers = self.get(reg::PCICONF + reg::BUS_NUMBERS);
        let secondary = (numbers >> 8) as u8;
        if requester.bus() != secondary {
            return Ok(Target::Behind);
        }
        // A request of type 0 is taken by the one device there is whatever its device number.
        let only = requester.device() == 0;
        only.then_some(Target::Link).ok_or(Absent)
    }

    fn read(
        &self,
        buses: BusRange,
        function: HostSbdf,
        offset: ConfigOffset,
    ) -> Result<u32, Absent> {
        let dword = offset.get() & !3;
        match self.target(buses, function)? {
            Target::RootPort => Ok(self.get(reg::PCICONF + u64::from(dword))),
            target => self.transfer(target, function, dword, || self.get(reg::PCIECDR)),
        }
    }

    fn write(
        &self,
        buses: BusRange,
        function: HostSbdf,
        offset: ConfigOffset,
        value: u32,
    ) -> Result<(), Absent> {
        let dword = offset.get() & !3;
        match self.target(buses, function)? {
            Target::RootPort => {
                self.set(reg::PCICONF + u64::from(dword), value);
                Ok(())
            }
            target => self.transfer(target, function, dword, || self.set(reg::PCIECDR, value)),
        }
    }

    /// Writes `access` by writing its dword, with the neighbours as they are but for bits that
    /// writing 1 would clear.
    fn write_narrow(
        &self,
        buses: BusRange,
        function: HostSbdf,
        access: Access,
        value: u32,
    ) -> Result<(), Absent> {
        if access.width() == Width::Dword {
            return self.write(buses, function, access.offset(), value);
        }
        let before = self.read(buses, function, access.offset())?;
        let mut read = |offset| self.read(buses, function, offset).unwrap_or(u32::MAX);
        let cleared = neighbours::write_1_to_clear(&mut read, access.offset());
        let dword = access.insert(before & !(cleared & !access.mask()), value);
        self.write(buses, function, access.offset(), dword)
    }

    /// One config request on the link. `data` reads or writes PCIECDR.
    fn transfer<R>(
        &self,
        target: Target,
        function: HostSbdf,
        dword: u16,
        data: impl FnOnce() -> R,
    ) -> Result<R, Absent> {
        if self.link() == Link::Down {
            return Err(Absent);
        }
        self.wake_up()?;
        self.clear_errors();
        self.set(reg::PCIECAR, reg::address(function.requester(), dword));
        let kind = match target {
            Target::Behind => reg::TYPE1,
            _ => reg::TYPE0,
        };
        self.set(reg::PCIECCTLR, reg::SEND_ENABLE | kind);
        let result = self.transfer_data(data);
        self.set(reg::PCIECCTLR, 0);
        result
    }

    /// The data phase. Where the request has failed already, touching the data aborts.
    fn transfer_data<R>(&self, data: impl FnOnce() -> R) -> Result<R, Absent> {
        if self.has_failed() {
            return Err(Absent);
        }
        let result = data();
        if self.has_failed() {
            Err(Absent)
        } else {
            Ok(result)
        }
    }

    fn has_failed(&self) -> bool {
        self.get(reg::PCIEERRFR) & reg::UNSUPPORTED_REQUEST != 0
            || self.get(reg::PCICONF + reg::COMMAND_STATUS) & reg::ABORTS != 0
    }

    /// Errors of requests before this one say nothing of it.
    fn clear_errors(&self) {
        let errors = self.get(reg::PCIEERRFR);
        if errors != 0 {
            self.set(reg::PCIEERRFR, errors);
        }
        let status = self.get(reg::PCICONF + reg::COMMAND_STATUS);
        if status & reg::ABORTS != 0 {
            // The command in the low half stays; of the status, just the aborts are cleared.
            let clear = status & 0xffff | status & reg::ABORTS;
            self.set(reg::PCICONF + reg::COMMAND_STATUS, clear);
        }
    }

    /// A link that was told to enter L1 and is not there yet would abort the access: it is brought
    /// there, from where it returns by itself.
    fn wake_up(&self) -> Result<(), Absent> {
        let state = self.get(reg::PMSR);
        let stuck = state & reg::ENTER_L1_RECEIVED != 0 && state & reg::LINK_STATE != reg::IN_L1;
        if !stuck {
            return Ok(());
        }
        self.set(reg::PMCTLR, reg::START_L1);
        let entered = || self.get(reg::PMSR) & reg::L1_ENTERED != 0;
        let woken = (0..WAKE_UP_LOOKS).any(|_| entered());
        self.set(reg::PMSR, reg::L1_ENTERED | reg::ENTER_L1_RECEIVED);
        woken.then_some(()).ok_or(Absent)
    }
}

#[cfg(test)]
mod tests;
