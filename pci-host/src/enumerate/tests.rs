use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::bridge::BusRange;
use crate::capability::PortType;
use crate::config::ConfigAccess;
use crate::simulated::machines::{self, Machine, ecam};
use crate::simulated::{Fabric, Lie, SimFunction, Slot, samples};
use crate::{RequesterId, Width};

fn found(machine: &Machine) -> Enumeration {
    enumerate(&machine.bridge, &machine.fabric)
}

fn machine(slots: impl IntoIterator<Item = Slot>, buses: BusRange) -> Machine {
    let fabric = Fabric::on_bus(buses.first(), slots);
    let bridge = ecam(&fabric, 0, buses);
    Machine { fabric, bridge }
}

/// Each function as `name vendor:device`.
fn names(found: &Enumeration) -> Vec<String> {
    let name = |device: &Device| {
        let requester = device.sbdf.requester();
        format!("{requester} {:04x}:{:04x}", device.vendor, device.device)
    };
    found.devices.iter().map(name).collect()
}

fn id(text: &str) -> RequesterId {
    text.parse::<HostSbdf>().unwrap().requester()
}

fn numbers(machine: &Machine, bridge: &str) -> BusNumbers {
    let sbdf = bridge.parse().unwrap();
    BusNumbers::read(Function::new(&machine.bridge, sbdf))
}

#[test]
fn both_kinds_of_host_bridge_show_the_same_functions() {
    for machine in machines::both() {
        let found = found(&machine);
        assert_eq!(
            names(&found),
            [
                "00:00.0 1b36:000c",
                "01:00.0 1b36:000c",
                "02:00.0 1b36:000c",
                "02:01.0 1b36:000c",
                "02:02.0 1b36:000c",
                "02:03.0 1b36:000c",
                "02:04.0 1b36:000c",
                "03:00.0 144d:a808",
                "04:00.0 8086:10c9",
                "04:00.1 8086:10c9",
                // Bus 05 is for the network card's virtual functions.
                "06:00.0 10de:1eb8",
                "08:00.0 10b5:8112",
                "09:01.0 9710:9835",
                "09:02.0 9710:9835",
            ]
        );
        assert_eq!(found.faults, []);
        let last = found.devices.last().unwrap();
        assert_eq!(last.parent, Some("08:00.0".parse().unwrap()));
        // The port with nothing behind has a bus for what may come.
        let port = numbers(&machine, "02:03.0");
        assert_eq!((port.secondary, port.subordinate), (7, 7));
        let root = numbers(&machine, "00:00.0");
        assert_eq!((root.secondary, root.subordinate), (1, 9));
    }
}

#[test]
fn each_thing_known_of_a_function_is_read() {
    let machine = machines::server();
    let found = found(&machine);
    let of = |name: &str| {
        let sbdf = name.parse::<HostSbdf>().unwrap();
        found
            .devices
            .iter()
            .find(|device| device.sbdf == sbdf)
            .unwrap()
    };
    let port = of("00:02.1").express.unwrap();
    assert_eq!(port.port, PortType::Root);
    assert!(port.hot_plug && port.forwards_ari && of("00:02.1").leads_to_link());
    let acs = of("00:02.1").acs.unwrap();
    assert!(acs.enabled.contains(crate::capability::AcsFlags::ISOLATION));
    let network = of("07:00.0");
    assert_eq!((network.vendor, network.device), (0x8086, 0x10c9));
    let virtuals = network.sr_iov.unwrap();
    assert_eq!((virtuals.total, virtuals.device), (7, 0x10ca));
    assert_eq!(virtuals.bars[0].unwrap().size, 16 << 10);
    let seventh = virtuals.most().requester(id("07:00.0"), 6).unwrap();
    assert_eq!(seventh, id("08:11.4"));
    assert_eq!(virtuals.most().requester(id("07:00.0"), 7), None);
    let disk = of("01:00.0");
    assert_eq!(disk.msi.unwrap().vectors_log2, 5);
    let msi_x = disk.msi_x.unwrap();
    assert_eq!((msi_x.vectors, msi_x.table.offset), (33, 0x3000));
    assert!(disk.express.unwrap().function_level_reset);
    assert!(
        of("02:00.0")
            .power
            .is_some_and(|power| !power.no_soft_reset)
    );
}

