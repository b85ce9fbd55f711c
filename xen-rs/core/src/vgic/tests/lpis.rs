//! LPIs: configured in guest memory, raised by messages, taken once.

extern crate std;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use xen_types::{Gpa, Lpi};

use super::super::lr::GicV3;
use super::super::{
    BadAddress, CpuId, CreateError, Effects, GuestMemory, Region, Version, Vgic, Width,
};
use super::HostLocks;
use super::machine::{Machine, cpu_id};

const IDLE: u16 = 0x100;
/// Where the guest has its tables.
const CONFIGURATION: u64 = 0x4100_0000;
const PENDING: u64 = 0x4200_0000;

const CTLR: u32 = 0x0;
const PROPBASER: u32 = 0x70;
const PENDBASER: u32 = 0x78;

/// Bytes of guest memory that are not zero, and how many were read.
#[derive(Default)]
struct Memory {
    bytes: BTreeMap<u64, u8>,
    read: RefCell<usize>,
    absent: bool,
}

impl GuestMemory for Memory {
    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), BadAddress> {
        *self.read.borrow_mut() += into.len();
        for (address, byte) in (at.get()..).zip(into) {
            *byte = self.bytes.get(&address).copied().unwrap_or(0);
        }
        if self.absent {
            Err(BadAddress(at))
        } else {
            Ok(())
        }
    }
}

struct Rig {
    machine: Machine<GicV3>,
    memory: Memory,
}

fn lpi(number: u32) -> Lpi {
    Lpi::new(number).unwrap()
}

impl Rig {
    /// A guest that has told where its tables are.
    fn new(cpus: usize, list_registers: usize) -> Self {
        let mut machine = Machine::with_lpis(cpus, list_registers);
        machine.write_groups(0, true);
        let mut rig = Self {
            machine,
            memory: Memory::default(),
        };
        rig.write(0, PROPBASER, CONFIGURATION | 13);
        for cpu in 0..cpus {
            rig.write(cpu, PENDBASER, PENDING + cpu as u64 * 0x1_0000);
        }
        rig
    }

    /// One that has enabled LPIs, too.
    fn enabled(cpus: usize, list_registers: usize) -> Self {
        let mut rig = Self::new(cpus, list_registers);
        for cpu in 0..cpus {
            rig.enable(cpu, true);
        }
        rig
    }

    fn write(&mut self, cpu: usize, offset: u32, value: u64) {
        let offset = (cpu as u32) << 17 | offset;
        self.machine
            .write(cpu, Region::Redistributors, offset, Width::Double, value);
    }

    fn read(&mut self, cpu: usize, offset: u32) -> u64 {
        let offset = (cpu as u32) << 17 | offset;
        let region = Region::Redistributors;
        let width = if offset & 0xffff == CTLR {
            Width::Word
        } else {
            Width::Double
        };
        self.machine.read(cpu, region, offset, width)
    }

    fn enable(&mut self, cpu: usize, on: bool) {
        let offset = (cpu as u32) << 17 | CTLR;
        let region = Region::Redistributors;
        self.machine
            .write(cpu, region, offset, Width::Word, on.into());
        self.work();
    }

    /// Finishes what enabling takes; returns in how many parts.
    fn work(&mut self) -> usize {
        let mut parts = 0;
        while self.machine.vgic.has_lpi_work() {
            self.change(|vgic, memory, effects| {
                vgic.continue_lpis(memory, effects);
            });
            parts += 1;
        }
        parts
    }

    fn change<R>(&mut self, call: impl FnOnce(&Vgic<HostLocks>, &Memory, &mut Effects) -> R) -> R {
        let mut effects = Effects::new();
        let result = call(&self.machine.vgic, &self.memory, &mut effects);
        self.machine.carry_out(0, effects);
        result
    }

    fn set_byte(&mut self, number: u32, byte: u8) {
        let at = CONFIGURATION + u64::from(number);
        self.memory.bytes.insert(at, byte);
    }

    fn map(&mut self, number: u32, cpu: usize, byte: u8) {
        self.set_byte(number, byte);
        self.change(|vgic, memory, effects| {
            vgic.map_lpi(lpi(number), cpu_id(cpu), memory, effects);
        });
    }

    fn raise(&mut self, number: u32) {
        self.change(|vgic, _, effects| vgic.raise_lpi(lpi(number), effects));
    }

    fn reload(&mut self, number: u32) -> bool {
        self.change(|vgic, memory, effects| vgic.reload_lpi(lpi(number), memory, effects))
    }

