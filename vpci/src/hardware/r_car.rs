//! The registers of an R-Car Gen3 PCI Express controller, as a hardware domain finds them that has a
//! driver of its own for it.
//!
//! The registers by which config space is reached are not hardware's: what the domain's driver does
//! with them is a sequence for itself, and becomes accesses like those of a domain with ECAM. So the
//! hypervisor's sequences and the domain's never meet. All else is the controller's.

use pci_host::bridge::rcar::registers as reg;
use pci_host::config::{CONFIG_SIZE, Width};
use pci_host::{ConfigOffset, HostSbdf, RequesterId};

use crate::access::GuestAccess;

/// What the domain finds of one controller.
#[derive(Clone, Debug)]
pub struct RCarWindow {
    segment: u16,
    root_bus: u8,
    address: u32,
    control: u32,
    /// The last request was for nobody.
    failed: bool,
}

/// Where an access to the controller's registers goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// It was dealt with; a read gives this.
    Value(u32),
    /// To config space.
    Config(HostSbdf, GuestAccess),
    /// To the controller. Of what is read, `clear` is taken away and `set` added; a write writes
    /// `set`.
    Controller {
        /// Bits that the domain does not see.
        clear: u32,
        /// Bits that it sees, or writes.
        set: u32,
    },
}

impl RCarWindow {
    /// A controller whose root port is on that bus.
    pub fn new(segment: u16, root_bus: u8) -> Self {
        Self {
            segment,
            root_bus,
            address: 0,
            control: 0,
            failed: false,
        }
    }

    /// Reads a register.
    pub fn read(&self, offset: u64, width: Width) -> Target {
        if let Some(target) = self.root_port(offset, width) {
            return target;
        }
        match offset {
            reg::PCIECAR => Target::Value(self.address),
            reg::PCIECCTLR => Target::Value(self.control),
            reg::PCIECDR => self.data(width),
            // Errors of the hypervisor's own requests are not the domain's.
            reg::PCIEERRFR => Target::Controller {
                clear: reg::UNSUPPORTED_REQUEST,
                set: if self.failed {
                    reg::UNSUPPORTED_REQUEST
                } else {
                    0
                },
            },
            // The link is woken when an access needs it.
            reg::PMSR => Target::Controller {
                clear: reg::ENTER_L1_RECEIVED | reg::L1_ENTERED,
                set: 0,
            },
            _ => Target::Controller { clear: 0, set: 0 },
        }
    }

    /// Writes a register. `exists` tells whether the domain has a function.
    pub fn write(
        &mut self,
        offset: u64,
        width: Width,
        value: u32,
        exists: impl Fn(HostSbdf) -> bool,
    ) -> Target {
        if let Some(target) = self.root_port(offset, width) {
            return target;
        }
        match offset {
            reg::PCIECAR => self.address = value,
            reg::PCIECCTLR => {
                self.control = value & (reg::SEND_ENABLE | reg::TYPE1);
                let sends = value & reg::SEND_ENABLE != 0;
                self.failed |= sends && !exists(self.function());
            }
            reg::PCIECDR => return self.data(width),
            reg::PCIEERRFR => {
                self.failed &= value & reg::UNSUPPORTED_REQUEST == 0;
                let set = value & !reg::UNSUPPORTED_REQUEST;
                return Target::Controller { clear: 0, set };
            }
            reg::PMSR | reg::PMCTLR => {}
            _ => {
                return Target::Controller {
                    clear: 0,
                    set: value,
                };
            }
        }
        Target::Value(0)
    }

    /// The function that PCIECAR names.
    fn function(&self) -> HostSbdf {
        HostSbdf::new(self.segment, reg::requester(self.address))
    }

    /// An access to the data register.
    fn data(&self, width: Width) -> Target {
        let sends = self.control & reg::SEND_ENABLE != 0 && !self.failed;
        let dword = ConfigOffset::new(self.address as u16 & 0xffc);
        let access = dword.and_then(|dword| GuestAccess::new(dword, 4));
        match access.filter(|_| sends && width == Width::Dword) {
            Some(access) => Target::Config(self.function(), access),
            None => Target::Value(u32::MAX),
        }
    }