#[test]
fn enumerating_again_changes_nothing() {
    for machine in machines::both() {
        let first = found(&machine);
        machine.fabric.take_seen();
        let second = found(&machine);
        assert_eq!(second, first);
        let numbered = |seen: &crate::simulated::Seen| {
            seen.written.is_some() && seen.access.offset().get() == 0x18
        };
        let bridges: Vec<_> = first
            .devices
            .iter()
            .filter(|device| device.is_bridge())
            .collect();
        let mut seen = machine.fabric.take_seen();
        seen.retain(|seen| {
            let bridge = |device: &&Device| device.sbdf.requester() == seen.function;
            numbered(seen) && bridges.iter().copied().any(|device| bridge(&device))
        });
        assert_eq!(seen, []);
    }
}

#[test]
fn numbers_of_firmware_stay_where_they_make_sense() {
    let with = |numbers: u32| samples::root_port().with(0x18, Width::Dword, numbers);
    let disk = || [Slot::new(0, 0, samples::nvme())];
    let machine = machine(
        [
            // Kept; the same buses again; a primary bus that is another; nothing yet.
            Slot::new(1, 0, with(0x0050_4000)).with(disk()),
            Slot::new(2, 0, with(0x0060_5000)).with(disk()),
            Slot::new(3, 0, with(0x0080_8001)).with(disk()),
            Slot::new(4, 0, with(0)).with(disk()),
        ],
        BusRange::ALL,
    );
    let found = found(&machine);
    let disks: Vec<_> = found
        .devices
        .iter()
        .filter(|device| !device.is_bridge())
        .collect();
    let buses: Vec<_> = disks.iter().map(|device| device.sbdf.bus()).collect();
    assert_eq!(buses, [0x40, 0x51, 0x52, 0x53]);
    let kept = numbers(&machine, "00:01.0");
    assert_eq!((kept.secondary, kept.subordinate), (0x40, 0x50));
}

#[test]
fn numbers_that_lead_where_others_do_or_nothing_does_are_told() {
    for machine in machines::both() {
        let found = found(&machine);
        let check = |name: &str, secondary, subordinate| {
            let sbdf: HostSbdf = name.parse().unwrap();
            let of = |device: &&Device| device.sbdf == sbdf;
            let parent = found.devices.iter().find(of).unwrap().parent;
            let beside = found.devices.iter();
            let beside = beside.filter(|other| other.sbdf.bus() == sbdf.bus());
            let numbers = BusNumbers {
                primary: sbdf.bus(),
                secondary,
                subordinate,
            };
            numbers.check(&machine.bridge, sbdf, parent, BusRange::ALL, beside)
        };
        // As they are, and what leads nowhere, as on the way to other numbers.
        for (name, secondary, subordinate) in [
            ("00:00.0", 1, 9),
            ("02:00.0", 3, 3),
            ("02:01.0", 0, 0),
            ("02:01.0", 4, 3),
        ] {
            assert_eq!(check(name, secondary, subordinate), Ok(()));
        }
        assert_eq!(check("00:00.0", 1, 255), Ok(()));
        let error = |name, secondary, subordinate| {
            check(name, secondary, subordinate).unwrap_err().to_string()
        };
        assert_eq!(
            error("02:00.0", 3, 4),
            "0000:02:01.0 leads to some of the same buses"
        );
        assert_eq!(
            error("02:00.0", 2, 3),
            "bus 0x02 cannot be behind a bridge on bus 0x02"
        );
        assert_eq!(
            error("02:00.0", 0, 1),
            "bus 0x00 cannot be behind a bridge on bus 0x02"
        );
        assert_eq!(
            error("02:04.0", 8, 10),
            "bus 0x0a cannot be behind it: what is before it leads up to 0x09"
        );
    }
}