    /// Takes and ends the most urgent interrupt.
    fn take(&mut self, cpu: usize) -> Option<u32> {
        let (intid, source) = self.machine.acknowledge(cpu, IDLE)?;
        self.machine.end(cpu, intid, source);
        Some(intid)
    }
}

#[test]
fn lpis_are_offered_as_the_specification_has_it() {
    let mut rig = Rig::new(2, 4);
    let typer = rig.machine.read(0, Region::Distributor, 4, Width::Word);
    assert_eq!(typer >> 19 & 0x1f, 13);
    assert_eq!(typer >> 17 & 1, 1);
    assert_eq!(rig.read(1, 8), 1 << 32 | 1 << 8 | 1 << 4 | 1);
    assert_eq!(rig.machine.vgic.lpis(), 8192);
    assert_eq!(rig.read(0, CTLR), 2);
    rig.enable(0, true);
    assert_eq!(rig.read(0, CTLR), 3);
    // The tables stay while they are used; those of others can still be set.
    rig.write(1, PROPBASER, 0);
    rig.write(0, PENDBASER, 0);
    rig.write(1, PENDBASER, 1 << 62 | 0x1_0000);
    let coherent = 7 << 7 | 1 << 10;
    assert_eq!(rig.read(0, PROPBASER), CONFIGURATION | coherent | 13);
    assert_eq!(rig.read(0, PENDBASER), PENDING | coherent);
    assert_eq!(rig.read(1, PENDBASER), 0x1_0000 | coherent);
    let new = |version, id_bits| {
        let mut vgic: Vgic<HostLocks> = Vgic::new(version, 1, 32).unwrap();
        vgic.offer_lpis(id_bits)
    };
    assert_eq!(new(Version::V2, 14), Err(CreateError::Lpis(14)));
    assert_eq!(new(Version::V3, 13), Err(CreateError::Lpis(13)));
    assert_eq!(new(Version::V3, 17), Err(CreateError::Lpis(17)));
    assert_eq!(new(Version::V3, 16), Ok(()));
}

#[test]
fn a43e2b02df_the_tables_can_be_set_in_halves() {
    let mut rig = Rig::new(1, 4);
    for (offset, value) in [
        (PENDBASER, 0x1234_0000),
        (PENDBASER + 4, 0x5),
        (PROPBASER + 4, 0x6),
        (PROPBASER, 0x4321_000d),
    ] {
        rig.machine
            .write(0, Region::Redistributors, offset, Width::Word, value);
    }
    let coherent = 7 << 7 | 1 << 10;
    assert_eq!(rig.read(0, PENDBASER), 0x5_1234_0000 | coherent);
    assert_eq!(rig.read(0, PROPBASER), 0x6_4321_000d | coherent);
    let half = rig
        .machine
        .read(0, Region::Redistributors, PENDBASER + 4, Width::Word);
    assert_eq!(half, 5);
}

#[test]
fn a_message_is_taken_once_and_has_no_active_state() {
    let mut rig = Rig::enabled(2, 4);
    rig.map(5, 1, 0xa1);
    rig.raise(5);
    rig.raise(5);
    assert_eq!(rig.machine.acknowledge(0, IDLE), None);
    assert_eq!(rig.machine.acknowledge(1, IDLE), Some((8197, 0)));
    // Before its end it can be pending again.
    rig.raise(5);
    assert_eq!(rig.machine.acknowledge(1, IDLE), Some((8197, 0)));
    rig.machine.end(1, 8197, 0);
    rig.machine.end(1, 8197, 0);
    assert_eq!(rig.take(1), None);
}

#[test]
fn what_is_not_mapped_or_enabled_is_not_delivered() {
    let mut rig = Rig::enabled(1, 4);
    rig.raise(0);
    rig.raise(8191);
    assert_eq!(rig.take(0), None);
    rig.map(1, 0, 0xa0);
    rig.raise(1);
    assert_eq!(rig.take(0), None);
    // Enabled later, it is still pending.
    rig.set_byte(1, 0xa1);
    assert_eq!(rig.take(0), None);
    assert!(rig.reload(1));
    assert_eq!(rig.take(0), Some(8193));
}

#[test]
fn without_enable_lpis_a_message_is_lost() {
    let mut rig = Rig::new(1, 4);
    rig.map(1, 0, 0xa1);
    rig.raise(1);
    rig.enable(0, true);
    assert_eq!(rig.take(0), None);
    rig.raise(1);
    assert_eq!(rig.take(0), Some(8193));
    rig.enable(0, false);
    rig.raise(1);
    rig.enable(0, true);
    assert_eq!(rig.take(0), None);
}

