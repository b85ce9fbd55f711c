//! Random sequences of what guests and hardware do, on the controller and on the model.

extern crate std;

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use xen_types::IntId;

use super::super::lr::{Format, GicV2, GicV3};
use super::super::{Region, Version, Width, affinity_of};
use super::machine::{Machine, cpu_id};
use super::model::Model;

const INTIDS: [u32; 15] = [0, 1, 7, 15, 16, 20, 27, 31, 32, 33, 40, 63, 64, 95, 127];
/// Those that stand for a physical interrupt.
const LINKED: [u32; 3] = [27, 40, 95];

#[derive(Clone, Debug)]
enum Step {
    Line(u32, bool),
    Inject(u32),
    Arrive(u32),
    Enable(u32, bool),
    Pending(u32, bool),
    Priority(u32, u8),
    Edge(u32, bool),
    Route(u32, u8),
    Forward(bool),
    Sgi(u32, u8),
    SgiPending(u32, u8, bool),
    Acknowledge,
    End,
    Deschedule,
}

fn physical(intid: u32) -> IntId {
    IntId::new(if intid < 32 { intid } else { intid + 100 }).unwrap()
}

fn any_of(intids: &'static [u32]) -> impl Strategy<Value = u32> {
    prop::sample::select(intids)
}

fn step() -> impl Strategy<Value = Step> {
    let unlinked: &'static [u32] = &[16, 20, 31, 32, 33, 63, 64, 127];
    let shared: &'static [u32] = &INTIDS[8..];
    prop_oneof![
        4 => (any_of(unlinked), any::<bool>()).prop_map(|(id, on)| Step::Line(id, on)),
        3 => any_of(unlinked).prop_map(Step::Inject),
        4 => any_of(&LINKED).prop_map(Step::Arrive),
        4 => (any_of(&INTIDS), prop::bool::weighted(0.8)).prop_map(|(id, on)| Step::Enable(id, on)),
        2 => (any_of(&INTIDS), any::<bool>()).prop_map(|(id, on)| Step::Pending(id, on)),
        3 => (any_of(&INTIDS), any::<u8>()).prop_map(|(id, to)| Step::Priority(id, to)),
        1 => (any_of(&INTIDS), any::<bool>()).prop_map(|(id, edge)| Step::Edge(id, edge)),
        2 => (any_of(shared), 0..16_u8).prop_map(|(id, to)| Step::Route(id, to)),
        1 => prop::bool::weighted(0.8).prop_map(Step::Forward),
        4 => (any_of(&INTIDS[..4]), 0..16_u8).prop_map(|(id, to)| Step::Sgi(id, to)),
        1 => (any_of(&INTIDS[..4]), 0..16_u8, any::<bool>())
            .prop_map(|(id, from, on)| Step::SgiPending(id, from, on)),
        9 => Just(Step::Acknowledge),
        6 => Just(Step::End),
        1 => Just(Step::Deschedule),
    ]
}

/// The controller and its model, side by side.
struct Pair<F: Format> {
    machine: Machine<F>,
    model: Model,
    version: Version,
    cpus: usize,
}

impl<F: Format> Pair<F> {
    fn new(version: Version, cpus: usize, list_registers: usize) -> Self {
        let mut pair = Self {
            machine: Machine::new(version, cpus, list_registers),
            model: Model::new(cpus, &INTIDS),
            version,
            cpus,
        };
        for intid in LINKED {
            for cpu in 0..if intid < 32 { cpus } else { 1 } {
                pair.machine.link(cpu, intid, physical(intid));
            }
        }
        pair.set_up();
        pair
    }

    /// As an operating system begins: all is forwarded to the first CPU, about half is enabled.
    fn set_up(&mut self) {
        self.step(0, &Step::Forward(true));
        for cpu in 0..self.cpus {
            for intid in INTIDS {
                self.step(cpu, &Step::Priority(intid, 0xa0));
                self.step(cpu, &Step::Enable(intid, intid & 1 == 1));
            }
        }
    }

