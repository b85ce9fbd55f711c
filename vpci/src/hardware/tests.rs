use core::cell::{Cell, RefCell};

use pci_host::bar::BarKind;
use pci_host::bridge::{Bridge, BusRange};
use pci_host::config::Register;
use pci_host::enumerate::enumerate;
use pci_host::resources::assign;
use pci_host::simulated::machines::{self, Machine};
use pci_host::simulated::{Fabric, Seen, SimFunction, Slot, samples};
use pci_host::{Access, RequesterId, Width, sizing};
use proptest::prelude::*;
use xen_types::Hpa;

use super::*;

/// All functions of a machine, as the hardware domain accesses them.
struct Domain {
    machine: Machine,
    devices: Vec<Device>,
    functions: RefCell<HardwarePci>,
    mapped: RefCell<Vec<Piece>>,
    /// Host memory that is somebody else's.
    foreign: Vec<HpaRange>,
    /// A reset has made functions deaf.
    reset: Cell<bool>,
}

impl Domain {
    fn new(machine: Machine) -> Self {
        let mut devices = enumerate(&machine.bridge, &machine.fabric).devices;
        assign(&machine.bridge, &mut devices);
        let mut functions = HardwarePci::default();
        for device in &devices {
            functions.add(HardwareFunction::new(&machine.bridge, device));
        }
        let domain = Self {
            functions: RefCell::new(functions),
            machine,
            devices,
            mapped: RefCell::default(),
            foreign: Vec::new(),
            reset: Cell::new(false),
        };
        domain
            .devices
            .iter()
            .for_each(|device| domain.work(device.sbdf));
        domain
    }

    fn locate(&self, kind: BarKind, address: u64, size: u64) -> Option<HpaRange> {
        let description = self.machine.bridge.description();
        let range = description.to_host(!kind.is_memory(), address, size)?;
        let free = !self.foreign.iter().any(|other| other.overlaps(range));
        free.then_some(range)
    }

    /// Carries out what there is to do.
    fn work(&self, sbdf: HostSbdf) {
        let mut functions = self.functions.borrow_mut();
        let locate = |kind, address, size| self.locate(kind, address, size);
        while let Some(effect) = functions.next_effect(&self.machine.bridge, sbdf, &locate) {
            let mut mapped = self.mapped.borrow_mut();
            match effect {
                Effect::Map(piece) => {
                    assert_eq!(piece.guest.start().get(), piece.host.start().get());
                    mapped.push(piece);
                }
                Effect::Unmap(piece) => {
                    // Whoever is unmapped still answers, unless a reset was faster.
                    assert!(self.answers(sbdf, piece.bar) || self.reset.get());
                    mapped.retain(|other| other != &piece);
                }
                _ => panic!("the hardware domain's interrupts are its own"),
            }
        }
    }

    /// Whether hardware decodes a BAR.
    fn answers(&self, sbdf: HostSbdf, bar: u8) -> bool {
        let device = self.devices.iter().find(|device| device.sbdf == sbdf);
        let bars = device.map(|device| device.bars).unwrap_or_default();
        let bar = bars.get(usize::from(bar)).copied().flatten();
        let io = bar.is_some_and(|bar| !bar.kind.is_memory());
        let decode = if io { Command::IO } else { Command::MEMORY };
        let command = Function::new(&self.machine.bridge, sbdf).read(header::COMMAND);
        command.contains(decode)
    }

    fn device(&self, name: &str) -> &Device {
        let sbdf: HostSbdf = name.parse().unwrap();
        self.devices
            .iter()
            .find(|device| device.sbdf == sbdf)
            .unwrap()
    }

    fn function(&self, name: &str) -> Function<'_, Self> {
        Function::new(self, name.parse().unwrap())
    }

    fn is_mapped(&self, address: u64) -> bool {
        let mapped = self.mapped.borrow();
        mapped
            .iter()
            .any(|piece| piece.host.contains(Hpa::new(address)))
    }

    fn depend(&self, name: &str, dependents: Dependents) {
        let device = self.device(name);
        let mut functions = self.functions.borrow_mut();
        let function = functions.get_mut(device.sbdf).unwrap();
        function.set_dependents(&self.machine.bridge, device, dependents);
    }
}

impl ConfigAccess for Domain {
    fn read(&self, sbdf: HostSbdf, access: Access) -> u32 {
        let wide = GuestAccess::new(access.offset(), access.width().bytes()).unwrap();
        let functions = self.functions.borrow();
        functions.read(&self.machine.bridge, sbdf, wide) as u32
    }