#[test]
fn enabling_reads_configuration_and_what_is_pending() {
    let mut rig = Rig::new(2, 4);
    rig.map(3, 0, 0);
    rig.map(700, 1, 0);
    rig.set_byte(3, 0xa1);
    rig.set_byte(700, 0xa1);
    // Both tables have both bits; each LPI is pending where it goes.
    for cpu in 0..2 {
        for number in [3_u64, 700, 9] {
            let at = PENDING + cpu * 0x1_0000 + (8192 + number) / 8;
            let byte = rig.memory.bytes.entry(at).or_default();
            *byte |= 1 << (number % 8);
        }
    }
    rig.enable(0, true);
    assert_eq!(rig.take(0), Some(8195));
    assert_eq!(rig.take(0), None);
    rig.enable(1, true);
    assert_eq!(rig.take(1), Some(8892));
    assert_eq!(rig.take(1), None);
    // Unless the guest says that the table is zero.
    rig.enable(1, false);
    rig.write(1, PENDBASER, 1 << 62 | PENDING);
    rig.enable(1, true);
    assert_eq!(rig.take(1), None);
}

#[test]
fn enabling_is_done_in_bounded_parts() {
    let mut rig = Rig::new(2, 4);
    let region = Region::Redistributors;
    rig.machine.write(0, region, CTLR, Width::Word, 1);
    rig.machine.write(0, region, 1 << 17, Width::Word, 1);
    *rig.memory.read.borrow_mut() = 0;
    let parts = rig.work();
    assert_eq!(parts, 2 * 8192 / 512);
    let read = *rig.memory.read.borrow();
    assert!(read <= parts * (512 + 64));
}

#[test]
fn the_most_urgent_are_taken_first_with_other_interrupts_among_them() {
    let mut rig = Rig::enabled(1, 2);
    for (intid, priority) in [(40, 0x50), (41, 0xb0)] {
        rig.machine.write_bit(0, 0x100, intid);
        rig.machine.write_priority(0, intid, priority);
        rig.machine.inject(0, intid);
    }
    for (number, byte) in [(0, 0xa1), (1, 0x41), (2, 0x61), (3, 0xa1), (4, 0x01)] {
        rig.map(number, 0, byte);
        rig.raise(number);
    }
    let order: Vec<_> = core::iter::from_fn(|| rig.take(0)).collect();
    assert_eq!(order, [8196, 8193, 40, 8194, 8192, 8195, 41]);
}

#[test]
fn thousands_of_pending_lpis_cost_no_more_than_the_list_registers() {
    let mut rig = Rig::enabled(1, 4);
    for number in 0..8192 {
        rig.map(number, 0, 0xa1);
        rig.raise(number);
    }
    let used = rig.machine.registers[0].used().len();
    assert_eq!(used, 4);
    for number in 0..8192 {
        assert_eq!(rig.take(0), Some(8192 + number));
    }
    assert_eq!(rig.take(0), None);
}

#[test]
fn an_lpi_in_a_list_register_moves_when_its_event_does() {
    let mut rig = Rig::enabled(2, 4);
    rig.map(7, 0, 0xa1);
    rig.raise(7);
    rig.change(|vgic, _, effects| vgic.move_lpi(lpi(7), cpu_id(1), effects));
    assert_eq!(rig.take(0), None);
    assert_eq!(rig.take(1), Some(8199));
    // A CPU that does not exist changes nothing.
    rig.change(|vgic, _, effects| vgic.move_lpi(lpi(7), cpu_id(2), effects));
    rig.raise(7);
    assert_eq!(rig.take(1), Some(8199));
}

#[test]
fn what_is_pending_moves_and_later_messages_do_not() {
    let mut rig = Rig::enabled(2, 1);
    for number in [1, 600, 8191] {
        rig.map(number, 0, 0xa1);
        rig.raise(number);
    }
    // Those in list registers are in the hands of the CPU.
    rig.machine.sync(0);
    let mut first = Some(0);
    while let Some(part) = first {
        first = rig
            .change(|vgic, _, effects| vgic.move_pending_lpis(part, cpu_id(0), cpu_id(1), effects));
    }
    rig.raise(2);
    assert_eq!(rig.take(0), None);
    let taken: Vec<_> = core::iter::from_fn(|| rig.take(1)).collect();
    assert_eq!(taken, [8193, 8792, 16383]);
    rig.raise(1);
    assert_eq!(rig.take(0), Some(8193));
}

