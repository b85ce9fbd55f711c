//! The domains, and the rules that hold whatever happens.

use std::cell::RefCell;

use xen_abi::DomId;
use xen_core::its::command::{Command, Words};
use xen_core::its::layout::{
    GITS_BASER, GITS_CBASER, GITS_CREADR, GITS_CTLR, GITS_CWRITER, QUEUE_OFFSET,
};
use xen_core::its::{DeviceId, EventId, Owner, Target};
use xen_core::vgic::lr::{Format as _, GicV3, ListRegisters};
use xen_core::vgic::{
    Access, BadAddress, CpuId, Direction, Effects, GuestMemory, Region, Version, Vgic, Width,
};
use xen_core::vits::{Config, GuestDeviceId, HostDevice, Offer, Outside, Step as Made, Vits};
use xen_types::{Gpa, IntId};

use super::host::{CPUS, DEVICES, FIRST_DEVICE, Host, HostLocks};
use super::steps::Step;

const RAM: u64 = 0x4800_0000;
const RAM_BYTES: usize = 0x4000;
/// The command queue, and behind it the configuration of LPIs.
const QUEUE_BYTES: u64 = 0x1000;
const CONFIGURATION: u64 = RAM + QUEUE_BYTES;

const ID_BITS: u8 = 14;
/// The device that the second domain is given; the first is offered all that it has.
const GIVEN: GuestDeviceId = GuestDeviceId(8);
const GIVEN_EVENTS: u32 = 12;
/// More steps than any command takes: it looks at 64 events of some devices with 2048 events, or at
/// 512 of 8192 LPIs.
const MOST_STEPS: usize = 4096;
/// The list register is pending.
const PENDING: u64 = 1 << 62;

/// A domain's RAM.
struct Memory {
    bytes: RefCell<Vec<u8>>,
    absent: bool,
}

impl GuestMemory for Memory {
    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), BadAddress> {
        let bytes = self.bytes.borrow();
        let start = at.get().checked_sub(RAM).map(|offset| offset as usize);
        let range = start.and_then(|start| bytes.get(start..start.checked_add(into.len())?));
        into.copy_from_slice(range.filter(|_| !self.absent).ok_or(BadAddress(at))?);
        Ok(())
    }
}

impl Memory {
    fn write(&self, offset: usize, value: u64) {
        let mut bytes = self.bytes.borrow_mut();
        if let Some(word) = bytes.get_mut(offset..offset + 8) {
            word.copy_from_slice(&value.to_le_bytes());
        }
    }
}

struct Domain {
    number: usize,
    memory: Memory,
    vits: Vits,
    vgic: Vgic<HostLocks>,
    list_registers: Vec<ListRegisters<GicV3>>,
    /// How many steps its ITS makes when something happens; as many as it likes if `None`.
    pace: Option<u8>,
}

pub struct World {
    host: Host,
    domains: [Domain; 2],
}

fn cpu(number: usize) -> CpuId {
    CpuId::new(number % usize::from(CPUS)).unwrap()
}

impl Domain {
    /// One whose driver has set its ITS up, with a collection for each vCPU.
    fn new(number: usize, host: &mut Host) -> Self {
        let mut vgic = Vgic::new(Version::V3, CPUS.into(), 32).unwrap();
        vgic.offer_lpis(ID_BITS).unwrap();
        let config = Config {
            cpus: CPUS.into(),
            lpis: vgic.lpis(),
            device_bits: 16,
        };
        let mut bytes = vec![0; RAM_BYTES];
        bytes[QUEUE_BYTES as usize..].fill(0xa1);
        let mut domain = Self {
            number,
            memory: Memory {
                bytes: RefCell::new(bytes),
                absent: false,
            },
            vits: Vits::new(config).unwrap(),
            list_registers: (0..CPUS).map(|_| ListRegisters::new(4)).collect(),
            vgic,
            pace: None,
        };
        domain.set_up_lpis();
        let valid = 1 << 63;
        domain.store(GITS_BASER, valid | 0x4900_0000);
        domain.store(GITS_BASER + 8, valid | 0x4a00_0000);
        domain.store(GITS_CBASER, valid | RAM);
        domain.access(GITS_CTLR, Width::Word, Direction::Write(1));
        for number in 0..CPUS {
            let target = Some(Target::of_number(number));
            let collection = xen_core::its::CollectionId(number);
            domain.queue(Command::Mapc { collection, target }.encode());
        }
        domain.go_on(host);
        domain
    }