    fn write(&self, sbdf: HostSbdf, access: Access, value: u32) {
        let wide = GuestAccess::new(access.offset(), access.width().bytes()).unwrap();
        let mut functions = self.functions.borrow_mut();
        functions.write(&self.machine.bridge, sbdf, wide, value.into());
        drop(functions);
        self.work(sbdf);
    }
}

fn one(function: SimFunction) -> Domain {
    let root = Slot::new(1, 0, samples::root_port());
    let fabric = Fabric::new([root.with([Slot::new(0, 0, function)])]);
    let bridge: Bridge = machines::ecam(&fabric, 0, BusRange::ALL);
    Domain::new(Machine { fabric, bridge })
}

fn id(text: &str) -> RequesterId {
    text.parse::<HostSbdf>().unwrap().requester()
}

#[test]
fn what_is_seen_is_hardware() {
    let mut machines = machines::both();
    machines.push(machines::server());
    for machine in machines {
        let domain = Domain::new(machine);
        for device in &domain.devices {
            for at in (0..4096).step_by(4) {
                let access = Access::dword(ConfigOffset::new(at).unwrap());
                let bare = domain.machine.bridge.read(device.sbdf, access);
                assert_eq!(domain.read(device.sbdf, access), bare);
            }
        }
    }
}

#[test]
fn an_access_keeps_its_width() {
    let domain = one(samples::nvme());
    let disk: HostSbdf = "01:00.0".parse().unwrap();
    for (at, width) in [
        (0x3c, Width::Byte),
        (0x52, Width::Word),
        (0x44, Width::Dword),
    ] {
        let access = Access::new(ConfigOffset::new(at).unwrap(), width).unwrap();
        domain.machine.fabric.take_seen();
        domain.write(disk, access, 0x1234_5678);
        let seen = domain.machine.fabric.take_seen();
        let expected = Seen {
            function: disk.requester(),
            access,
            written: Some(0x1234_5678 & width.ones()),
        };
        assert_eq!(seen, [expected]);
    }
}

#[test]
fn registers_are_mapped_where_they_are_while_they_answer() {
    let domain = one(samples::nvme());
    let disk = domain.function("01:00.0");
    let address = domain.device("01:00.0").bars[0].unwrap().address.unwrap();
    assert!(!domain.is_mapped(address));
    disk.write(header::COMMAND, Command::MEMORY);
    assert!(domain.is_mapped(address) && domain.machine.fabric.decodes(id("01:00.0")));
    // Sized as an operating system does it.
    let found = sizing::header(disk, Layout::Endpoint);
    assert_eq!(found.bars, domain.device("01:00.0").bars);
    assert!(domain.is_mapped(address));
    // Moved, while it answers and while it is off.
    let moved = address ^ 0x10_0000;
    let bar = Register::<u32>::at(0x10);
    disk.write(bar, disk.read(bar) ^ 0x10_0000);
    assert!(domain.is_mapped(moved) && !domain.is_mapped(address));
    assert_eq!(u64::from(disk.read(bar) & !0xf), moved);
    assert!(domain.machine.fabric.decodes(id("01:00.0")));
    disk.write(header::COMMAND, Command::empty());
    assert!(!domain.is_mapped(moved));
    disk.write(bar, disk.read(bar) ^ 0x10_0000);
    disk.write(header::COMMAND, Command::MEMORY);
    assert!(domain.is_mapped(address) && !domain.is_mapped(moved));
}

#[test]
fn nothing_answers_where_others_are() {
    let mut domain = one(samples::nvme());
    let address = domain.device("01:00.0").bars[0].unwrap().address.unwrap();
    domain.foreign = alloc::vec![HpaRange::new(Hpa::new(address), 4096).unwrap()];
    let disk = domain.function("01:00.0");
    disk.write(header::COMMAND, Command::MEMORY | Command::BUS_MASTER);
    assert!(!domain.machine.fabric.decodes(id("01:00.0")));
    assert!(!domain.is_mapped(address));
    // It finds what it wrote, though.
    let command = disk.read(header::COMMAND);
    assert_eq!(command, Command::MEMORY | Command::BUS_MASTER);
    // Somewhere else it may.
    let bar = Register::<u32>::at(0x10);
    disk.write(bar, disk.read(bar) ^ 0x10_0000);
    disk.write(header::COMMAND, command);
    assert!(domain.is_mapped(address ^ 0x10_0000));
}