    fn step(&mut self, cpu: usize, step: &Step) {
        match *step {
            Step::Line(intid, level) => {
                self.machine.set_line(cpu, intid, level);
                self.model.set_line(cpu, intid, level);
            }
            Step::Inject(intid) => {
                self.machine.inject(cpu, intid);
                self.model.at(cpu, intid).latch = true;
            }
            Step::Arrive(intid) => {
                if self.machine.arrive(cpu, intid, physical(intid)) {
                    self.model.at(cpu, intid).latch = true;
                }
            }
            Step::Enable(intid, on) => {
                let register = if on { 0x100 } else { 0x180 };
                self.machine.write_bit(cpu, register, intid);
                self.model.at(cpu, intid).enabled = on;
            }
            Step::Pending(intid, on) => self.set_pending(cpu, intid, on),
            Step::Priority(intid, priority) => {
                // Which interrupt an end means depends on the priority at which it was taken.
                if self.model.at(cpu, intid).active.is_none() {
                    self.machine.write_priority(cpu, intid, priority);
                    self.model.at(cpu, intid).priority = priority & 0xf8;
                }
            }
            Step::Edge(intid, edge) => {
                self.machine.write_edge(cpu, intid, edge);
                self.model.at(cpu, intid).edge = edge || intid < 16;
            }
            Step::Route(intid, to) => self.route(cpu, intid, to),
            Step::Forward(on) => {
                self.machine.write_groups(cpu, on);
                self.model.forwarding = on;
            }
            Step::Sgi(sgi, targets) => {
                self.machine.send_sgi(cpu, sgi, targets);
                for target in (0..self.cpus).filter(|target| targets >> target & 1 != 0) {
                    let interrupt = self.model.at(target, sgi);
                    match self.version {
                        Version::V2 => _ = interrupt.sources.insert(cpu),
                        Version::V3 => interrupt.latch = true,
                    }
                }
            }
            Step::SgiPending(sgi, sources, on) => self.set_sgi_pending(cpu, sgi, sources, on),
            Step::Acknowledge => self.acknowledge(cpu),
            Step::End => {
                if let Some((intid, source)) = self.model.end(cpu) {
                    self.machine.end(cpu, intid, source);
                }
            }
            Step::Deschedule => self.machine.sync(cpu),
        }
    }

    fn set_pending(&mut self, cpu: usize, intid: u32, on: bool) {
        let register = if on { 0x200 } else { 0x280 };
        self.machine.write_bit(cpu, register, intid);
        if intid >= 16 || self.version == Version::V3 {
            self.model.at(cpu, intid).latch = on;
        }
    }

    fn set_sgi_pending(&mut self, cpu: usize, sgi: u32, sources: u8, on: bool) {
        if self.version == Version::V2 {
            let register = if on { 0xf20 } else { 0xf10 };
            let offset = register + sgi;
            self.machine.write(
                cpu,
                Region::Distributor,
                offset,
                Width::Byte,
                sources.into(),
            );
            for source in (0..8).filter(|source| sources >> source & 1 != 0) {
                let pending = &mut self.model.at(cpu, sgi).sources;
                if on {
                    pending.insert(source);
                } else {
                    pending.remove(&source);
                }
            }
        }
    }

    fn route(&mut self, cpu: usize, intid: u32, to: u8) {
        let target = match self.version {
            Version::V2 => {
                let offset = 0x800 + intid;
                self.machine
                    .write(cpu, Region::Distributor, offset, Width::Byte, to.into());
                to.trailing_zeros() as usize
            }
            Version::V3 => {
                let offset = 0x6000 + intid * 8;
                let affinity = affinity_of(cpu_id(to.into())).get();
                self.machine
                    .write(cpu, Region::Distributor, offset, Width::Double, affinity);
                to.into()
            }
        };
        self.model.at(cpu, intid).target = (target < self.cpus).then_some(target);
    }

    /// The controller delivers what the model would.
    fn acknowledge(&mut self, cpu: usize) {
        let running = self.model.running_priority(cpu);
        let candidates = self.model.candidates(cpu);
        match self.machine.acknowledge(cpu, running) {
            Some((intid, source)) => {
                assert!(
                    candidates.contains(&intid),
                    "CPU {cpu} took {intid} rather than one of {candidates:?}"
                );
                self.model.acknowledge(cpu, intid, source);
            }
            None => assert!(
                candidates.is_empty(),
                "CPU {cpu} took nothing rather than one of {candidates:?}"
            ),
        }
    }

