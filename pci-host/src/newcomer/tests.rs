use alloc::vec::Vec;

use super::*;
use crate::bridge::BusRange;
use crate::capability::Placement;
use crate::config::Register;
use crate::enumerate::enumerate;
use crate::resources::assign;
use crate::simulated::machines::{self, Machine};
use crate::simulated::{Fabric, Slot, samples};

fn sbdf(text: &str) -> HostSbdf {
    text.parse().unwrap()
}

fn found(machine: &Machine) -> Vec<Device> {
    let mut devices = enumerate(&machine.bridge, &machine.fabric).devices;
    assign(&machine.bridge, &mut devices);
    devices
}

fn look_at(machine: &Machine, known: &[Device], name: &str) -> Newcomer {
    look(&machine.bridge, known.iter(), 0, sbdf(name))
}

/// Whoever is found one by one is as enumeration found it, on each kind of host bridge.
#[test]
fn each_function_is_found_again_from_its_bridge() {
    for machine in machines::both() {
        let devices = found(&machine);
        for device in &devices {
            let others: Vec<Device> = devices
                .iter()
                .filter(|other| other.sbdf != device.sbdf)
                .cloned()
                .collect();
            let name = device.sbdf;
            let again = look(&machine.bridge, others.iter(), 0, name);
            assert_eq!(
                again,
                Newcomer::Function(Box::new(device.clone())),
                "{name}"
            );
        }
        assert_eq!(look_at(&machine, &devices, "00:1f.0"), Newcomer::Nobody);
    }
}

#[test]
fn who_answers_behind_an_unknown_bridge_is_nobody() {
    let machine = machines::both().remove(0);
    let devices = found(&machine);
    assert_eq!(
        look_at(&machine, &devices[..1], "03:00.0"),
        Newcomer::Nobody
    );
}

#[test]
fn a_bridge_with_another_number_has_the_same_function_behind() {
    let root = Slot::new(1, 0, samples::root_port());
    let fabric = Fabric::new([root.with([Slot::new(0, 0, samples::nvme())])]);
    let bridge = machines::ecam(&fabric, 0, BusRange::ALL);
    let machine = Machine { fabric, bridge };
    let devices = found(&machine);
    let port = Function::new(&machine.bridge, sbdf("00:01.0"));
    let numbers = BusNumbers {
        primary: 0,
        secondary: 7,
        subordinate: 7,
    };
    numbers.write(port);
    assert_eq!(look_at(&machine, &devices, "01:00.0"), Newcomer::Nobody);
    let Newcomer::Function(disk) = look_at(&machine, &devices, "07:00.0") else {
        panic!("it is there");
    };
    assert_eq!(disk.parent, Some(sbdf("00:01.0")));
    assert_eq!(disk.bars, devices[1].bars);
}

#[test]
fn virtual_functions_are_found_where_their_physical_one_has_moved_them() {
    let root = Slot::new(1, 0, samples::root_port());
    let fabric = Fabric::new([root.with([Slot::new(0, 0, samples::igb())])]);
    let bridge = machines::ecam(&fabric, 0, BusRange::ALL);
    let machine = Machine { fabric, bridge };
    let devices = found(&machine);
    let physical = sbdf("01:00.0");
    let card = devices
        .iter()
        .find(|device| device.sbdf == physical)
        .unwrap();
    let sr_iov = card.sr_iov.unwrap();
    let placement = Placement {
        count: 3,
        ..sr_iov.most()
    };
    let second = placement.requester(physical.requester(), 1).unwrap();
    let second = physical.neighbour(second);
    let look = || look(&machine.bridge, devices.iter(), 0, second);
    assert_eq!(look(), Newcomer::Nobody);
    let function = Function::new(&machine.bridge, physical);
    let register = |bytes| Register::<u16>::new(sr_iov.offset.checked_add(bytes).unwrap()).unwrap();
    let bar = sr_iov.bars[0].unwrap();
    let moved = bar.address.unwrap() ^ 0x80_0000;
    function.write(sr_iov.bar_register(0).unwrap(), moved as u32);
    function.write(register(0x10), 3);
    function.write(register(0x08), 9);
    let Newcomer::Function(device) = look() else {
        panic!("it is there");
    };
    assert_eq!(device.physical, Some(physical));
    assert_eq!(device.bars[0].unwrap().address, Some(moved + bar.size));
    for index in 0..3 {
        let requester = placement.requester(physical.requester(), index).unwrap();
        assert_eq!(
            placement.index(physical.requester(), requester),
            Some(index)
        );
    }
    assert_eq!(
        placement.index(physical.requester(), physical.requester()),
        None
    );
}
