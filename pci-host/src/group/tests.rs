use alloc::string::{String, ToString};

use proptest::prelude::*;

use super::*;
use crate::bridge::BusRange;
use crate::enumerate::enumerate;
use crate::simulated::machines::{self, Machine, ecam};
use crate::simulated::{Fabric, SimFunction, Slot, samples};

fn devices(machine: &Machine) -> Vec<Device> {
    enumerate(&machine.bridge, &machine.fabric).devices
}

fn machine(slots: impl IntoIterator<Item = Slot>) -> Machine {
    let fabric = Fabric::new(slots);
    let bridge = ecam(&fabric, 0, BusRange::ALL);
    Machine { fabric, bridge }
}

/// The groups of more than one function, each as its functions.
fn shared(devices: &[Device]) -> Vec<String> {
    let groups = groups(devices, |_| None);
    let mut sets: BTreeMap<GroupId, Vec<String>> = BTreeMap::new();
    for (device, group) in devices.iter().zip(groups) {
        let name = device.sbdf.requester().to_string();
        sets.entry(group).or_default().push(name);
    }
    let shared = sets.into_values().filter(|set| set.len() > 1);
    shared.map(|set| set.join(" ")).collect()
}

fn endpoint(device: u8) -> Slot {
    Slot::new(device, 0, samples::nvme())
}

#[test]
fn behind_ports_with_acs_each_function_is_alone_but_on_conventional_buses() {
    for machine in machines::both() {
        let devices = devices(&machine);
        assert_eq!(shared(&devices), ["08:00.0 09:01.0 09:02.0"]);
    }
}

#[test]
fn a_port_without_acs_makes_one_group_of_all_behind() {
    let open = Slot::new(1, 0, samples::root_port_without_acs());
    let machine = machine([open.with([machines::switch()]), endpoint(2)]);
    let devices = devices(&machine);
    assert_eq!(shared(&devices).len(), 1);
    let groups = groups(&devices, |_| None);
    let alone: Vec<_> = devices
        .iter()
        .zip(&groups)
        .filter(|(_, group)| group.0.to_string() != "0000:00:01.0")
        .map(|(device, _)| device.sbdf.to_string())
        .collect();
    assert_eq!(alone, ["0000:00:02.0"]);
}

#[test]
fn one_port_of_a_switch_without_acs_opens_the_others() {
    let port = |device, function: SimFunction| Slot::new(device, 0, function).with([endpoint(0)]);
    let open = samples::switch_port_without_acs();
    let switch = Slot::new(0, 0, samples::upstream_port())
        .with([port(0, samples::downstream_port()), port(1, open)]);
    let machine = machine([Slot::new(0, 0, samples::root_port()).with([switch])]);
    assert_eq!(
        shared(&devices(&machine)),
        ["02:00.0 02:01.0 03:00.0 04:00.0"]
    );
}

#[test]
fn functions_of_a_device_without_acs_are_together_unless_the_vendor_says_otherwise() {
    let pair = |function: SimFunction| {
        [0, 1].map(|number| Slot::new(3, number, function.clone().multifunction()))
    };
    let disks = machine(pair(samples::nvme()));
    assert_eq!(shared(&devices(&disks)), ["00:03.0 00:03.1"]);
    let isolating = machine(pair(samples::nvme().with_acs(0x1f)));
    assert_eq!(shared(&devices(&isolating)), [""; 0]);
    let network = machine(pair(samples::igb()));
    assert_eq!(shared(&devices(&network)), [""; 0]);
}

#[test]
fn functions_with_the_same_stream_are_together() {
    let machine = machine([endpoint(1), endpoint(2), endpoint(3)]);
    let devices = devices(&machine);
    // As an iommu-map-mask that leaves a bit out has it.
    let groups = groups(&devices, |device| {
        Some(u64::from(device.sbdf.requester().bits() & 0xfff0))
    });
    assert_eq!(groups[1], groups[2]);
    assert_ne!(groups[0], groups[1]);
}

#[test]
fn xsa_33_requests_from_conventional_pci_carry_the_bridges_id() {
    let machine = machines::both().remove(0);
    let devices = devices(&machine);
    let card: HostSbdf = "09:02.0".parse().unwrap();
    let of = |name: &str| name.parse::<HostSbdf>().unwrap().requester();
    assert_eq!(
        aliases(devices.iter(), card),
        [of("08:00.0"), of("09:00.0")]
    );
    assert_eq!(aliases(devices.iter(), "03:00.0".parse().unwrap()), []);
    for device in &devices {
        let function = crate::config::Function::new(&machine.bridge, device.sbdf);
        let command = function.read(crate::header::COMMAND);
        function.write(
            crate::header::COMMAND,
            command | crate::header::Command::BUS_MASTER,
        );
    }
    for device in &devices {
        let seen = machine.fabric.request(device.sbdf.requester()).unwrap();
        let known = aliases(devices.iter(), device.sbdf);
        assert!(seen == device.sbdf.requester() || known.contains(&seen));
    }
}

fn any_slot() -> impl Strategy<Value = Slot> {
    let leaf = (0..3_u8).prop_map(|kind| {
        let function = match kind {
            0 => samples::nvme(),
            1 => samples::serial_card(),
            _ => samples::igb().multifunction(),
        };
        Slot::new(0, 0, function)
    });
    leaf.prop_recursive(3, 12, 3, |inner| {
        (proptest::collection::vec(inner, 1..4), 0..5_u8).prop_map(|(behind, kind)| {
            let bridge = match kind {
                0 => samples::root_port(),
                1 => samples::root_port_without_acs(),
                2 => samples::downstream_port(),
                3 => samples::switch_port_without_acs(),
                _ => samples::legacy_bridge(),
            };
            let behind = (0..)
                .zip(behind)
                .map(|(device, slot)| slot.at_device(device));
            Slot::new(0, 0, bridge).with(behind)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn groups_are_a_partition_named_by_their_first(
        slots in proptest::collection::vec(any_slot(), 1..4), mask: u16,
    ) {
        let slots = (0..).zip(slots).map(|(device, slot)| slot.at_device(device));
        let machine = machine(slots);
        let devices = devices(&machine);
        let stream = |device: &Device| Some(u64::from(device.sbdf.requester().bits() & mask));
        let groups = groups(&devices, stream);
        prop_assert_eq!(groups.len(), devices.len());
        for (place, device) in devices.iter().enumerate() {
            let first = groups.iter().position(|group| *group == groups[place]).unwrap();
            prop_assert_eq!(groups[place].0, devices[first].sbdf);
            for (other, others) in devices.iter().enumerate() {
                if stream(device) == stream(others) {
                    prop_assert_eq!(groups[place], groups[other]);
                }
            }
        }
    }
}
