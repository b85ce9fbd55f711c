//! A function's way from the hardware domain to a guest and back, on a simulated machine behind each
//! kind of host bridge: what either finds, what is mapped where, and that nothing is left.

use std::collections::BTreeMap;

use pci_host::bar::Bar;
use pci_host::config::{ConfigAccess, Function};
use pci_host::enumerate::enumerate;
use pci_host::header::{self, Command};
use pci_host::registry::{Owner, Registry, ResetOutcome};
use pci_host::reset::{Progress, Reset, ResetError};
use pci_host::resources::assign;
use pci_host::simulated::machines::{self, Machine};
use pci_host::{Access, ConfigOffset, HostSbdf, Time, Width};
use vpci::GuestSbdf;
use vpci::access::GuestAccess;
use vpci::bus::GuestPci;
use vpci::effect::Effect;
use vpci::guest::{GuestFunction, GuestWindows, Interrupts};
use vpci::hardware::{HardwareFunction, HardwarePci};
use xen_types::{Gpa, GpaRange, HpaRange};

const DISK: &str = "03:00.0";
const WINDOW: u64 = 0x2000_0000;

/// A page table: guest pages to host pages.
type Pages = BTreeMap<u64, u64>;

struct Host {
    machine: Machine,
    registry: Registry<u16>,
    domain: HardwarePci,
    domain_pages: Pages,
    guest: GuestPci,
    guest_pages: Pages,
}

fn sbdf(text: &str) -> HostSbdf {
    text.parse().expect("a constant")
}

fn access(offset: u16, width: Width) -> GuestAccess {
    let offset = ConfigOffset::new(offset).expect("a constant");
    GuestAccess::new(offset, width.bytes()).expect("a constant")
}

fn carry_out(pages: &mut Pages, effect: Effect) {
    let each = |guest: GpaRange, host: HpaRange| {
        let count = guest.size() / 4096;
        (0..count).map(move |page| {
            let guest = guest.start().frame().get() + page;
            (guest, host.start().frame().get() + page)
        })
    };
    match effect {
        Effect::Map(piece) => {
            for (guest, host) in each(piece.guest, piece.host) {
                assert_eq!(pages.insert(guest, host), None, "a page is mapped twice");
            }
        }
        Effect::Unmap(piece) => {
            for (guest, host) in each(piece.guest, piece.host) {
                assert_eq!(pages.remove(&guest), Some(host), "a page was not mapped");
            }
        }
        _ => {}
    }
}

impl Host {
    fn new(machine: Machine) -> Self {
        let mut devices = enumerate(&machine.bridge, &machine.fabric).devices;
        assign(&machine.bridge, &mut devices);
        let mut domain = HardwarePci::default();
        for device in &devices {
            domain.add(HardwareFunction::new(&machine.bridge, device));
        }
        let memory = GpaRange::new(Gpa::new(WINDOW), 0x1000_0000).expect("a constant");
        let windows = GuestWindows {
            memory: vec![memory],
            io: None,
        };
        Self {
            registry: Registry::new(devices, |_| None),
            machine,
            domain,
            domain_pages: Pages::new(),
            guest: GuestPci::new([windows]),
            guest_pages: Pages::new(),
        }
    }

    fn locate(&self) -> impl Fn(&Bar) -> Option<HpaRange> {
        let description = self.machine.bridge.description();
        |bar: &Bar| description.to_host(!bar.kind.is_memory(), bar.address?, bar.size)
    }

    fn domain_write(&mut self, name: &str, offset: u16, width: Width, value: u64) {
        let config = &self.machine.bridge;
        self.domain
            .write(config, sbdf(name), access(offset, width), value);
        self.domain_work(name);
    }

    fn domain_work(&mut self, name: &str) {
        let config = &self.machine.bridge;
        let description = config.description();
        let locate = |kind: pci_host::bar::BarKind, address, size| {
            description.to_host(!kind.is_memory(), address, size)
        };
        while let Some(effect) = self.domain.next_effect(config, sbdf(name), &locate) {
            carry_out(&mut self.domain_pages, effect);
        }
    }

    /// Resets the disk, whoever asks for it.
    fn run(&self, mut reset: Reset) -> Result<(), ResetError> {
        let fabric = &self.machine.fabric;
        loop {
            match reset.step(&self.machine.bridge, Time::now(fabric))? {
                Progress::Wait(time) => fabric.wait(time),
                Progress::Done => return Ok(()),
            }
        }
    }

    fn clean(&mut self) {
        let disk = sbdf(DISK);
        let reset = self.registry.begin_reset(disk, &self.machine.bridge);
        let result = self.run(reset.expect("a disk in quarantine"));
        let outcome = self.registry.end_reset(disk, result);
        assert_eq!(outcome, Ok(ResetOutcome::Clean));
    }

    fn give(&mut self, domain: u16) -> GuestSbdf {
        let disk = sbdf(DISK);
        self.registry.assign(disk, domain).expect("a clean disk");
        let device = self.registry.get(disk).expect("a disk").device();
        let view = GuestFunction::new(&self.machine.bridge, device, Interrupts::ALL, self.locate());
        self.guest.add(0, view).expect("an empty bus")
    }

    fn guest_write(&mut self, name: GuestSbdf, offset: u16, width: Width, value: u64) {
        let config = &self.machine.bridge;
        self.guest.write(config, name, access(offset, width), value);
        self.guest_work(name);
    }

