//! CPUs that carry out what the scheduler decides, one step at a time in any order.

extern crate std;

use std::collections::BTreeSet;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::vgic::tests::HostLocks;

const TUNING: Tuning = Tuning {
    slice: 50,
    patience: 10,
};

/// A simulated CPU, as the image's loop behaves.
#[derive(Default)]
struct Cpu {
    resident: Option<SlotId>,
    running: Option<SlotId>,
    /// It evicts before it runs this one.
    next: Option<SlotId>,
    evicting: bool,
    kicked: bool,
}

struct Machine {
    scheduler: Scheduler<HostLocks>,
    cpus: Vec<Cpu>,
    units: Vec<SlotId>,
    now: u64,
    ran: Vec<u64>,
}

impl Machine {
    fn new(policy: Policy, cpus: usize, weights: &[u16]) -> Self {
        let set: CpuSet = (0..cpus).collect();
        let scheduler = Scheduler::new(policy, TUNING, &set, weights.len()).unwrap();
        let units: Vec<SlotId> = weights
            .iter()
            .map(|weight| scheduler.add(*weight, CpuSet::ALL, 0).unwrap())
            .collect();
        Self {
            scheduler,
            cpus: (0..cpus).map(|_| Cpu::default()).collect(),
            ran: vec![0; units.len()],
            units,
            now: 0,
        }
    }

    fn kick(&mut self, kicks: &Kicks) {
        for cpu in kicks.iter() {
            self.cpus[cpu].kicked = true;
        }
    }

    fn start(&mut self, unit: usize) {
        let kicks = self.scheduler.start(self.units[unit], self.now);
        self.kick(&kicks);
    }

    fn wake(&mut self, unit: usize) {
        let kicks = self.scheduler.wake(self.units[unit], self.now);
        self.kick(&kicks);
    }

    /// The CPU asks what to do.
    fn pick(&mut self, cpu: usize, why: Option<Why>) {
        let mut kicks = Kicks::NONE;
        let choice = self.scheduler.pick(cpu, why, self.now, &mut kicks);
        self.kick(&kicks);
        let this = &mut self.cpus[cpu];
        this.kicked = false;
        this.running = None;
        match choice {
            Choice::Same => {
                assert!(this.resident.is_some());
                this.running = this.resident;
            }
            Choice::Run(slot) => {
                assert_ne!(this.resident, Some(slot));
                this.next = Some(slot);
                this.evicting = this.resident.is_some();
                if !this.evicting {
                    self.enter(cpu);
                }
            }
            Choice::Evict => {
                assert!(this.resident.is_some());
                this.evicting = true;
            }
            Choice::Idle => (),
        }
    }

    fn enter(&mut self, cpu: usize) {
        let this = &mut self.cpus[cpu];
        this.resident = this.next.take();
        this.running = this.resident;
        self.assert_alone();
    }

    /// A step of the loop of a CPU: what it must do next, if anything.
    fn step(&mut self, cpu: usize) {
        if self.cpus[cpu].evicting {
            self.cpus[cpu].evicting = false;
            self.cpus[cpu].resident = None;
            let kicks = self.scheduler.saved(cpu, self.now);
            self.kick(&kicks);
            if self.cpus[cpu].next.is_some() {
                self.enter(cpu);
            } else {
                self.cpus[cpu].kicked = true;
            }
        } else if self.cpus[cpu].running.is_some() {
            self.cpus[cpu].kicked = false;
            let over = self
                .scheduler
                .slice_end(cpu)
                .is_some_and(|end| end <= self.now);
            if self.scheduler.must_switch(cpu) || over {
                self.pick(cpu, Some(Why::Preempted));
            }
        } else if self.cpus[cpu].kicked {
            self.pick(cpu, None);
        }
    }

