//! A domain whose CPUs have simulated virtual CPU interfaces (IHI 0069, 4.5): they take and end
//! interrupts in list registers, and ask for maintenance as real ones do.

extern crate std;

use std::collections::BTreeMap;
use std::vec::Vec;

use xen_types::{IntId, Spi};

use super::super::lr::{Backing, Format, ListRegister, ListRegisters};
use super::super::{
    Access, CpuId, Direction, Effects, Physical, Region, SgiRegister, Version, Vgic, Width,
};
use super::HostLocks;

/// A physical interrupt.
#[derive(Clone, Copy, Default, Debug)]
pub struct Line {
    pub enabled: bool,
    pub active: bool,
}

pub struct Machine<F: Format> {
    pub vgic: Vgic<HostLocks>,
    pub registers: Vec<ListRegisters<F>>,
    unlisted_ends: Vec<u32>,
    /// What the hypervisor was told that the guest is done with.
    pub ended: Vec<Spi>,
    /// Private physical interrupts are those of the vCPU's own physical CPU.
    pub physical: BTreeMap<(usize, IntId), Line>,
    pub exits: usize,
    /// List registers are synced and then flushed, rather than refreshed in one step.
    pub two_steps: bool,
}

pub fn cpu_id(cpu: usize) -> CpuId {
    CpuId::new(cpu).unwrap()
}

impl<F: Format> Machine<F> {
    pub fn new(version: Version, cpus: usize, list_registers: usize) -> Self {
        Self {
            vgic: Vgic::new(version, cpus, 96).unwrap(),
            registers: (0..cpus)
                .map(|_| ListRegisters::new(list_registers))
                .collect(),
            unlisted_ends: std::vec![0; cpus],
            ended: Vec::new(),
            physical: BTreeMap::new(),
            exits: 0,
            two_steps: false,
        }
    }

    /// One whose guest has LPIs, 8192 of them.
    pub fn with_lpis(cpus: usize, list_registers: usize) -> Self {
        let mut machine = Self::new(Version::V3, cpus, list_registers);
        machine.vgic.offer_lpis(14).unwrap();
        machine
    }

    fn physical_at(&mut self, cpu: usize, id: IntId) -> &mut Line {
        let cpu = if matches!(id, IntId::Spi(_)) { 0 } else { cpu };
        self.physical.entry((cpu, id)).or_default()
    }

    /// Carries effects out. `cpu` is the one that caused them.
    pub fn carry_out(&mut self, cpu: usize, mut effects: Effects) {
        let kicks = effects.take_kicks();
        let requests: Vec<_> = effects.take_physical().collect();
        for request in requests {
            match request {
                Physical::Enable(id) => self.physical_at(cpu, id).enabled = true,
                Physical::Disable(id) => self.physical_at(cpu, id).enabled = false,
                Physical::Deactivate(id) => self.physical_at(cpu, id).active = false,
                Physical::Configure(..) => {}
                Physical::Ended(spi) => self.ended.push(spi),
            }
        }
        // A CPU that is kicked exits at once.
        for kicked in kicks {
            assert!(self.vgic.has_news(kicked), "a kick without news");
            self.service(kicked.get());
        }
    }

    pub fn decoded(&self, cpu: usize) -> Vec<ListRegister> {
        let used = self.registers[cpu].used().iter();
        used.map(|value| F::decode(*value).unwrap()).collect()
    }

    fn store(&mut self, cpu: usize, index: usize, register: &ListRegister) {
        self.registers[cpu].used_mut()[index] = F::encode(register);
    }

    fn needs_maintenance(&self, cpu: usize) -> bool {
        let hcr = self.registers[cpu].hcr();
        let decoded = self.decoded(cpu);
        let valid = decoded
            .iter()
            .filter(|register| register.pending || register.active)
            .count();
        let ended = decoded.iter().any(|register| {
            let notifies = matches!(
                register.backing,
                Backing::Software {
                    notify_end: true,
                    ..
                }
            );
            !register.pending && !register.active && notifies
        });
        ended || hcr & 1 << 1 != 0 && valid <= 1 || hcr & 1 << 2 != 0 && self.unlisted_ends[cpu] > 0
    }

    /// What the hardware has counted.
    fn read_back(&mut self, cpu: usize) {
        let ends = core::mem::take(&mut self.unlisted_ends[cpu]);
        self.registers[cpu].set_hcr(ends << 27);
    }