#[test]
fn what_guests_depend_on_stays() {
    let domain = Domain::new(machines::both().remove(0));
    let port = domain.function("00:00.0");
    let behind = Dependents {
        behind: true,
        virtual_functions: false,
    };
    domain.depend("00:00.0", behind);
    let numbers = Register::<u32>::at(0x18);
    let before = port.read(numbers);
    port.write(numbers, 0);
    port.write(Register::<u8>::at(0x19), 0x40);
    port.write(header::MEMORY_BASE, 0);
    assert_eq!(port.read(numbers), before);
    port.write(
        header::BRIDGE_CONTROL,
        header::BridgeControl::SECONDARY_BUS_RESET | header::BridgeControl::SERR,
    );
    assert_eq!(
        port.read(header::BRIDGE_CONTROL),
        header::BridgeControl::SERR
    );
    let resets = domain
        .machine
        .fabric
        .with(id("03:00.0"), |disk| disk.resets());
    assert_eq!(resets, Some(0));
    port.write(header::COMMAND, Command::empty());
    let forced = Command::DECODE | Command::BUS_MASTER;
    let hardware = Function::new(&domain.machine.bridge, port.sbdf());
    assert!(hardware.read(header::COMMAND).contains(forced));
    // Events in the dword of guarded bits are the domain's to clear.
    let raise = |port: &mut SimFunction| port.raise(0x1e, Width::Word, 0x2000);
    domain.machine.fabric.with(id("00:00.0"), raise);
    port.write(
        header::SECONDARY_STATUS,
        header::Status::RECEIVED_MASTER_ABORT,
    );
    assert!(port.read(header::SECONDARY_STATUS).is_empty());
}

/// A bridge that has to go on forwarding is sized like any other.
#[test]
fn what_has_to_decode_can_be_sized() {
    let port = samples::root_port().with_bar(
        0,
        BarKind::Memory32 {
            prefetchable: false,
        },
        4096,
    );
    let root = Slot::new(1, 0, port);
    let fabric = Fabric::new([root.with([Slot::new(0, 0, samples::nvme())])]);
    let bridge: Bridge = machines::ecam(&fabric, 0, BusRange::ALL);
    let domain = Domain::new(Machine { fabric, bridge });
    let port = domain.function("00:01.0");
    let before = sizing::header(port, Layout::Bridge);
    let behind = Dependents {
        behind: true,
        virtual_functions: false,
    };
    domain.depend("00:01.0", behind);
    port.write(header::COMMAND, Command::empty());
    assert!(before.bars[0].is_some());
    assert_eq!(sizing::header(port, Layout::Bridge), before);
    let hardware = Function::new(&domain.machine.bridge, port.sbdf());
    let bar = Register::<u32>::at(0x10);
    let address = hardware.read(bar);
    port.write(bar, 0xffff_ffff);
    assert_eq!(port.read(bar), 0xffff_f000);
    assert_eq!(hardware.read(bar), address);
}

#[test]
fn isolation_is_not_turned_off() {
    let domain = Domain::new(machines::both().remove(0));
    for name in ["00:00.0", "02:00.0"] {
        let acs = domain.device(name).acs.unwrap();
        let at = |bytes| Register::<u16>::new(acs.offset.checked_add(bytes).unwrap()).unwrap();
        let port = domain.function(name);
        port.write(at(6), 0);
        assert_eq!(port.read(at(6)), acs.enabled.bits());
    }
}

#[test]
fn bars_keep_their_sizes() {
    let domain = one(samples::gpu().with_resizable_bar(1));
    let device = domain.device("01:00.0");
    let at = device.find_extended(pci_host::capability::ExtendedCapabilityId::RESIZABLE_BAR);
    let control = Register::<u32>::new(at.unwrap().checked_add(8).unwrap()).unwrap();
    let card = domain.function("01:00.0");
    let before = card.read(control);
    card.write(control, before ^ 0x0f00);
    assert_eq!(card.read(control), before);
}

#[test]
fn virtual_functions_are_told_of_and_stay_while_others_have_some() {
    let domain = one(samples::igb());
    let device = domain.device("01:00.0").clone();
    let card = domain.function("01:00.0");
    let at = device.sr_iov.unwrap().offset;
    let register = |bytes| Register::<u16>::new(at.checked_add(bytes).unwrap()).unwrap();
    let take = || {
        let mut functions = domain.functions.borrow_mut();
        let function = functions.get_mut(device.sbdf).unwrap();
        function.take_virtual_functions(&domain.machine.bridge, &device)
    };
    assert_eq!(take(), None);
    card.write(register(0x10), 3);
    card.write(register(0x08), 9);
    let placement = take().unwrap();
    assert_eq!(placement.count, 3);
    assert_eq!(placement.requester(id("01:00.0"), 2), Some(id("02:10.4")));
    domain.depend(
        "01:00.0",
        Dependents {
            behind: false,
            virtual_functions: true,
        },
    );
    card.write(register(0x08), 0);
    assert_eq!(card.read(register(0x08)), 9);
    let express = device.express.unwrap();
    card.write(express.register::<u16>(8).unwrap(), 0x8000);
    let resets = domain
        .machine
        .fabric
        .with(id("01:00.0"), |card| card.resets());
    assert_eq!(resets, Some(0));
}