    /// What the running vCPU does.
    fn leave(&mut self, cpu: usize, why: Why) {
        if self.cpus[cpu].running.is_none() {
            return;
        }
        if why == Why::Offline {
            self.cpus[cpu].resident = None;
            let kicks = self.scheduler.saved(cpu, self.now);
            self.kick(&kicks);
        }
        self.pick(cpu, Some(why));
    }

    fn pass(&mut self, ticks: u64) {
        for cpu in 0..self.cpus.len() {
            if let Some(slot) = self.cpus[cpu].running {
                self.ran[slot.index()] += ticks;
            }
        }
        self.now += ticks;
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            (0..self.cpus.len()).for_each(|cpu| self.step(cpu));
        }
    }

    /// No vCPU's registers are on two CPUs.
    fn assert_alone(&self) {
        let mut seen = BTreeSet::new();
        for slot in self.cpus.iter().filter_map(|cpu| cpu.resident) {
            assert!(seen.insert(slot), "{slot:?} is on two CPUs");
        }
    }

    fn is_running(&self, unit: usize) -> bool {
        let slot = self.units[unit];
        self.cpus.iter().any(|cpu| cpu.running == Some(slot))
    }

    /// Whether it runs, or will as soon as its CPU has saved another.
    fn is_chosen(&self, unit: usize) -> bool {
        let slot = self.units[unit];
        self.is_running(unit) || self.cpus.iter().any(|cpu| cpu.next == Some(slot))
    }

    fn run_for(&mut self, ticks: u64) {
        for _ in 0..ticks / 5 {
            self.pass(5);
            self.settle();
        }
    }
}

#[test]
fn a_vcpu_that_wakes_on_its_idle_cpu_switches_nothing() {
    let mut machine = Machine::new(Policy::TimeSharing, 1, &[256]);
    machine.start(0);
    machine.settle();
    assert!(machine.is_running(0));
    machine.leave(0, Why::Block);
    assert_eq!(machine.cpus[0].running, None);
    assert_eq!(machine.cpus[0].resident, Some(machine.units[0]));
    machine.wake(0);
    assert!(machine.cpus[0].kicked);
    machine.settle();
    assert!(machine.is_running(0));
}

#[test]
fn what_arrives_before_it_blocks_keeps_it_awake() {
    let mut machine = Machine::new(Policy::TimeSharing, 1, &[256]);
    machine.start(0);
    machine.settle();
    machine.wake(0);
    machine.leave(0, Why::Block);
    assert!(machine.is_running(0));
    machine.leave(0, Why::Block);
    assert!(!machine.is_running(0));
}

#[test]
fn alone_there_is_no_tick_and_a_yield_changes_nothing() {
    let mut machine = Machine::new(Policy::TimeSharing, 2, &[256, 256]);
    machine.start(0);
    machine.settle();
    assert_eq!(machine.scheduler.slice_end(0), None);
    machine.leave(0, Why::Yield);
    assert!(machine.is_running(0));
}

#[test]
fn a_second_vcpu_goes_to_the_idle_cpu() {
    let mut machine = Machine::new(Policy::TimeSharing, 2, &[256, 256]);
    machine.start(0);
    machine.settle();
    machine.start(1);
    machine.settle();
    assert!(machine.is_running(0) && machine.is_running(1));
}

#[test]
fn null_gives_each_a_cpu_and_lets_the_rest_wait() {
    let mut machine = Machine::new(Policy::Null, 2, &[256, 256, 256]);
    (0..3).for_each(|unit| machine.start(unit));
    machine.run_for(1000);
    assert!(machine.is_running(0) && machine.is_running(1) && !machine.is_running(2));
    assert_eq!(machine.scheduler.slice_end(0), None);
    let cpu = machine
        .cpus
        .iter()
        .position(|cpu| cpu.running == Some(machine.units[0]));
    // A vCPU that waits keeps its CPU.
    machine.leave(cpu.unwrap(), Why::Block);
    machine.settle();
    assert!(!machine.is_running(2));
    machine.wake(0);
    machine.settle();
    machine.leave(cpu.unwrap(), Why::Offline);
    machine.settle();
    assert!(machine.is_running(2));
}