#[test]
fn without_bus_numbers_what_is_behind_is_not_reached() {
    let port = |device| {
        Slot::new(device, 0, samples::root_port()).with([Slot::new(0, 0, samples::nvme())])
    };
    let machine = machine(
        [port(0), port(1), port(2)],
        BusRange::new(0xfe, 0xff).unwrap(),
    );
    let found = found(&machine);
    assert_eq!(names(&found).len(), 4);
    let fault = EnumerationFault::NoBusNumber;
    assert_eq!(
        found.faults,
        [
            ("fe:01.0".parse().unwrap(), fault),
            ("fe:02.0".parse().unwrap(), fault)
        ]
    );
    assert_eq!(numbers(&machine, "fe:01.0"), BusNumbers::NONE);
}

#[test]
fn a_device_with_more_than_eight_functions_is_found_by_ari() {
    let function = |number: u8, next: u8| Slot::ari(number, samples::nvme().with_ari(next));
    let functions = [
        function(0, 3),
        function(3, 9),
        function(9, 200),
        function(200, 9),
    ];
    let port = Slot::new(0, 0, samples::root_port()).with(functions);
    let machine = machine([port], BusRange::ALL);
    let found = found(&machine);
    let numbers: Vec<_> = found.devices[1..]
        .iter()
        .map(|device| device.sbdf.requester().devfn())
        .collect();
    assert_eq!(numbers, [0, 3, 9, 200]);
}

#[test]
fn functions_of_one_device_need_not_follow_each_other() {
    let function = |number| Slot::new(5, number, samples::serial_card().multifunction());
    let lonely = Slot::new(6, 1, samples::serial_card());
    let machine = machine(
        [function(0), function(4), function(7), lonely],
        BusRange::ALL,
    );
    assert_eq!(
        names(&found(&machine)),
        [
            "00:05.0 9710:9835",
            "00:05.4 9710:9835",
            "00:05.7 9710:9835"
        ]
    );
}

#[test]
fn a_function_that_is_not_ready_is_waited_for() {
    let machine = machine([Slot::new(1, 0, samples::nvme())], BusRange::ALL);
    machine.fabric.with(id("00:01.0"), |disk| {
        disk.begin_reset(Duration::from_millis(300))
    });
    assert_eq!(names(&found(&machine)).len(), 1);
    machine.fabric.with(id("00:01.0"), |disk| {
        disk.begin_reset(Duration::from_secs(3600))
    });
    let found = found(&machine);
    assert_eq!(found.devices, []);
    assert_eq!(
        found.faults,
        [("00:01.0".parse().unwrap(), EnumerationFault::NotReady)]
    );
}

#[test]
fn xsa_49_a_header_of_unknown_type_is_left_alone() {
    let strange = samples::nvme().with(0x0e, Width::Byte, 2);
    let machine = machine([Slot::new(1, 0, strange)], BusRange::ALL);
    machine.fabric.take_seen();
    let found = found(&machine);
    assert_eq!(found.devices, []);
    assert_eq!(found.faults[0].1, EnumerationFault::UnknownHeader);
    assert!(
        machine
            .fabric
            .take_seen()
            .iter()
            .all(|seen| seen.written.is_none())
    );
}

/// Of Xen's fixes without a number, 53859596c0: a table in a BAR of no size.
#[test]
fn msi_x_structures_must_be_inside_bars() {
    use crate::bar::BarKind;
    use crate::capability::MsiXFault;
    use crate::device::DeviceFault;
    let memory = BarKind::Memory32 {
        prefetchable: false,
    };
    let with = |table, pending| {
        SimFunction::endpoint(0x1234, 0x5678, 0)
            .with_bar(0, memory, 0x4000)
            .with_bar(1, BarKind::Io, 0x100)
            .with_msi_x(64, table, pending)
    };
    let cases = [
        (with((0, 0), (0, 0x3000)), None),
        (with((3, 0), (0, 0x3000)), Some(MsiXFault::NoBar(3))),
        (with((7, 0), (0, 0x3000)), Some(MsiXFault::NoBar(7))),
        (with((0, 0), (1, 0)), Some(MsiXFault::NoBar(1))),
        (with((0, 0x3c08), (0, 0)), Some(MsiXFault::OutsideBar(0))),
        (
            with((0, 0), (0, 0xffff_fff8)),
            Some(MsiXFault::OutsideBar(0)),
        ),
        (with((0, 0x1000), (0, 0x13f8)), Some(MsiXFault::Overlap)),
    ];
    for (function, fault) in cases {
        let found = found(&machine([Slot::new(1, 0, function)], BusRange::ALL));
        let device = &found.devices[0];
        assert_eq!(device.msi_x.is_some(), fault.is_none());
        let expected: Vec<_> = fault.map(DeviceFault::MsiX).into_iter().collect();
        assert_eq!(device.faults, expected);
    }
}