#[test]
fn virtual_functions_are_mapped_as_long_as_they_are_there() {
    let domain = one(samples::igb());
    let physical = domain.device("01:00.0").clone();
    let card = domain.function("01:00.0");
    let sr_iov = physical.sr_iov.unwrap();
    let register = |at| Register::<u16>::new(sr_iov.offset.checked_add(at).unwrap()).unwrap();
    card.write(register(0x10), 2);
    card.write(register(0x08), 9);
    let sbdf: HostSbdf = "02:10.2".parse().unwrap();
    let config = &domain.machine.bridge;
    let device = Device::read_virtual(Function::new(config, sbdf), &physical, 1).unwrap();
    let base = sr_iov.bars[0].unwrap();
    let second = base.address.unwrap() + base.size;
    domain
        .functions
        .borrow_mut()
        .add(HardwareFunction::new(config, &device));
    domain.work(sbdf);
    assert!(domain.is_mapped(second) && !domain.is_mapped(base.address.unwrap()));
    let hits = domain.machine.fabric.memory_hits(second);
    assert_eq!(hits[0].function, sbdf.requester());
    domain
        .functions
        .borrow_mut()
        .get_mut(sbdf)
        .unwrap()
        .withdraw(config);
    let locate = |kind, address, size| domain.locate(kind, address, size);
    let mut functions = domain.functions.borrow_mut();
    let effects = core::iter::from_fn(|| functions.next_effect(config, sbdf, &locate));
    assert!(
        effects
            .into_iter()
            .all(|effect| matches!(effect, Effect::Unmap(_)))
    );
    assert!(functions.get(sbdf).unwrap().is_idle());
}

#[test]
fn registers_that_others_wrote_are_read_again() {
    let domain = one(samples::nvme());
    let disk: HostSbdf = "01:00.0".parse().unwrap();
    let address = domain.device("01:00.0").bars[0].unwrap().address.unwrap();
    // Past the hypervisor, as with a bridge that the domain drives itself.
    let bare = Function::new(&domain.machine.bridge, disk);
    let bar = Register::<u32>::at(0x10);
    bare.write(bar, bare.read(bar) ^ 0x10_0000);
    bare.write(header::COMMAND, Command::MEMORY);
    let refresh = || {
        let mut functions = domain.functions.borrow_mut();
        functions
            .get_mut(disk)
            .unwrap()
            .refresh(&domain.machine.bridge);
    };
    refresh();
    domain.work(disk);
    assert!(domain.is_mapped(address ^ 0x10_0000));
}

/// As Linux does it: what a reset clears is written again, addresses before the command.
#[test]
fn what_a_reset_clears_can_be_restored() {
    let domain = one(samples::nvme());
    let disk = domain.function("01:00.0");
    let device = domain.device("01:00.0").clone();
    let address = device.bars[0].unwrap().address.unwrap();
    disk.write(header::COMMAND, Command::MEMORY | Command::BUS_MASTER);
    let saved: Vec<u32> = (0..16)
        .map(|dword| disk.read(Register::<u32>::at(4 * dword)))
        .collect();
    let express = device.express.unwrap();
    disk.write(express.register::<u16>(8).unwrap(), 0x8000);
    domain.machine.fabric.advance(200_000);
    domain.reset.set(true);
    assert!(!domain.machine.fabric.decodes(disk.sbdf().requester()));
    assert!(!disk.read(header::COMMAND).contains(Command::MEMORY));
    for dword in (0..16).rev() {
        disk.write(Register::<u32>::at(4 * dword), saved[usize::from(dword)]);
    }
    assert!(domain.machine.fabric.decodes(disk.sbdf().requester()));
    assert!(domain.is_mapped(address));
    let hits = domain.machine.fabric.memory_hits(address);
    assert_eq!(hits[0].function, disk.sbdf().requester());
}