#[test]
fn a_paused_vcpu_leaves_its_cpu_and_comes_back() {
    let mut machine = Machine::new(Policy::TimeSharing, 1, &[256]);
    machine.start(0);
    machine.settle();
    let slot = machine.units[0];
    let kicks = machine.scheduler.pause(slot, machine.now);
    machine.kick(&kicks);
    assert!(!machine.scheduler.is_off_cpus(slot));
    machine.settle();
    assert!(machine.scheduler.is_off_cpus(slot));
    machine.wake(0);
    machine.settle();
    assert!(!machine.is_running(0));
    let kicks = machine.scheduler.unpause(slot, machine.now);
    machine.kick(&kicks);
    machine.settle();
    assert!(machine.is_running(0));
}

#[test]
fn one_that_is_started_while_it_goes_off_starts_again() {
    let mut machine = Machine::new(Policy::TimeSharing, 1, &[256]);
    machine.start(0);
    machine.settle();
    machine.start(0);
    machine.leave(0, Why::Offline);
    machine.settle();
    assert!(machine.is_running(0));
}

#[test]
fn affinity_moves_a_vcpu_at_once() {
    let mut machine = Machine::new(Policy::TimeSharing, 2, &[256]);
    machine.start(0);
    machine.settle();
    let slot = machine.units[0];
    let from = machine
        .cpus
        .iter()
        .position(|cpu| cpu.running == Some(slot));
    let to = 1 - from.unwrap();
    let kicks = machine
        .scheduler
        .set_affinity(slot, CpuSet::only(to), machine.now);
    machine.kick(&kicks);
    machine.settle();
    assert_eq!(machine.cpus[to].running, Some(slot));
}

#[test]
fn a_slot_is_free_again_when_its_vcpu_is_off_all_cpus() {
    let mut machine = Machine::new(Policy::TimeSharing, 1, &[256]);
    let slot = machine.units[0];
    assert_eq!(
        machine.scheduler.add(256, CpuSet::ALL, 0),
        Err(AddError::Full)
    );
    machine.start(0);
    machine.settle();
    assert_eq!(machine.scheduler.remove(slot), Err(InUse));
    machine.leave(0, Why::Offline);
    machine.settle();
    assert_eq!(machine.scheduler.remove(slot), Ok(()));
    assert_eq!(machine.scheduler.add(256, CpuSet::ALL, 0), Ok(slot));
}

fn shares(cpus: usize, weights: &[u16]) -> Vec<f64> {
    let mut machine = Machine::new(Policy::TimeSharing, cpus, weights);
    (0..weights.len()).for_each(|unit| machine.start(unit));
    machine.run_for(100_000);
    machine
        .ran
        .iter()
        .map(|ran| *ran as f64 / 100_000.0)
        .collect()
}

fn assert_near(found: &[f64], expected: &[f64], tolerance: f64) {
    for (found_one, expected_one) in found.iter().zip(expected) {
        let ratio = found_one / expected_one;
        assert!(
            (ratio - 1.0).abs() < tolerance,
            "{found:?}, not {expected:?}"
        );
    }
}

#[test]
fn time_follows_weight() {
    assert_near(&shares(1, &[256, 256]), &[0.5, 0.5], 0.05);
    assert_near(
        &shares(1, &[256, 512, 1024]),
        &[1.0 / 7.0, 2.0 / 7.0, 4.0 / 7.0],
        0.05,
    );
    assert_near(&shares(2, &[256; 4]), &[0.5; 4], 0.15);
    assert_near(&shares(2, &[256; 3]), &[2.0 / 3.0; 3], 0.15);
    assert_near(&shares(4, &[256; 7]), &[4.0 / 7.0; 7], 0.15);
    // More than a CPU is not to be had.
    assert_near(&shares(2, &[1024, 256, 256]), &[1.0, 0.5, 0.5], 0.15);
}

