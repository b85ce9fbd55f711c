//! ITSs that stall, hang, and hosts that run out of memory.

extern crate std;

use super::super::command::{Command, TranslationTable};
use super::super::simulated::{Kind, Machine};
use super::super::{CollectionId, DeviceId, EventId, Its, ItsError, Lpis, Progress};
use super::{Rig, config, kinds, lpi};

#[test]
fn a_stalled_its_goes_on_behind_the_command_that_it_refused() {
    let mut rig = Rig::new(Kind::default(), 1);
    rig.add(5, 2);
    rig.map(5, 0, lpi(0), 0);
    let (device, event) = (DeviceId(5), EventId(0));
    for _ in 0..600 {
        rig.machine.stall_next(0);
        let refused = Command::Int { device, event };
        let result = rig.its.raise(&mut rig.machine, device, event);
        assert_eq!(result, Err(ItsError::Refused(refused)));
        assert_eq!(rig.machine.take(0), None);
        rig.its.raise(&mut rig.machine, device, event).unwrap();
        assert_eq!(rig.machine.take(0), Some(8192));
    }
    rig.assert_clean();
}

#[test]
fn an_its_that_stalls_at_its_first_command_is_started_anew() {
    let kind = Kind::default();
    let mut machine = Machine::new(&[kind], 1);
    let mut its = Its::start(machine.its(0), &mut machine, config(kind, 1)).unwrap();
    machine.stall_next(0);
    let (collection, to) = (CollectionId(0), machine.name_of(0));
    // No redistributor is known that a harmless command could name.
    let result = its.map_collection(&mut machine, collection, to);
    assert_eq!(result, Err(ItsError::Timeout));
    assert_eq!(its.map_collection(&mut machine, collection, to), Ok(()));
}

#[test]
fn a_refused_device_costs_no_memory() {
    let mut rig = Rig::new(Kind::default(), 1);
    rig.add(5, 2);
    let before = rig.machine.allocated();
    rig.machine.stall_next(0);
    let result = rig.its.add_device(&mut rig.machine, DeviceId(6), 2);
    assert!(matches!(
        result,
        Err(ItsError::Refused(Command::Mapd {
            table: Some(TranslationTable { event_bits: 1, .. }),
            ..
        }))
    ));
    assert_eq!(rig.machine.allocated(), before);
    rig.add(6, 2);
    rig.assert_clean();
}

#[test]
fn cve_2026_43161_an_its_that_hangs_is_not_waited_for_without_end() {
    for kind in kinds() {
        let mut rig = Rig::new(kind, 1);
        rig.add(5, 2);
        rig.map(5, 0, lpi(0), 0);
        let before = rig.machine.allocated();
        rig.machine.hang(0, true);
        let (device, event) = (DeviceId(5), EventId(0));
        for _ in 0..3 {
            let result = rig.its.raise(&mut rig.machine, device, event);
            assert_eq!(result, Err(ItsError::Timeout));
        }
        let result = rig.its.add_device(&mut rig.machine, DeviceId(6), 2);
        assert_eq!(result, Err(ItsError::Timeout));
        // What the ITS may still be told of is not given to others.
        assert!(rig.machine.allocated() > before);
        rig.machine.never_rest(0, true);
        let result = rig.its.raise(&mut rig.machine, device, event);
        assert!(matches!(
            result,
            Err(ItsError::NotQuiescent | ItsError::Timeout)
        ));
        rig.machine.never_rest(0, false);
        rig.machine.hang(0, false);
        // What was mapped still is.
        rig.its.raise(&mut rig.machine, device, event).unwrap();
        assert_eq!(rig.machine.take(0), Some(8192));
        rig.add(6, 2);
        rig.assert_clean();
    }
}

/// Everything that allocates, in one go.
fn life(machine: &mut Machine, kind: Kind) -> Result<(), ItsError> {
    let mut its = Its::start(machine.its(0), machine, config(kind, 1))?;
    let mut lpis = Lpis::new(machine, 16, true)?;
    lpis.enable_on(&machine.redistributor(0), machine)?;
    let to = machine.name_of(0);
    its.map_collection(machine, CollectionId(0), to)?;
    let before = machine.allocated();
    for device in [1, 0x4000, 0xffff] {
        let result = its.add_device(machine, DeviceId(device), 4);
        if result.is_err() {
            // Nothing half made is left.
            let again = its.remove_device(machine, DeviceId(device));
            assert_eq!(again, Err(ItsError::UnknownDevice(DeviceId(device))));
        }
        result?;
    }
    for device in [1, 0x4000, 0xffff] {
        while its.remove_device(machine, DeviceId(device))? == Progress::More {}
    }
    let level2 = machine.allocated() - before;
    assert!(level2 <= 3 * 0x1_0000);
    Ok(())
}

#[test]
fn every_allocation_may_fail() {
    for kind in kinds() {
        for count in 0.. {
            let mut machine = Machine::new(&[kind], 1);
            machine.fail_allocations_after(Some(count));
            let result = life(&mut machine, kind);
            assert!(machine.violations().is_empty());
            match result {
                Err(ItsError::NoMemory { .. }) => assert!(count < 20),
                result => {
                    assert_eq!(result, Ok(()));
                    break;
                }
            }
        }
    }
}