    fn set_up_lpis(&mut self) {
        let mut effects = Effects::new();
        let mut store = |region, offset, width, value| {
            let direction = Direction::Write(value);
            let access = Access {
                offset,
                width,
                direction,
            };
            self.vgic.access(cpu(0), region, access, &mut effects);
        };
        store(Region::Distributor, 0, Width::Word, 0b11);
        let configuration = CONFIGURATION | u64::from(ID_BITS - 1);
        store(Region::Redistributors, 0x70, Width::Double, configuration);
        for number in 0..u32::from(CPUS) {
            store(Region::Redistributors, number << 17, Width::Word, 1);
        }
        while self.vgic.continue_lpis(&self.memory, &mut effects) {}
    }

    fn access(&mut self, offset: u32, width: Width, direction: Direction) -> u64 {
        self.vits.access(Access {
            offset,
            width,
            direction,
        })
    }

    fn store(&mut self, offset: u32, value: u64) {
        self.access(offset, Width::Double, Direction::Write(value));
    }

    fn load(&mut self, offset: u32) -> u64 {
        self.access(offset, Width::Double, Direction::Read)
    }

    /// Puts a command where the next one belongs, and tells of it.
    fn queue(&mut self, words: Words) {
        let offset = self.load(GITS_CWRITER) & QUEUE_OFFSET;
        for (place, word) in (offset as usize..).step_by(8).zip(words) {
            self.memory.write(place, word);
        }
        self.store(GITS_CWRITER, (offset + 32) % QUEUE_BYTES);
    }

    /// Commands that are in the queue.
    fn waiting(&mut self) -> usize {
        let bytes = ((self.load(GITS_CBASER) & 0xff) + 1) * QUEUE_BYTES;
        let ahead = self.load(GITS_CWRITER) & QUEUE_OFFSET;
        let behind = self.load(GITS_CREADR) & QUEUE_OFFSET;
        ((ahead + bytes - behind) % bytes / 32) as usize
    }

    /// Executes commands.
    fn go_on(&mut self, host: &mut Host) {
        // One may be under way, and has not been read past.
        let most = match self.pace {
            Some(steps) => steps.into(),
            None => (self.waiting() + 1) * MOST_STEPS,
        };
        for _ in 0..most {
            match self.vits.step(&self.memory) {
                Made::Idle => return,
                Made::Again => {}
                Made::Effect(effect) => self.carry_out(host, effect),
            }
        }
        assert!(self.pace.is_some(), "commands without end");
    }

    fn carry_out(&mut self, host: &mut Host, effect: xen_core::vits::Effect) {
        let outside = Outside {
            domain: DomId::new(self.number as u16),
            vgic: &self.vgic,
            memory: &self.memory,
            services: &host.services,
            place_of: CpuId::get,
        };
        let mut machine = host.machine.clone();
        let done = outside.carry_out(&mut self.vits, effect, &mut machine, &mut Effects::new());
        host.accept(done);
    }

    /// A vCPU runs, and acknowledges all that it can.
    fn take(&mut self, number: usize) {
        let registers = &mut self.list_registers[number % usize::from(CPUS)];
        self.vgic
            .refresh(cpu(number), registers, &mut Effects::new());
        for register in registers.used_mut() {
            let said = GicV3::decode(*register).unwrap();
            let IntId::Lpi(lpi) = said.id else {
                panic!("{:?}", said.id);
            };
            assert!(lpi.number() < self.vgic.lpis());
            *register &= !PENDING;
        }
    }

    fn interrupt(&self, owner: Owner) {
        self.vgic.raise_lpi(owner.lpi, &mut Effects::new());
    }