    /// The root port's config space is among the registers.
    fn root_port(&self, offset: u64, width: Width) -> Option<Target> {
        let inside = offset.checked_sub(reg::PCICONF)?;
        let inside = u16::try_from(inside).ok().filter(|at| *at < CONFIG_SIZE)?;
        let access = GuestAccess::new(ConfigOffset::new(inside)?, width.bytes())?;
        let root = HostSbdf::new(self.segment, RequesterId::ari(self.root_bus, 0));
        Some(Target::Config(root, access))
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use std::sync::Mutex;

    use pci_host::bridge::{Bridge, Registers};
    use pci_host::enumerate::enumerate;
    use pci_host::resources::assign;
    use pci_host::simulated::machines::{self, Machine};
    use pci_host::simulated::{Fabric, SimRCar};
    use pci_host::{Device, bridge::BusRange};

    use super::*;
    use crate::hardware::{HardwareFunction, HardwarePci};

    /// A controller, and what the hardware domain finds in its place.
    struct Trapped {
        machine: Machine,
        controller: SimRCar,
        domain: Mutex<(RCarWindow, HardwarePci)>,
    }

    impl Registers for Trapped {
        fn size(&self) -> u64 {
            self.controller.size()
        }

        fn read(&self, offset: u64, width: Width) -> u32 {
            let (window, functions) = &*self.domain.lock().unwrap();
            match window.read(offset, width) {
                Target::Value(value) => value,
                Target::Config(sbdf, access) => {
                    functions.read(&self.machine.bridge, sbdf, access) as u32
                }
                Target::Controller { clear, set } => {
                    self.controller.read(offset, width) & !clear | set
                }
            }
        }

        fn write(&self, offset: u64, width: Width, value: u32) {
            let (window, functions) = &mut *self.domain.lock().unwrap();
            let exists = |sbdf| functions.get(sbdf).is_some();
            match window.write(offset, width, value, exists) {
                Target::Value(_) => {}
                Target::Config(sbdf, access) => {
                    functions.write(&self.machine.bridge, sbdf, access, value.into());
                    let locate = |_, address, size| {
                        let start = xen_types::Hpa::new(address);
                        xen_types::HpaRange::new(start, size)
                    };
                    let config = &self.machine.bridge;
                    while functions.next_effect(config, sbdf, &locate).is_some() {}
                }
                Target::Controller { set, .. } => self.controller.write(offset, width, set),
            }
        }
    }

    fn trapped(hidden: Option<&str>) -> (Box<Trapped>, Fabric, alloc::vec::Vec<Device>) {
        let fabric = Fabric::new([machines::root_port(0)]);
        let bridge = machines::r_car(&fabric, 0);
        let mut devices = enumerate(&bridge, &fabric).devices;
        assign(&bridge, &mut devices);
        let hidden: Option<HostSbdf> = hidden.map(|name| name.parse().unwrap());
        devices.retain(|device| Some(device.sbdf) != hidden);
        let mut functions = HardwarePci::default();
        for device in &devices {
            functions.add(HardwareFunction::new(&bridge, device));
        }
        let trapped = Trapped {
            controller: SimRCar::new(&fabric, 0),
            domain: Mutex::new((RCarWindow::new(0, 0), functions)),
            machine: Machine {
                fabric: fabric.clone(),
                bridge,
            },
        };
        (Box::new(trapped), fabric, devices)
    }

    /// Another driver on top of the window, as the hardware domain's is, finds the same machine; the
    /// model of the controller would fail if the two sequences met.
    #[test]
    fn a_driver_in_the_hardware_domain_finds_what_the_domain_has() {
        for hidden in [None, Some("03:00.0"), Some("06:00.0")] {
            let (registers, fabric, devices) = trapped(hidden);
            let description = machines::description("renesas,pcie-rcar-gen3", 0, BusRange::ALL);
            let bridge = Bridge::probe(description, registers).unwrap();
            let found = enumerate(&bridge, &fabric);
            assert_eq!(found.devices, devices);
            assert_eq!(found.faults, []);
        }
    }

    #[test]
    fn errors_and_the_links_sleep_are_the_domains_own() {
        let (registers, _, _) = trapped(None);
        let read = |offset| registers.read(offset, Width::Dword);
        let write = |offset, value| registers.write(offset, Width::Dword, value);
        // Nobody is at 01:01.0.
        write(reg::PCIECAR, 0x0108_0000);
        write(reg::PCIECCTLR, reg::SEND_ENABLE);
        assert_eq!(read(reg::PCIEERRFR), reg::UNSUPPORTED_REQUEST);
        assert_eq!(read(reg::PCIECDR), u32::MAX);
        write(reg::PCIECCTLR, 0);
        write(reg::PCIEERRFR, reg::UNSUPPORTED_REQUEST);
        assert_eq!(read(reg::PCIEERRFR), 0);
        registers.controller.enter_l1();
        assert_eq!(read(reg::PMSR), 0);
        write(reg::PCIECAR, 0x0100_0000);
        write(reg::PCIECCTLR, reg::SEND_ENABLE);
        assert_eq!(read(reg::PCIECDR), 0x000c_1b36);
    }
}