    pub fn sync(&mut self, cpu: usize) {
        self.read_back(cpu);
        let mut effects = Effects::new();
        self.vgic
            .sync(cpu_id(cpu), &mut self.registers[cpu], &mut effects);
        assert!(self.registers[cpu].used().is_empty());
        self.carry_out(cpu, effects);
    }

    /// What happens between exit and entry.
    pub fn service(&mut self, cpu: usize) {
        if !self.vgic.has_news(cpu_id(cpu)) && !self.needs_maintenance(cpu) {
            return;
        }
        self.read_back(cpu);
        let mut effects = Effects::new();
        let (id, registers) = (cpu_id(cpu), &mut self.registers[cpu]);
        if self.two_steps {
            self.vgic.sync(id, registers, &mut effects);
            self.vgic.flush(id, registers);
        } else {
            self.vgic.refresh(id, registers, &mut effects);
        }
        self.carry_out(cpu, effects);
        self.exits += 1;
        assert!(!self.vgic.has_news(cpu_id(cpu)));
        assert!(
            !self.needs_maintenance(cpu),
            "the guest would exit without end"
        );
        self.check_list_registers(cpu);
    }

    /// Nothing is twice in list registers, and what is pending there is enabled.
    fn check_list_registers(&self, cpu: usize) {
        let decoded = self.decoded(cpu);
        for (index, register) in decoded.iter().enumerate() {
            assert!(decoded[..index].iter().all(|other| other.id != register.id));
            let irq = match register.id {
                IntId::Lpi(_) => {
                    assert!(register.pending && !register.active);
                    continue;
                }
                IntId::Spi(spi) => self.vgic.shared(spi),
                id => self.vgic.private(cpu_id(cpu), id),
            };
            let irq = irq.unwrap();
            assert!(!register.pending || irq.is_enabled());
            assert!(register.pending || register.active);
            let linked = matches!(register.backing, Backing::Hardware(_));
            assert!(!(linked && register.pending && register.active));
        }
    }

    /// The guest reads its acknowledge register: the interrupt and its source.
    pub fn acknowledge(&mut self, cpu: usize, running: u16) -> Option<(u32, usize)> {
        self.service(cpu);
        let (index, mut register) = self
            .decoded(cpu)
            .into_iter()
            .enumerate()
            .filter(|(_, register)| register.pending && u16::from(register.priority) < running)
            .min_by_key(|(_, register)| register.priority)?;
        assert!(!register.active, "an active interrupt preempts itself");
        register.pending = false;
        // LPIs have no active state.
        register.active = !matches!(register.id, IntId::Lpi(_));
        self.store(cpu, index, &register);
        let source = match register.backing {
            Backing::Software { source, .. } => source.into(),
            Backing::Hardware(_) => 0,
        };
        Some((register.id.get(), source))
    }

    /// The guest writes its end-of-interrupt register.
    pub fn end(&mut self, cpu: usize, intid: u32, source: usize) {
        self.service(cpu);
        if intid >= 8192 {
            // Its list register is free already, and the end is not counted (12.4.3, EOIcount).
            return;
        }
        let matching = self
            .decoded(cpu)
            .into_iter()
            .enumerate()
            .find(|(_, register)| {
                let from = match register.backing {
                    Backing::Software { source, .. } if intid < 16 => source.into(),
                    _ => source,
                };
                register.id.get() == intid && register.active && from == source
            });
        let Some((index, mut register)) = matching else {
            self.unlisted_ends[cpu] += 1;
            self.service(cpu);
            return;
        };
        register.active = false;
        self.store(cpu, index, &register);
        if let Backing::Hardware(id) = register.backing {
            self.physical_at(cpu, id).active = false;
        }
        // The maintenance interrupt, if any, comes at once.
        self.service(cpu);
    }

    /// A load or store of the guest.
    pub fn access(&mut self, cpu: usize, region: Region, access: Access) -> u64 {
        if self.vgic.is_about_state(region, access.offset) {
            self.sync(cpu);
        }
        let mut effects = Effects::new();
        let value = self.vgic.access(cpu_id(cpu), region, access, &mut effects);
        self.carry_out(cpu, effects);
        value
    }

    pub fn write(&mut self, cpu: usize, region: Region, offset: u32, width: Width, value: u64) {
        self.access(
            cpu,
            region,
            Access {
                offset,
                width,
                direction: Direction::Write(value),
            },
        );
    }

    pub fn read(&mut self, cpu: usize, region: Region, offset: u32, width: Width) -> u64 {
        self.access(
            cpu,
            region,
            Access {
                offset,
                width,
                direction: Direction::Read,
            },
        )
    }