#[test]
fn an_unmapped_or_cleared_lpi_is_not_pending_even_from_a_list_register() {
    let mut rig = Rig::enabled(1, 4);
    rig.map(1, 0, 0xa1);
    rig.map(2, 0, 0xa1);
    rig.raise(1);
    rig.raise(2);
    rig.change(|vgic, _, effects| vgic.clear_lpi(lpi(1), effects));
    rig.change(|vgic, _, effects| vgic.unmap_lpi(lpi(2), effects));
    assert_eq!(rig.take(0), None);
    rig.raise(1);
    rig.raise(2);
    assert_eq!(rig.take(0), Some(8193));
    assert_eq!(rig.take(0), None);
}

#[test]
fn a_configuration_table_that_is_not_there_disables() {
    let mut rig = Rig::enabled(1, 4);
    rig.memory.absent = true;
    rig.map(1, 0, 0xa1);
    rig.raise(1);
    assert_eq!(rig.take(0), None);
    // Neither is one that is shorter than what was offered.
    let mut rig = Rig::new(1, 4);
    rig.write(0, PROPBASER, CONFIGURATION | 12);
    rig.enable(0, true);
    rig.map(0, 0, 0xa1);
    rig.raise(0);
    assert_eq!(rig.take(0), None);
}

#[test]
fn group_1_forwards_lpis() {
    let mut rig = Rig::enabled(1, 4);
    rig.map(1, 0, 0xa1);
    rig.machine
        .write(0, Region::Distributor, 0, Width::Word, 0b01);
    rig.raise(1);
    assert_eq!(rig.take(0), None);
    assert!(!rig.machine.vgic.has_deliverable(cpu_id(0)));
    rig.machine
        .write(0, Region::Distributor, 0, Width::Word, 0b10);
    assert_eq!(rig.take(0), Some(8193));
}

const CPUS: usize = 2;
const NUMBERS: [u32; 6] = [0, 1, 2, 511, 512, 8191];

#[derive(Clone, Debug)]
enum Step {
    Map(u32, usize, u8),
    Unmap(u32),
    Move(u32, usize),
    MovePending(usize, usize),
    Raise(u32),
    Clear(u32),
    Reload(u32, u8),
    /// An SGI to a CPU.
    Send(usize),
    /// A shared interrupt, which goes to the first CPU.
    Inject,
    Take(usize),
    Deschedule(usize),
}

const SGI: u32 = 5;
const SPI: u32 = 40;
const OTHERS_PRIORITY: u8 = 0xa0;

fn step() -> impl Strategy<Value = Step> {
    let number = prop::sample::select(&NUMBERS[..]);
    let cpu = 0..CPUS;
    let byte = prop::sample::select(&[0xa0_u8, 0xa1, 0xa1, 0x41, 0x01, 0xf9][..]);
    prop_oneof![
        3 => (number.clone(), cpu.clone(), byte.clone()).prop_map(|(n, c, b)| Step::Map(n, c, b)),
        1 => number.clone().prop_map(Step::Unmap),
        2 => (number.clone(), cpu.clone()).prop_map(|(n, c)| Step::Move(n, c)),
        1 => (cpu.clone(), cpu.clone()).prop_map(|(a, b)| Step::MovePending(a, b)),
        8 => number.clone().prop_map(Step::Raise),
        1 => number.clone().prop_map(Step::Clear),
        2 => (number, byte).prop_map(|(n, b)| Step::Reload(n, b)),
        3 => cpu.clone().prop_map(Step::Send),
        1 => Just(Step::Inject),
        6 => cpu.clone().prop_map(Step::Take),
        1 => cpu.prop_map(Step::Deschedule),
    ]
}

/// An ideal LPI.
#[derive(Clone, Copy, Default)]
struct Ideal {
    mapped: bool,
    target: usize,
    pending: Option<usize>,
    byte: u8,
}

/// What should be.
#[derive(Default)]
struct Model {
    lpis: BTreeMap<u32, Ideal>,
    /// Which others are pending, and where.
    others: BTreeSet<(usize, u32)>,
}

/// LPIs among others.
fn mixed_rig(list_registers: usize) -> Rig {
    let mut rig = Rig::enabled(CPUS, list_registers);
    for (cpu, intid) in (0..CPUS).map(|cpu| (cpu, SGI)).chain([(0, SPI)]) {
        rig.machine.write_priority(cpu, intid, OTHERS_PRIORITY);
        rig.machine.write_edge(cpu, intid, true);
        rig.machine.write_bit(cpu, 0x100, intid);
    }
    rig
}