    /// Everything is as in the model once list registers are read back.
    fn compare(&mut self) {
        for cpu in 0..self.cpus {
            self.machine.sync(cpu);
        }
        for ((of, intid), expected) in self.model.interrupts.clone() {
            let cpu = of.unwrap_or(0);
            let what = (cpu, intid);
            assert_eq!(
                self.machine.read_bit(cpu, 0x200, intid),
                expected.pending(),
                "pending {what:?}"
            );
            assert_eq!(
                self.machine.read_bit(cpu, 0x300, intid),
                expected.active.is_some(),
                "active {what:?}"
            );
            assert_eq!(
                self.machine.read_bit(cpu, 0x100, intid),
                expected.enabled,
                "enabled {what:?}"
            );
            if LINKED.contains(&intid) {
                let line = self.machine.physical.get(&(cpu, physical(intid)));
                let line = line.copied().unwrap_or_default();
                assert_eq!(line.enabled, expected.enabled, "physical {what:?}");
                assert!(
                    !line.active || expected.pending() || expected.active.is_some(),
                    "the physical interrupt behind {what:?} stays active"
                );
            }
        }
    }

    /// Lets the guest take all that is left, with everything enabled.
    fn drain(&mut self) {
        for intid in [16, 20, 31, 32, 33, 63, 64, 127] {
            for cpu in 0..self.cpus {
                self.step(cpu, &Step::Line(intid, false));
            }
        }
        self.step(0, &Step::Forward(true));
        for cpu in 0..self.cpus {
            for intid in INTIDS {
                self.step(cpu, &Step::Enable(intid, true));
                if intid >= 32 {
                    self.step(cpu, &Step::Route(intid, 1));
                }
            }
        }
        for cpu in 0..self.cpus {
            for _ in 0..100 {
                self.step(cpu, &Step::End);
            }
        }
        for cpu in 0..self.cpus {
            for _ in 0..100 {
                self.step(cpu, &Step::Acknowledge);
                self.step(cpu, &Step::End);
            }
        }
        let left: Vec<_> = self
            .model
            .interrupts
            .iter()
            .filter(|(_, interrupt)| interrupt.pending() || interrupt.active.is_some())
            .filter(|((of, _), interrupt)| of.is_some() || interrupt.target.is_some())
            .collect();
        assert!(left.is_empty(), "never delivered: {left:?}");
    }
}

fn run<F: Format>(version: Version, cpus: usize, list_registers: usize, steps: &[(usize, Step)]) {
    let mut pair = Pair::<F>::new(version, cpus, list_registers);
    for (cpu, step) in steps {
        pair.step(cpu % cpus, step);
    }
    pair.compare();
    pair.drain();
    pair.compare();
}

/// The same steps with list registers that are refreshed in one step and in two: they hold the same
/// interrupts at any time, in whatever order, and ask for the same maintenance.
fn refresh<F: Format>(
    version: Version,
    cpus: usize,
    list_registers: usize,
    steps: &[(usize, Step)],
) {
    let mut pairs = [false, true].map(|two_steps| {
        let mut pair = Pair::<F>::new(version, cpus, list_registers);
        pair.machine.two_steps = two_steps;
        pair
    });
    for (cpu, step) in steps {
        for pair in &mut pairs {
            pair.step(cpu % cpus, step);
        }
        for cpu in 0..cpus {
            let [one, two] = pairs.each_ref().map(|pair| {
                let mut held = pair.machine.decoded(cpu);
                held.sort_by_key(|register| register.id);
                (held, pair.machine.registers[cpu].hcr())
            });
            assert_eq!(one, two, "vCPU {cpu} after {step:?}");
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    prop::collection::vec((0..12_usize, step()), 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn gicv2_delivers_as_the_model(cpus in 1..5_usize, lrs in prop::sample::select(&[1_usize, 2, 4]), steps in steps()) {
        run::<GicV2>(Version::V2, cpus, lrs, &steps);
    }

    #[test]
    fn gicv3_delivers_as_the_model(cpus in 1..5_usize, lrs in prop::sample::select(&[1_usize, 2, 4, 16]), steps in steps()) {
        run::<GicV3>(Version::V3, cpus, lrs, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn one_step_does_what_two_steps_do(
        v3 in any::<bool>(),
        cpus in 1..4_usize,
        lrs in prop::sample::select(&[1_usize, 2, 4, 16]),
        steps in steps(),
    ) {
        if v3 {
            refresh::<GicV3>(Version::V3, cpus, lrs, &steps);
        } else {
            refresh::<GicV2>(Version::V2, cpus, lrs, &steps);
        }
    }
}
