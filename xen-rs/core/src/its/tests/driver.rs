//! What an ITS is made to do, on every kind.

extern crate std;

use std::vec::Vec;

use super::super::command::Command;
use super::super::layout::{GITS_CTLR, LpiConfig, PageSize};
use super::super::simulated::{Kind, Machine};
use super::super::{
    CollectionId, Config, DeviceId, EventId, Its, ItsError, Lpis, Progress, Registers, Target,
};
use super::{ENABLED, Rig, config, kinds, lpi};

#[test]
fn a_message_becomes_its_lpi_on_every_kind_of_its() {
    for kind in kinds() {
        let mut rig = Rig::new(kind, 3);
        for (number, device) in [0, 0x10, 0xffff].into_iter().enumerate() {
            rig.add(device, 8);
            for event in 0..8 {
                rig.map(
                    device,
                    event,
                    lpi(number as u32 * 8 + event),
                    event as u16 % 3,
                );
            }
        }
        for (number, device) in [0, 0x10, 0xffff].into_iter().enumerate() {
            for event in 0..8 {
                rig.message(device, event);
                let intid = 8192 + number as u32 * 8 + event;
                let taken: Vec<_> = (0..3).map(|cpu| rig.machine.take(cpu)).collect();
                let mut expected = std::vec![None; 3];
                expected[event as usize % 3] = Some(intid);
                assert_eq!(taken, expected, "{kind:?}");
            }
        }
        rig.assert_clean();
    }
}

#[test]
fn a1f8b32af0_an_event_that_was_not_mapped_is_nothing_even_without_coherence() {
    for kind in kinds() {
        let mut rig = Rig::new(kind, 1);
        rig.add(5, 8);
        for device in [4, 5, 6, 0x9000] {
            for event in 0..9 {
                rig.message(device, event);
            }
        }
        assert_eq!(rig.machine.take(0), None);
        // Had a table not been cleaned to memory, garbage in it would have been seen.
        rig.assert_clean();
    }
}

#[test]
fn a_pending_lpi_moves_with_its_event() {
    for kind in kinds() {
        let mut rig = Rig::new(kind, 2);
        rig.add(5, 2);
        rig.map(5, 1, lpi(40), 0);
        rig.message(5, 1);
        assert!(rig.machine.is_pending(0, 8232));
        rig.its
            .move_event(&mut rig.machine, DeviceId(5), EventId(1), CollectionId(1))
            .unwrap();
        assert_eq!(rig.machine.take(0), None);
        assert_eq!(rig.machine.take(1), Some(8232));
        rig.message(5, 1);
        assert_eq!(rig.machine.take(1), Some(8232));
        let mapping = rig.its.mapping(DeviceId(5), EventId(1));
        assert_eq!(mapping, Ok((lpi(40), CollectionId(1))));
        rig.assert_clean();
    }
}

#[test]
fn a_move_waits_for_both_redistributors() {
    let mut rig = Rig::new(Kind::default(), 2);
    rig.add(5, 1);
    rig.map(5, 0, lpi(0), 0);
    rig.machine.take_executed(0);
    rig.its
        .move_event(&mut rig.machine, DeviceId(5), EventId(0), CollectionId(1))
        .unwrap();
    let target = |number| Target::of_address(rig.machine.name_of(number).frames).unwrap();
    let movi = Command::Movi {
        device: DeviceId(5),
        event: EventId(0),
        collection: CollectionId(1),
    };
    let sync = |number| Command::Sync {
        target: target(number),
    };
    assert_eq!(rig.machine.take_executed(0), [movi, sync(0), sync(1)]);
}

#[test]
fn a_discarded_event_leaves_nothing_pending_and_its_lpi_can_be_given_to_another() {
    for kind in kinds() {
        let mut rig = Rig::new(kind, 1);
        rig.add(5, 2);
        rig.add(6, 2);
        rig.map(5, 0, lpi(7), 0);
        rig.message(5, 0);
        rig.its
            .discard_event(&mut rig.machine, DeviceId(5), EventId(0))
            .unwrap();
        assert!(!rig.machine.is_pending(0, 8199));
        rig.map(6, 1, lpi(7), 0);
        rig.message(5, 0);
        assert_eq!(rig.machine.take(0), None);
        rig.message(6, 1);
        assert_eq!(rig.machine.take(0), Some(8199));
        rig.assert_clean();
    }
}

#[test]
fn raise_and_clear_act_as_a_message_does() {
    for kind in kinds() {
        let mut rig = Rig::new(kind, 1);
        rig.add(5, 1);
        rig.map(5, 0, lpi(3), 0);
        let (device, event) = (DeviceId(5), EventId(0));
        rig.its.raise(&mut rig.machine, device, event).unwrap();
        rig.its.clear(&mut rig.machine, device, event).unwrap();
        assert_eq!(rig.machine.take(0), None);
        rig.its.raise(&mut rig.machine, device, event).unwrap();
        assert_eq!(rig.machine.take(0), Some(8195));
        rig.assert_clean();
    }
}