/// Runs a step on both, and checks that they agree on what is taken.
fn run(rig: &mut Rig, model: &mut Model, step: &Step) {
    let Model {
        lpis: model,
        others,
    } = match *step {
        Step::Take(cpu) => return take(rig, model, cpu),
        _ => model,
    };
    match *step {
        Step::Map(number, cpu, byte) => {
            rig.map(number, cpu, byte);
            let ideal = model.entry(number).or_default();
            ideal.mapped = true;
            (ideal.target, ideal.byte) = (cpu, byte);
            ideal.pending = ideal.pending.map(|_| cpu);
        }
        Step::Unmap(number) => {
            rig.change(|vgic, _, effects| vgic.unmap_lpi(lpi(number), effects));
            let ideal = model.entry(number).or_default();
            (ideal.mapped, ideal.pending) = (false, None);
        }
        Step::Move(number, cpu) => {
            rig.change(|vgic, _, effects| vgic.move_lpi(lpi(number), cpu_id(cpu), effects));
            let ideal = model.entry(number).or_default();
            ideal.target = cpu;
            ideal.pending = ideal.pending.map(|_| cpu);
        }
        Step::MovePending(from, to) => {
            // So that nothing is in list registers, which it does not reach.
            (0..CPUS).for_each(|cpu| rig.machine.sync(cpu));
            let mut first = Some(0);
            while let Some(part) = first {
                let (from, to): (CpuId, CpuId) = (cpu_id(from), cpu_id(to));
                let mut effects = Effects::new();
                let vgic = &rig.machine.vgic;
                first = vgic.move_pending_lpis(part, from, to, &mut effects);
            }
            (0..CPUS).for_each(|cpu| rig.machine.service(cpu));
            let moved = model
                .values_mut()
                .filter(|ideal| ideal.pending == Some(from));
            moved.for_each(|ideal| ideal.pending = Some(to));
        }
        Step::Raise(number) => {
            rig.raise(number);
            let ideal = model.entry(number).or_default();
            if ideal.mapped {
                ideal.pending = ideal.pending.or(Some(ideal.target));
            }
        }
        Step::Clear(number) => {
            rig.change(|vgic, _, effects| vgic.clear_lpi(lpi(number), effects));
            model.entry(number).or_default().pending = None;
        }
        Step::Reload(number, byte) => {
            rig.set_byte(number, byte);
            assert_eq!(rig.reload(number), byte & 1 != 0);
            model.entry(number).or_default().byte = byte;
        }
        Step::Send(cpu) => {
            rig.machine.send_sgi(0, SGI, 1 << cpu);
            others.insert((cpu, SGI));
        }
        Step::Inject => {
            rig.machine.inject(0, SPI);
            others.insert((0, SPI));
        }
        Step::Take(_) => {}
        Step::Deschedule(cpu) => {
            rig.machine.sync(cpu);
            rig.machine.service(cpu);
        }
    }
}

fn take(rig: &mut Rig, model: &mut Model, cpu: usize) {
    let lpis = model
        .lpis
        .iter()
        .filter(|(_, ideal)| ideal.pending == Some(cpu) && ideal.byte & 1 != 0)
        .map(|(number, ideal)| (ideal.byte & 0xf8, 8192 + number));
    let others = model
        .others
        .iter()
        .filter(|(at, _)| *at == cpu)
        .map(|(_, intid)| (OTHERS_PRIORITY, *intid));
    let offered: Vec<(u8, u32)> = lpis.chain(others).collect();
    let best = offered.iter().map(|(priority, _)| *priority).min();
    let mut candidates = offered.iter().filter(|(it, _)| Some(*it) == best);
    match rig.take(cpu) {
        None => assert_eq!(offered, []),
        Some(intid) => {
            assert!(
                candidates.any(|(_, it)| *it == intid),
                "{intid} of {offered:?}"
            );
            match intid.checked_sub(8192) {
                Some(number) => model.lpis.entry(number).or_default().pending = None,
                None => assert!(model.others.remove(&(cpu, intid))),
            }
        }
    }
}

proptest! {
    #[test]
    fn xsa_223_each_message_is_taken_once_where_it_goes(
        list_registers in 1..5_usize,
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let mut rig = mixed_rig(list_registers);
        let mut model = Model::default();
        for step in &steps {
            run(&mut rig, &mut model, step);
        }
        for cpu in 0..CPUS {
            // The SGI and the SPI as well, and then nothing.
            for _ in 0..NUMBERS.len() + 3 {
                take(&mut rig, &mut model, cpu);
            }
        }
    }
}