    fn guest_work(&mut self, name: GuestSbdf) {
        while let Some(effect) = self.guest.next_effect(&self.machine.bridge, name) {
            carry_out(&mut self.guest_pages, effect);
            if effect == Effect::Reset {
                let disk = sbdf(DISK);
                let device = self.registry.get(disk).expect("a disk").device();
                let method = self.registry.get(disk).expect("a disk").reset_methods()[0];
                let reset = Reset::new(&self.machine.bridge, method, [device]);
                self.run(reset).expect("a disk that resets");
                let function = self.guest.get_mut(name).expect("a disk");
                function.after_reset(&self.machine.bridge);
            }
        }
    }

    fn resets(&self) -> u32 {
        let disk = sbdf(DISK).requester();
        let resets = self.machine.fabric.with(disk, |disk| disk.resets());
        resets.expect("a disk")
    }

    fn command(&self) -> Command {
        Function::new(&self.machine.bridge, sbdf(DISK)).read(header::COMMAND)
    }
}

#[test]
fn a_disk_goes_to_a_guest_and_comes_back_as_it_was() {
    for machine in machines::both() {
        let mut host = Host::new(machine);
        let vendor = access(0, Width::Dword);
        // In use by the hardware domain.
        host.domain_write(DISK, 4, Width::Word, 6);
        assert_eq!(host.domain_pages.len(), 4);

        // Taken from it.
        let config = &host.machine.bridge;
        let function = host.domain.get_mut(sbdf(DISK)).expect("a disk");
        function.withdraw(config);
        host.domain_work(DISK);
        assert!(host.domain_pages.is_empty());
        let view = host.domain.remove(sbdf(DISK)).expect("a disk");
        host.registry
            .take(sbdf(DISK))
            .expect("a disk of the hardware domain");
        let config = &host.machine.bridge;
        assert_eq!(host.domain.read(config, sbdf(DISK), vendor), 0xffff_ffff);
        host.clean();

        // A guest uses it.
        let name = host.give(5);
        let config = &host.machine.bridge;
        assert_eq!(host.guest.read(config, name, vendor), 0xa808_144d);
        host.guest_write(name, 0x10, Width::Dword, WINDOW);
        host.guest_write(name, 4, Width::Word, 6);
        // All but the page of the table.
        let bar = host.registry.get(sbdf(DISK)).expect("a disk").device().bars[0];
        let first = bar.expect("a BAR").address.expect("an address") >> 12;
        let pages: Vec<_> = host
            .guest_pages
            .iter()
            .map(|(guest, host)| (*guest, *host))
            .collect();
        let expected: Vec<_> = (0..3)
            .map(|page| ((WINDOW >> 12) + page, first + page))
            .collect();
        assert_eq!(pages, expected);
        assert_eq!(host.command(), Command::MEMORY | Command::BUS_MASTER);

        // It resets it.
        let resets = host.resets();
        let device = host.registry.get(sbdf(DISK)).expect("a disk").device();
        let express = device.express.expect("PCI Express").offset.get();
        host.guest_write(name, express + 8, Width::Word, 0x8000);
        assert_eq!(host.resets(), resets + 1);
        assert!(host.guest_pages.is_empty());
        host.guest_write(name, 0x10, Width::Dword, WINDOW + 0x10_0000);
        host.guest_write(name, 4, Width::Word, 6);
        assert_eq!(host.guest_pages.len(), 3);

        // And is destroyed.
        let config = &host.machine.bridge;
        host.guest.get_mut(name).expect("a disk").withdraw(config);
        host.guest_work(name);
        assert!(host.guest_pages.is_empty());
        assert!(!host.command().contains(Command::BUS_MASTER));
        host.guest.remove(name).expect("nothing is mapped");
        host.registry
            .release(sbdf(DISK), 5)
            .expect("the guest's disk");
        assert!(
            host.registry.give_back(sbdf(DISK)).is_err(),
            "not before it is reset"
        );
        host.clean();

        // The hardware domain has it again, where it was.
        host.registry.give_back(sbdf(DISK)).expect("a clean disk");
        host.domain.add(view);
        let config = &host.machine.bridge;
        host.domain
            .get_mut(sbdf(DISK))
            .expect("a disk")
            .refresh(config);
        host.domain_write(DISK, 4, Width::Word, 6);
        let pages: Vec<_> = host.domain_pages.keys().copied().collect();
        assert_eq!(pages, (first..first + 4).collect::<Vec<_>>());
        let owner = host.registry.get(sbdf(DISK)).expect("a disk").owner();
        assert_eq!(owner, Owner::HardwareDomain);
    }
}

/// Hardware that gives random answers changes nothing of what was decided by earlier ones.
#[test]
fn xsa_337_a_device_that_lies_later_is_where_it_was() {
    let mut host = Host::new(machines::both().remove(0));
    host.registry.take(sbdf(DISK)).expect("a disk");
    host.clean();
    let name = host.give(1);
    let lie = pci_host::simulated::Lie::Random(7);
    host.machine
        .fabric
        .with(sbdf(DISK).requester(), |disk| disk.set_lie(lie));
    host.guest_write(name, 0x10, Width::Dword, WINDOW);
    host.guest_write(name, 4, Width::Word, 2);
    let bar = host.registry.get(sbdf(DISK)).expect("a disk").device().bars[0];
    let first = bar.expect("a BAR").address.expect("an address") >> 12;
    let pages: Vec<_> = host.guest_pages.values().copied().collect();
    assert_eq!(pages, [first, first + 1, first + 2]);
    let id = Access::dword(ConfigOffset::new(0).expect("a constant"));
    assert_ne!(host.machine.bridge.read(sbdf(DISK), id), 0xa808_144d);
    let seen = host
        .guest
        .read(&host.machine.bridge, name, access(0, Width::Dword));
    assert_eq!(seen, 0xa808_144d);
}