#[test]
fn configuration_is_seen_after_a_reload() {
    for kind in kinds() {
        let mut rig = Rig::new(kind, 1);
        rig.add(5, 2);
        rig.map(5, 0, lpi(0), 0);
        rig.map(5, 1, lpi(1), 0);
        rig.message(5, 0);
        assert_eq!(rig.machine.take(0), Some(8192));
        let off = LpiConfig {
            enabled: false,
            ..ENABLED
        };
        let urgent = LpiConfig {
            priority: 0,
            ..ENABLED
        };
        for (number, config) in [(0, off), (1, urgent)] {
            rig.lpis
                .configure(&mut rig.machine, lpi(number), config)
                .unwrap();
            rig.its
                .reload(&mut rig.machine, DeviceId(5), EventId(number))
                .unwrap();
        }
        rig.message(5, 0);
        rig.message(5, 1);
        assert_eq!(rig.machine.take(0), Some(8193));
        assert_eq!(rig.machine.take(0), None);
        // It stayed pending.
        rig.lpis
            .configure(&mut rig.machine, lpi(0), ENABLED)
            .unwrap();
        rig.its
            .reload(&mut rig.machine, DeviceId(5), EventId(0))
            .unwrap();
        assert_eq!(rig.machine.take(0), Some(8192));
        rig.assert_clean();
    }
}

#[test]
fn xsa_36_a_removed_device_leaves_nothing_behind() {
    for kind in kinds() {
        let mut rig = Rig::new(kind, 1);
        rig.add(0x100, 1);
        let before = rig.machine.allocated();
        for _ in 0..20 {
            rig.add(0x108, 32);
            for event in 0..32 {
                rig.map(0x108, event, lpi(event), 0);
                rig.message(0x108, event);
            }
            let mut remove = || rig.its.remove_device(&mut rig.machine, DeviceId(0x108));
            while remove().unwrap() == Progress::More {}
            assert_eq!(rig.machine.take(0), None);
            rig.message(0x108, 3);
            assert_eq!(rig.machine.take(0), None);
        }
        assert_eq!(rig.machine.allocated(), before);
        rig.assert_clean();
    }
}

#[test]
fn removal_is_done_in_steps() {
    let mut rig = Rig::new(Kind::default(), 1);
    rig.add(1, 100);
    for event in 0..100 {
        rig.map(1, event, lpi(event), 0);
    }
    let mut calls = 1;
    while rig
        .its
        .remove_device(&mut rig.machine, DeviceId(1))
        .unwrap()
        == Progress::More
    {
        calls += 1;
    }
    assert_eq!(calls, 4);
}

#[test]
fn a_collection_can_go_elsewhere_with_what_is_pending() {
    for kind in kinds() {
        let mut rig = Rig::new(kind, 2);
        rig.add(1, 1);
        rig.map(1, 0, lpi(0), 0);
        rig.message(1, 0);
        let (old, new) = (rig.machine.name_of(0), rig.machine.name_of(1));
        rig.its
            .map_collection(&mut rig.machine, CollectionId(0), new)
            .unwrap();
        rig.its.move_pending(&mut rig.machine, old, new).unwrap();
        assert_eq!(rig.machine.take(0), None);
        assert_eq!(rig.machine.take(1), Some(8192));
        rig.message(1, 0);
        assert_eq!(rig.machine.take(1), Some(8192));
        rig.assert_clean();
    }
}

#[test]
fn several_itss_share_the_lpis() {
    let kind = Kind::default();
    let mut machine = Machine::new(&[kind, kind], 1);
    let mut lpis = Lpis::new(&mut machine, 16, true).unwrap();
    lpis.enable_on(&machine.redistributor(0), &mut machine)
        .unwrap();
    let mut itss: Vec<_> = (0..2)
        .map(|index| Its::start(machine.its(index), &mut machine, config(kind, 1)).unwrap())
        .collect();
    let (device, event, collection) = (DeviceId(9), EventId(0), CollectionId(0));
    let range = lpis.allocate(2).unwrap();
    for (index, its) in itss.iter_mut().enumerate() {
        let to = machine.name_of(0);
        its.map_collection(&mut machine, collection, to).unwrap();
        its.add_device(&mut machine, device, 1).unwrap();
        let lpi = range.get(index as u32).unwrap();
        lpis.configure(&mut machine, lpi, ENABLED).unwrap();
        its.map_event(&mut machine, device, event, lpi, collection)
            .unwrap();
    }
    machine.message(1, device, event);
    assert_eq!(machine.take(0), Some(8193));
    machine.message(0, device, event);
    assert_eq!(machine.take(0), Some(8192));
}