#[test]
fn one_that_was_alone_for_long_shares_with_a_new_one() {
    let mut machine = Machine::new(Policy::TimeSharing, 1, &[256, 256]);
    machine.start(0);
    machine.run_for(1_000_000);
    machine.start(1);
    let before = machine.ran.clone();
    machine.run_for(10_000);
    let share = (machine.ran[0] - before[0]) as f64 / 10_000.0;
    assert!((share - 0.5).abs() < 0.05, "{share}");
}

#[test]
fn one_that_sleeps_much_runs_soon_and_starves_nobody() {
    let mut machine = Machine::new(Policy::TimeSharing, 1, &[256, 256]);
    machine.start(0);
    machine.start(1);
    machine.settle();
    let mut naps = 0;
    while naps < 50 {
        machine.run_for(500);
        let slot = machine.units[1];
        let Some(cpu) = machine
            .cpus
            .iter()
            .position(|cpu| cpu.running == Some(slot))
        else {
            machine.run_for(5);
            continue;
        };
        naps += 1;
        machine.leave(cpu, Why::Block);
        machine.run_for(500);
        machine.wake(1);
        let before = machine.now;
        while !machine.is_running(1) {
            machine.pass(1);
            machine.settle();
            assert!(machine.now - before <= TUNING.patience, "it waits for long");
        }
    }
    assert!(machine.ran[0] > machine.now / 3, "{:?}", machine.ran);
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Start(usize),
    Wake(usize),
    Leave(usize, Why),
    Pause(usize),
    Unpause(usize),
    Affinity(usize, u8),
    Weight(usize, u16),
    Step(usize),
    Pass(u64),
}

const UNITS: usize = 6;
const CPUS: usize = 3;

fn event() -> impl Strategy<Value = Event> {
    let why = prop_oneof![
        4 => Just(Why::Block),
        2 => Just(Why::Yield),
        1 => Just(Why::Preempted),
        1 => Just(Why::Offline),
    ];
    prop_oneof![
        2 => (0..UNITS).prop_map(Event::Start),
        4 => (0..UNITS).prop_map(Event::Wake),
        4 => (0..CPUS, why).prop_map(|(cpu, why)| Event::Leave(cpu, why)),
        1 => (0..UNITS).prop_map(Event::Pause),
        1 => (0..UNITS).prop_map(Event::Unpause),
        1 => (0..UNITS, 1..8_u8).prop_map(|(unit, cpus)| Event::Affinity(unit, cpus)),
        1 => (0..UNITS, 128..512_u16).prop_map(|(unit, weight)| Event::Weight(unit, weight)),
        8 => (0..CPUS).prop_map(Event::Step),
        2 => (1..60_u64).prop_map(Event::Pass),
    ]
}

/// What a vCPU should be, whatever the scheduler thinks.
#[derive(Clone, Copy)]
struct Model {
    on: bool,
    pauses: u32,
    /// It was woken, or started, since it last blocked.
    awake: bool,
    cpus: u8,
}

impl Model {
    fn shall_run(&self) -> bool {
        self.on && self.pauses == 0 && self.awake
    }
}