#[test]
fn what_is_gone_is_unmapped_and_not_asked() {
    let domain = one(samples::nvme());
    let disk = domain.function("01:00.0");
    disk.write(header::COMMAND, Command::MEMORY);
    domain.machine.fabric.take_seen();
    let function = domain.functions.borrow_mut().remove(disk.sbdf()).unwrap();
    let pieces: Vec<Piece> = function.into_mapped().collect();
    assert_eq!(pieces, *domain.mapped.borrow());
    assert!(domain.machine.fabric.take_seen().is_empty());
}

#[test]
fn a_mapping_that_fails_is_not_tried_for_ever() {
    let domain = one(samples::nvme());
    let disk: HostSbdf = "01:00.0".parse().unwrap();
    let locate = |kind, address, size| domain.locate(kind, address, size);
    let mut functions = domain.functions.borrow_mut();
    let function = functions.get_mut(disk).unwrap();
    let config = &domain.machine.bridge;
    let command = GuestAccess::new(ConfigOffset::new(4).unwrap(), 2).unwrap();
    function.write(config, command, 2);
    let Some(Effect::Map(piece)) = function.next_effect(config, &locate) else {
        panic!("nothing is mapped");
    };
    function.fail(piece);
    assert_eq!(function.next_effect(config, &locate), None);
    function.write(config, command, 2);
    assert_eq!(
        function.next_effect(config, &locate),
        Some(Effect::Map(piece))
    );
    function.withdraw(config);
    assert_eq!(
        function.next_effect(config, &locate),
        Some(Effect::Unmap(piece))
    );
    assert_eq!(function.next_effect(config, &locate), None);
    assert!(!domain.machine.fabric.decodes(disk.requester()));
}

#[test]
fn what_is_hidden_is_absent() {
    let domain = Domain::new(machines::both().remove(0));
    let disk = domain.function("03:00.0");
    assert_eq!(disk.read(header::VENDOR_ID), 0x144d);
    let removed = domain.functions.borrow_mut().remove(disk.sbdf());
    assert_eq!(removed.unwrap().sbdf(), disk.sbdf());
    assert_eq!(disk.read(header::VENDOR_ID), 0xffff);
    let other = domain.function("0001:03:00.0");
    assert_eq!(other.read(header::VENDOR_ID), 0xffff);
    disk.write(header::COMMAND, Command::all());
    assert!(!domain.machine.fabric.decodes(disk.sbdf().requester()));
}

#[test]
fn functions_beside_a_hidden_one_are_still_found() {
    let domain = Domain::new(machines::both().remove(0));
    let (first, second) = (domain.function("04:00.0"), domain.function("04:00.1"));
    domain.functions.borrow_mut().remove(first.sbdf());
    assert_eq!(first.read(header::VENDOR_ID), 0x5853);
    assert!(first.read(header::HEADER_TYPE).is_multifunction());
    assert_eq!(first.read(header::CLASS_REVISION), 0xff00_0000);
    let found = sizing::header(first, Layout::Endpoint);
    assert_eq!(found, sizing::Sizes::default());
    assert_eq!(second.read(header::DEVICE_ID), 0x10c9);
    domain.functions.borrow_mut().remove(second.sbdf());
    assert_eq!(first.read(header::VENDOR_ID), 0xffff);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is written where: what is mapped is what answers, and nothing of others.
    #[test]
    fn what_is_mapped_is_what_answers(
        writes in proptest::collection::vec((0_u16..0x40, 0..3_u32, any::<u32>()), 0..40),
    ) {
        let mut domain = one(samples::e1000e());
        let foreign = HpaRange::new(Hpa::new(0x1000_0000), 0x1000_0000).unwrap();
        domain.foreign = alloc::vec![foreign];
        let disk: HostSbdf = "01:00.0".parse().unwrap();
        for (offset, log, value) in writes {
            let width = Width::from_bytes(1 << log).unwrap();
            let offset = ConfigOffset::new(offset).unwrap();
            let Some(access) = Access::new(offset, width) else { continue };
            domain.write(disk, access, value);
            for piece in domain.mapped.borrow().iter() {
                prop_assert!(!piece.host.overlaps(foreign));
                let memory = piece.bar != 2;
                if memory && piece.bar != 6 {
                    let hits = domain.machine.fabric.memory_hits(piece.host.start().get());
                    let own = |hit: &pci_host::simulated::Hit| hit.function == disk.requester();
                    // The bridge before it may not forward what is elsewhere.
                    prop_assert!(hits.iter().all(own));
                }
            }
        }
        let decodes = domain.machine.fabric.decodes(disk.requester());
        let memory = domain.mapped.borrow().iter().any(|piece| piece.bar != 2);
        prop_assert!(decodes || !memory);
    }
}