    /// Where the registers of an interrupt are, for this CPU.
    fn frame(&self, cpu: usize, intid: u32) -> (Region, u32) {
        if self.vgic.version() == Version::V3 && intid < 32 {
            (Region::Redistributors, cpu as u32 * 0x2_0000 + 0x1_0000)
        } else {
            (Region::Distributor, 0)
        }
    }

    /// Writes the bit of an interrupt in a register with a bit each.
    pub fn write_bit(&mut self, cpu: usize, register: u32, intid: u32) {
        let (region, base) = self.frame(cpu, intid);
        let offset = base + register + intid / 32 * 4;
        self.write(cpu, region, offset, Width::Word, 1 << (intid % 32));
    }

    /// Reads the bit of an interrupt in a register with a bit each.
    pub fn read_bit(&mut self, cpu: usize, register: u32, intid: u32) -> bool {
        let (region, base) = self.frame(cpu, intid);
        let offset = base + register + intid / 32 * 4;
        self.read(cpu, region, offset, Width::Word) >> (intid % 32) & 1 != 0
    }

    pub fn write_priority(&mut self, cpu: usize, intid: u32, priority: u8) {
        let (region, base) = self.frame(cpu, intid);
        self.write(
            cpu,
            region,
            base + 0x400 + intid,
            Width::Byte,
            priority.into(),
        );
    }

    pub fn write_edge(&mut self, cpu: usize, intid: u32, edge: bool) {
        let (region, base) = self.frame(cpu, intid);
        let offset = base + 0xc00 + intid / 16 * 4;
        let shift = intid % 16 * 2;
        let others = self.read(cpu, region, offset, Width::Word) & !(0b11 << shift);
        let value = others | u64::from(edge) << (shift + 1);
        self.write(cpu, region, offset, Width::Word, value);
    }

    pub fn write_groups(&mut self, cpu: usize, on: bool) {
        self.write(
            cpu,
            Region::Distributor,
            0,
            Width::Word,
            if on { 0b11 } else { 0 },
        );
    }

    pub fn send_sgi(&mut self, cpu: usize, sgi: u32, targets: u8) {
        match self.vgic.version() {
            Version::V2 => {
                let value = u64::from(targets) << 16 | u64::from(sgi);
                self.write(cpu, Region::Distributor, 0xf00, Width::Word, value);
            }
            Version::V3 => {
                let value = u64::from(sgi) << 24 | u64::from(targets);
                let mut effects = Effects::new();
                self.vgic
                    .send_sgi(cpu_id(cpu), SgiRegister::Sgi1, value, &mut effects);
                self.carry_out(cpu, effects);
            }
        }
    }

    pub fn set_line(&mut self, cpu: usize, intid: u32, level: bool) {
        let mut effects = Effects::new();
        match IntId::new(intid).unwrap() {
            IntId::Spi(spi) => self.vgic.set_line(spi, level, &mut effects),
            IntId::Ppi(ppi) => self
                .vgic
                .set_private_line(cpu_id(cpu), ppi, level, &mut effects),
            IntId::Sgi(_) | IntId::Lpi(_) => panic!("it has no input"),
        }
        self.carry_out(cpu, effects);
    }

    pub fn inject(&mut self, cpu: usize, intid: u32) {
        let mut effects = Effects::new();
        match IntId::new(intid).unwrap() {
            IntId::Spi(spi) => self.vgic.inject(spi, &mut effects),
            IntId::Ppi(ppi) => self.vgic.inject_private(cpu_id(cpu), ppi, &mut effects),
            IntId::Sgi(_) | IntId::Lpi(_) => panic!("it has no input"),
        }
        self.carry_out(cpu, effects);
    }

    pub fn link(&mut self, cpu: usize, intid: u32, physical: IntId) {
        let mut effects = Effects::new();
        match IntId::new(intid).unwrap() {
            IntId::Spi(spi) => self.vgic.link(spi, physical, &mut effects).unwrap(),
            IntId::Ppi(ppi) => self
                .vgic
                .link_private(cpu_id(cpu), ppi, physical, &mut effects)
                .unwrap(),
            IntId::Sgi(_) | IntId::Lpi(_) => panic!("it is not linked"),
        }
        self.carry_out(cpu, effects);
    }

    /// A linked physical interrupt fires, if it can. Returns whether it did.
    pub fn arrive(&mut self, cpu: usize, intid: u32, physical: IntId) -> bool {
        let line = self.physical_at(cpu, physical);
        if !line.enabled || line.active {
            return false;
        }
        line.active = true;
        self.inject(cpu, intid);
        true
    }
}