#[test]
fn what_does_not_exist_is_refused_without_a_command() {
    let kind = kinds()[5];
    let mut rig = Rig::new(kind, 2);
    rig.add(1, 4);
    rig.map(1, 0, lpi(0), 0);
    rig.machine.take_executed(0);
    let host = &mut rig.machine;
    let its = &mut rig.its;
    let unknown = |event| ItsError::UnknownEvent {
        device: DeviceId(1),
        event: EventId(event),
    };
    let far = ItsError::DeviceId {
        device: DeviceId(0x1_0000),
        limit: 0x1_0000,
    };
    assert_eq!(its.add_device(host, DeviceId(0x1_0000), 1), Err(far));
    let events = |events| ItsError::Events {
        device: DeviceId(2),
        events,
        most: 32,
    };
    assert_eq!(its.add_device(host, DeviceId(2), 33), Err(events(33)));
    assert_eq!(its.add_device(host, DeviceId(2), 0), Err(events(0)));
    let known = Err(ItsError::Known(DeviceId(1)));
    assert_eq!(its.add_device(host, DeviceId(1), 1), known);
    let no_device = Err(ItsError::UnknownDevice(DeviceId(3)));
    assert_eq!(its.raise(host, DeviceId(3), EventId(0)), no_device);
    assert_eq!(its.raise(host, DeviceId(1), EventId(1)), Err(unknown(1)));
    let (device, collection) = (DeviceId(1), CollectionId(0));
    let beyond = its.map_event(host, device, EventId(4), lpi(1), collection);
    assert_eq!(beyond, Err(unknown(4)));
    let again = its.map_event(host, device, EventId(0), lpi(1), collection);
    let mapped = ItsError::Mapped {
        device,
        event: EventId(0),
    };
    assert_eq!(again, Err(mapped));
    let nowhere = CollectionId(2);
    let lost = its.move_event(host, device, EventId(0), nowhere);
    assert_eq!(lost, Err(ItsError::UnknownCollection(nowhere)));
    assert_eq!(rig.machine.take_executed(0), []);
    let text = std::format!("{far}");
    assert_eq!(
        text,
        "device 0x10000: the ITS has room for ids below 0x10000"
    );
}

#[test]
fn tables_are_no_larger_than_needed() {
    let allocated = |kind| {
        let mut machine = Machine::new(&[kind], 1);
        Its::start(machine.its(0), &mut machine, config(kind, 1)).unwrap();
        machine.allocated()
    };
    let usual = Kind::default();
    let small = Kind {
        only_page: Some(PageSize::Small),
        ..usual
    };
    // A page for the first level, one for collections, 16 KiB for the queue.
    assert_eq!(allocated(usual), 0x1_0000 + 0x1_0000 + 0x4000);
    assert_eq!(allocated(small), 0x1000 + 0x1000 + 0x4000);
    let flat = Kind {
        indirect: false,
        ..usual
    };
    assert_eq!(allocated(flat), 0x8_0000 + 0x1_0000 + 0x4000);
}

#[test]
fn an_its_that_firmware_left_running_is_stopped_first() {
    let kind = Kind::default();
    let mut machine = Machine::new(&[kind], 1);
    machine.its(0).write32(GITS_CTLR, 1);
    let its = Its::start(machine.its(0), &mut machine, config(kind, 1));
    assert!(its.is_ok());
    let unquiet = Machine::new(&[kind], 1);
    unquiet.never_rest(0, true);
    let its = Its::start(unquiet.its(0), &mut unquiet.clone(), config(kind, 1));
    assert_eq!(its.err(), Some(ItsError::NotQuiescent));
}

#[test]
fn too_many_collections_are_refused() {
    let mut kind = Kind::default();
    kind.typer.collection_bits = 1;
    let mut machine = Machine::new(&[kind], 4);
    let asked = Config {
        coherent: true,
        collections: 4,
    };
    let its = Its::start(machine.its(0), &mut machine, asked);
    assert_eq!(its.err(), Some(ItsError::NoTable("collection")));
}

#[test]
fn lpis_that_firmware_enabled_are_disabled_if_that_is_possible() {
    let kind = Kind::default();
    let mut machine = Machine::new(&[kind], 3);
    let mut lpis = Lpis::new(&mut machine, 16, true).unwrap();
    machine.redistributor(0).enable_before(false);
    machine.redistributor(1).enable_before(true);
    machine.redistributor(2).remove_lpis();
    let mut enable = |number| lpis.enable_on(&machine.redistributor(number), &mut machine.clone());
    assert_eq!(enable(0), Ok(()));
    assert_eq!(enable(1), Err(ItsError::LpisEnabled));
    assert_eq!(enable(2), Err(ItsError::NoLpis));
}
