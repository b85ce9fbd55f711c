//! Random sequences of operations, against a map of what should be.

extern crate std;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proptest::prelude::*;

use super::super::{CollectionId, DeviceId, EventId, Progress};
use super::{Rig, kinds, lpi};

const DEVICES: [u32; 4] = [0, 1, 0x2000, 0xffff];
const EVENTS: u32 = 4;
const CPUS: u16 = 3;

#[derive(Clone, Debug)]
enum Step {
    Add(usize),
    Remove(usize),
    Map(usize, u32, u16),
    Move(usize, u32, u16),
    Discard(usize, u32),
    Message(usize, u32),
    Raise(usize, u32),
    Clear(usize, u32),
    Stall,
    Take(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let device = 0..DEVICES.len();
    let event = 0..EVENTS + 1;
    let cpu = 0..CPUS;
    prop_oneof![
        2 => device.clone().prop_map(Step::Add),
        1 => device.clone().prop_map(Step::Remove),
        5 => (device.clone(), event.clone(), cpu.clone()).prop_map(|(d, e, c)| Step::Map(d, e, c)),
        3 => (device.clone(), event.clone(), cpu.clone()).prop_map(|(d, e, c)| Step::Move(d, e, c)),
        2 => (device.clone(), event.clone()).prop_map(|(d, e)| Step::Discard(d, e)),
        8 => (device.clone(), event.clone()).prop_map(|(d, e)| Step::Message(d, e)),
        1 => (device.clone(), event.clone()).prop_map(|(d, e)| Step::Raise(d, e)),
        1 => (device, event).prop_map(|(d, e)| Step::Clear(d, e)),
        1 => Just(Step::Stall),
        6 => cpu.prop_map(Step::Take),
    ]
}

/// What should be: the collection of each mapped event, and what is pending where.
#[derive(Default)]
struct Model {
    known: BTreeSet<usize>,
    mapped: BTreeMap<(usize, u32), u16>,
    pending: BTreeSet<(u16, usize, u32)>,
}

/// Each event has an LPI of its own.
fn number(device: usize, event: u32) -> u32 {
    device as u32 * EVENTS + event
}

fn run(rig: &mut Rig, model: &mut Model, step: &Step) {
    let host = &mut rig.machine;
    match *step {
        Step::Add(index) => {
            let added = rig.its.add_device(host, DeviceId(DEVICES[index]), EVENTS);
            assert_eq!(added.is_ok(), model.known.insert(index));
        }
        Step::Remove(index) => {
            let id = DeviceId(DEVICES[index]);
            let removed = loop {
                match rig.its.remove_device(host, id) {
                    Ok(Progress::More) => {}
                    result => break result,
                }
            };
            assert_eq!(removed.is_ok(), model.known.remove(&index));
            model.mapped.retain(|(device, _), _| *device != index);
            model.pending.retain(|(_, device, _)| *device != index);
        }
        Step::Map(index, event, cpu) => {
            let free = model.known.contains(&index)
                && event < EVENTS
                && !model.mapped.contains_key(&(index, event));
            if free {
                rig.map(DEVICES[index], event, lpi(number(index, event)), cpu);
                model.mapped.insert((index, event), cpu);
            } else {
                let id = DeviceId(DEVICES[index]);
                let result = rig
                    .its
                    .map_event(host, id, EventId(event), lpi(0), CollectionId(cpu));
                assert!(result.is_err());
            }
        }
        Step::Move(index, event, cpu) => {
            let (id, event_id) = (DeviceId(DEVICES[index]), EventId(event));
            let moved = rig.its.move_event(host, id, event_id, CollectionId(cpu));
            let old = model.mapped.get_mut(&(index, event));
            assert_eq!(moved.is_ok(), old.is_some());
            if let Some(old) = old {
                if model.pending.remove(&(*old, index, event)) {
                    model.pending.insert((cpu, index, event));
                }
                *old = cpu;
            }
        }
        Step::Discard(index, event) => {
            let (id, event_id) = (DeviceId(DEVICES[index]), EventId(event));
            let discarded = rig.its.discard_event(host, id, event_id);
            let old = model.mapped.remove(&(index, event));
            assert_eq!(discarded.is_ok(), old.is_some());
            model.pending.retain(|&(_, d, e)| (d, e) != (index, event));
        }
        Step::Message(index, event) | Step::Raise(index, event) => {
            if matches!(step, Step::Message(..)) {
                rig.message(DEVICES[index], event);
            } else {
                let (id, event_id) = (DeviceId(DEVICES[index]), EventId(event));
                let raised = rig.its.raise(host, id, event_id);
                assert_eq!(raised.is_ok(), model.mapped.contains_key(&(index, event)));
            }
            if let Some(cpu) = model.mapped.get(&(index, event)) {
                model.pending.insert((*cpu, index, event));
            }
        }
        Step::Clear(index, event) => {
            let (id, event_id) = (DeviceId(DEVICES[index]), EventId(event));
            let cleared = rig.its.clear(host, id, event_id);
            assert_eq!(cleared.is_ok(), model.mapped.contains_key(&(index, event)));
            model.pending.retain(|&(_, d, e)| (d, e) != (index, event));
        }
        Step::Stall => {
            rig.machine.stall_next(0);
            let to = rig.machine.name_of(0);
            let result = rig.its.move_pending(&mut rig.machine, to, to);
            assert!(result.is_err());
        }
        Step::Take(cpu) => {
            let expected = model
                .pending
                .iter()
                .filter(|(at, ..)| *at == cpu)
                .map(|&(_, device, event)| (number(device, event), (cpu, device, event)))
                .min();
            let taken = rig.machine.take(cpu);
            assert_eq!(taken, expected.map(|(number, _)| 8192 + number));
            if let Some((_, pending)) = expected {
                model.pending.remove(&pending);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every message is delivered once to the CPU where its event is, and no other.
    #[test]
    fn hardware_follows_the_driver(
        kind in 0..6_usize,
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut rig = Rig::new(kinds()[kind], CPUS);
        let mut model = Model::default();
        for step in &steps {
            run(&mut rig, &mut model, step);
        }
        for cpu in 0..CPUS {
            while model.pending.iter().any(|(at, ..)| *at == cpu) {
                run(&mut rig, &mut model, &Step::Take(cpu));
            }
            prop_assert_eq!(rig.machine.take(cpu), None);
        }
        rig.assert_clean();
    }
}