#[test]
fn endless_bridges_end() {
    let mut slot = Slot::new(0, 0, samples::nvme());
    for _ in 0..60 {
        slot = Slot::new(0, 0, samples::upstream_port()).with([slot]);
    }
    let machine = machine([slot], BusRange::ALL);
    let found = found(&machine);
    assert_eq!(found.devices.len(), MAX_DEPTH + 1);
    assert_eq!(found.faults[0].1, EnumerationFault::TooDeep);
}

#[test]
fn virtual_functions_that_run_are_turned_off() {
    let machine = machine([Slot::new(1, 0, samples::igb())], BusRange::ALL);
    let requester = id("00:01.0");
    let first = found(&machine);
    let at = first.devices[0].sr_iov.unwrap().offset.get();
    machine
        .fabric
        .with(requester, |card| card.raise(at + 8, Width::Word, 9));
    found(&machine);
    let control = machine
        .fabric
        .with(requester, |card| card.get(at + 8, Width::Word));
    assert_eq!(control, Some(0));
}

/// A bridge whose every function answers with pseudo-random bits.
fn lying(seed: u64) -> Machine {
    let liar = |slot: u64| {
        let function = samples::root_port().lying(Lie::Random(seed.wrapping_add(slot)));
        Slot::ari(slot as u8 * 8, function)
    };
    machine((0..32).map(liar), BusRange::new(0, 15).unwrap())
}

fn any_slot() -> impl Strategy<Value = Slot> {
    let leaf = (0..32_u8, 0..5_u8).prop_map(|(device, kind)| {
        let function = match kind {
            0 => samples::e1000e(),
            1 => samples::igb(),
            2 => samples::gpu(),
            3 => samples::serial_card(),
            _ => samples::nvme(),
        };
        Slot::new(device, 0, function)
    });
    leaf.prop_recursive(4, 24, 4, |inner| {
        (
            0..32_u8,
            any::<u32>(),
            proptest::collection::vec(inner, 0..4),
        )
            .prop_map(|(device, numbers, behind)| {
                let bridge = SimFunction::bridge(0x1234, 0x5678).with(0x18, Width::Dword, numbers);
                Slot::new(device, 0, bridge).with(behind)
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn xsa_337_enumeration_ends_whatever_is_read(seed: u64) {
        found(&lying(seed));
    }

    #[test]
    fn buses_nest_and_no_two_bridges_share_one(slots in proptest::collection::vec(any_slot(), 0..6)) {
        let machine = machine(slots, BusRange::ALL);
        let found = found(&machine);
        let mut names: Vec<_> = found.devices.iter().map(|device| device.sbdf).collect();
        names.sort_unstable();
        prop_assert!(names.is_sorted_by(|a, b| a < b), "a function twice");
        let numbers: Vec<_> = found
            .devices
            .iter()
            .filter(|device| device.is_bridge())
            .map(|device| (device, BusNumbers::read(Function::new(&machine.bridge, device.sbdf))))
            .filter(|(_, numbers)| numbers.secondary != 0)
            .collect();
        for (place, (bridge, of)) in numbers.iter().enumerate() {
            prop_assert!(of.primary == bridge.sbdf.bus() && of.primary < of.secondary);
            prop_assert!(of.secondary <= of.subordinate);
            for (_, other) in &numbers[place + 1..] {
                let inside = |a: &BusNumbers, b: &BusNumbers| {
                    a.secondary < b.secondary && b.subordinate <= a.subordinate
                };
                prop_assert!(!of.overlap(*other) || inside(of, other) || inside(other, of));
            }
        }
        for device in &found.devices {
            let vendor = machine.bridge.read(device.sbdf, crate::header::VENDOR_ID.access());
            prop_assert_eq!(vendor, u32::from(device.vendor));
        }
    }
}