fn run_events(policy: Policy, events: &[Event]) -> (Machine, Vec<Model>) {
    let mut machine = Machine::new(policy, CPUS, &[256; UNITS]);
    let mut models = vec![
        Model {
            on: false,
            pauses: 0,
            awake: false,
            cpus: 0b111
        };
        UNITS
    ];
    // What came while a vCPU ran counts when it next leaves its CPU.
    let mut tokens = [false; UNITS];
    let mut restarts = [false; UNITS];
    for event in events {
        match *event {
            Event::Start(unit) => {
                if machine.is_chosen(unit) {
                    restarts[unit] = true;
                } else {
                    models[unit].on = true;
                    models[unit].awake = true;
                }
                machine.start(unit);
            }
            Event::Wake(unit) => {
                tokens[unit] |= machine.is_chosen(unit);
                models[unit].awake = true;
                machine.wake(unit);
            }
            Event::Leave(cpu, why) => {
                if let Some(slot) = machine.cpus[cpu].running {
                    let (unit, model) = (slot.index(), &mut models[slot.index()]);
                    match why {
                        Why::Block => model.awake = core::mem::take(&mut tokens[unit]),
                        Why::Offline => {
                            model.on = restarts[unit];
                            model.awake = restarts[unit];
                            restarts[unit] = false;
                            tokens[unit] = false;
                        }
                        Why::Yield | Why::Preempted => (),
                    }
                }
                machine.leave(cpu, why);
            }
            Event::Pause(unit) => {
                models[unit].pauses += 1;
                let kicks = machine.scheduler.pause(machine.units[unit], machine.now);
                machine.kick(&kicks);
            }
            Event::Unpause(unit) => {
                models[unit].pauses = models[unit].pauses.saturating_sub(1);
                let kicks = machine.scheduler.unpause(machine.units[unit], machine.now);
                machine.kick(&kicks);
            }
            Event::Affinity(unit, cpus) => {
                models[unit].cpus = cpus;
                let set = (0..8).filter(|cpu| cpus >> cpu & 1 != 0).collect();
                let slot = machine.units[unit];
                let kicks = machine.scheduler.set_affinity(slot, set, machine.now);
                machine.kick(&kicks);
            }
            Event::Weight(unit, weight) => {
                machine.scheduler.set_weight(machine.units[unit], weight);
            }
            Event::Step(cpu) => machine.step(cpu),
            Event::Pass(ticks) => machine.pass(ticks),
        }
        machine.assert_alone();
    }
    machine.settle();
    (machine, models)
}

fn assert_right(machine: &Machine, models: &[Model]) {
    for (unit, model) in models.iter().enumerate() {
        let slot = machine.units[unit];
        let cpu = machine
            .cpus
            .iter()
            .position(|cpu| cpu.running == Some(slot));
        if let Some(cpu) = cpu {
            assert!(model.shall_run(), "unit {unit} runs and should not");
            assert!(
                model.cpus >> cpu & 1 != 0,
                "unit {unit} runs where it may not"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn whatever_happens_no_cpu_sleeps_while_a_vcpu_waits_for_it(
        events in prop::collection::vec(event(), 0..120)
    ) {
        let (mut machine, models) = run_events(Policy::TimeSharing, &events);
        assert_right(&machine, &models);
        for (unit, model) in models.iter().enumerate() {
            if model.shall_run() && !machine.is_running(unit) {
                for cpu in (0..CPUS).filter(|cpu| model.cpus >> cpu & 1 != 0) {
                    prop_assert!(machine.cpus[cpu].running.is_some(), "unit {unit} waits, cpu{cpu} sleeps");
                }
            }
        }
        // And each gets its turn.
        let before = machine.ran.clone();
        machine.run_for(3000);
        for (unit, model) in models.iter().enumerate() {
            prop_assert_eq!(model.shall_run(), machine.ran[unit] > before[unit], "unit {}", unit);
        }
        for unit in 0..UNITS {
            let state = machine.scheduler.runstate(machine.units[unit]).unwrap();
            prop_assert_eq!(state.times(machine.now).iter().sum::<u64>(), machine.now);
        }
    }

    #[test]
    fn null_never_shares(events in prop::collection::vec(event(), 0..120)) {
        let (mut machine, models) = run_events(Policy::Null, &events);
        assert_right(&machine, &models);
        for cpu in 0..CPUS {
            prop_assert_eq!(machine.scheduler.slice_end(cpu), None);
        }
        let running: Vec<bool> = (0..UNITS).map(|unit| machine.is_running(unit)).collect();
        machine.run_for(1000);
        let later: Vec<bool> = (0..UNITS).map(|unit| machine.is_running(unit)).collect();
        prop_assert_eq!(running, later);
    }
}