    /// Gives the domain what it has from the beginning.
    fn give(&mut self, host: &mut Host) {
        let its = self.number;
        if its == 0 {
            let offer = Offer {
                first: GuestDeviceId(0),
                last: GuestDeviceId(DEVICES - 1),
                its,
                host: DeviceId(FIRST_DEVICE),
            };
            self.vits.offer(offer).unwrap();
            return;
        }
        let device = DeviceId(FIRST_DEVICE + GIVEN.0);
        let attached = host
            .services
            .attach(&mut host.machine, its, device, GIVEN_EVENTS);
        match attached {
            Ok(lpis) => {
                let given = HostDevice {
                    its,
                    device,
                    first_event: EventId(0),
                    lpis,
                };
                self.vits.add_device(GIVEN, given).unwrap();
            }
            Err(error) => assert!(host.has_hung, "{error}"),
        }
    }

    /// Takes all devices away, whatever the domain is doing.
    fn take_away(&mut self, host: &mut Host) {
        for id in (0..DEVICES).map(GuestDeviceId) {
            if self.number == 0 {
                self.vits.withdraw(id).unwrap();
            }
            while let Some(effect) = self.vits.revoke_next(id) {
                self.carry_out(host, effect);
            }
            if let Ok(HostDevice {
                its, device, lpis, ..
            }) = self.vits.remove_device(id)
            {
                let gone = host.services.detach(&mut host.machine, its, device, lpis);
                assert!(gone.is_ok() || host.has_hung, "{gone:?}");
            }
        }
    }
}

impl World {
    pub fn new() -> Self {
        let mut host = Host::new();
        let domains = [0, 1].map(|number| {
            let mut domain = Domain::new(number, &mut host);
            domain.give(&mut host);
            domain
        });
        Self { host, domains }
    }

    pub fn make(&mut self, step: Step) {
        let Self { host, domains } = self;
        match step {
            Step::Command(which, command) => {
                let domain = &mut domains[which.index()];
                domain.queue(command.0.encode());
                domain.go_on(host);
            }
            Step::Bytes(which, words) => {
                let domain = &mut domains[which.index()];
                domain.queue(words);
                domain.go_on(host);
            }
            Step::Register(which, place, width, value) => {
                let domain = &mut domains[which.index()];
                let width =
                    [Width::Byte, Width::Half, Width::Word, Width::Double][usize::from(width % 4)];
                let direction = value.map_or(Direction::Read, Direction::Write);
                domain.access(place.0, width, direction);
                domain.go_on(host);
            }
            Step::Write(which, offset, value) => {
                let offset = (usize::from(offset) % RAM_BYTES) & !7;
                domains[which.index()].memory.write(offset, value);
            }
            Step::Memory(which) => domains[which.index()].memory.absent ^= true,
            Step::Pause(which, steps) => {
                domains[which.index()].pace = Some(steps).filter(|steps| *steps < 32);
            }
            Step::Take(which, number) => domains[which.index()].take(number.into()),
            Step::Message(which, device, event) => {
                let domain = which.index();
                for owner in host.message(domain, device.into(), event.into()) {
                    domains[domain].interrupt(owner);
                }
            }
            Step::Reassign(which) => {
                let domain = &mut domains[which.index()];
                domain.take_away(host);
                domain.give(host);
            }
            Step::Hang(which) => host.hang(which.index()),
        }
    }

    /// All is finished and taken away.
    pub fn end(mut self) {
        self.host.recover();
        for domain in &mut self.domains {
            domain.pace = None;
            domain.memory.absent = false;
            domain.go_on(&mut self.host);
            domain.take_away(&mut self.host);
            for number in 0..CPUS.into() {
                while domain.vgic.has_news(cpu(number)) {
                    domain.take(number);
                }
            }
        }
        for device in 0..DEVICES {
            for event in 0..16 {
                let own = self.host.message(0, device, event);
                assert!(own.is_empty() || self.host.has_hung);
            }
        }
        self.host.end();
    }
}
