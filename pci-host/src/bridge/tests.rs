use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::config::{Access, ConfigOffset, Function};
use crate::header;
use crate::simulated::machines::{description, ecam};
use crate::simulated::{Fabric, SimEcam, SimFunction, Slot, samples};
use crate::{HostSbdf, RequesterId};

fn sbdf(text: &str) -> HostSbdf {
    text.parse().unwrap()
}

#[test]
fn several_bridges_are_told_apart_by_segment_and_bus() {
    let fabric = |device| {
        move |bus| {
            let function = SimFunction::endpoint(0x1234, device, 0);
            Fabric::on_bus(bus, [Slot::new(0, 0, function)])
        }
    };
    let range = |first, last| BusRange::new(first, last).unwrap();
    let mut bridges = Bridges::new();
    bridges
        .add(ecam(&fabric(1)(0x80), 0, range(0x80, 0xff)))
        .unwrap();
    bridges.add(ecam(&fabric(2)(0), 1, BusRange::ALL)).unwrap();
    bridges.add(ecam(&fabric(3)(0), 0, range(0, 0x7f))).unwrap();
    let device = |name| Function::new(&bridges, sbdf(name)).read(header::DEVICE_ID);
    assert_eq!(device("0000:80:00.0"), 1);
    assert_eq!(device("0001:00:00.0"), 2);
    assert_eq!(device("0000:00:00.0"), 3);
    assert_eq!(device("0000:7f:1f.7"), 0xffff);
    assert_eq!(device("0002:00:00.0"), 0xffff);
    assert_eq!(
        bridges
            .add(ecam(&fabric(4)(0x70), 0, range(0x70, 0x90)))
            .unwrap_err()
            .to_string(),
        "/pcie@40000000: buses 70-90 of segment 0x0 belong to /pcie@40000000, too"
    );
}

#[test]
fn a_window_too_small_for_its_buses_has_fewer() {
    let fabric = Fabric::new([]);
    let registers = Box::new(SimEcam::new(&fabric, 0, 16));
    let given = description("pci-host-ecam-generic", 0, BusRange::ALL);
    let bridge = Bridge::probe(given.clone(), registers).unwrap();
    assert_eq!(bridge.description().buses, BusRange::new(0, 15).unwrap());
    let none = Box::new(SimEcam::new(&fabric, 0, 0));
    assert_eq!(
        Bridge::probe(given, none).err().unwrap().to_string(),
        "/pcie@40000000: has 0x0 bytes of registers: at least 0x100000 are needed"
    );
}

#[test]
fn a_root_port_that_answers_for_every_device_is_found_once() {
    let port = || Slot::new(0, 0, samples::root_port()).with([Slot::new(0, 0, samples::nvme())]);
    let fabric = Fabric::new((0..4).map(|device| port().at_device(device)));
    let registers = Box::new(SimEcam::new(&fabric, 0, 256));
    let given = description("socionext,synquacer-pcie-ecam", 0, BusRange::ALL);
    let bridge = Bridge::probe(given, registers).unwrap();
    let found = crate::enumerate::enumerate(&bridge, &fabric);
    assert_eq!(found.devices.len(), 2);
}

#[test]
fn a_bridge_that_nobody_drives_says_what_it_is() {
    let given = description("brcm,bcm2711-pcie", 0, BusRange::ALL);
    let registers = Box::new(SimEcam::new(&Fabric::new([]), 0, 1));
    assert_eq!(
        Bridge::probe(given, registers).err().unwrap().to_string(),
        "/pcie@40000000: no driver for a PCI host bridge that is brcm,bcm2711-pcie"
    );
}

#[test]
fn accesses_arrive_with_their_width_and_alone() {
    let fabric = Fabric::new([Slot::new(3, 0, samples::e1000e())]);
    let bridge = ecam(&fabric, 0, BusRange::ALL);
    let id = RequesterId::new(0, 3, 0).unwrap();
    for (offset, width) in [(4, Width::Word), (0xd, Width::Byte), (0x10, Width::Dword)] {
        let access = Access::new(ConfigOffset::new(offset).unwrap(), width).unwrap();
        fabric.take_seen();
        bridge.write(HostSbdf::new(0, id), access, 0x1234_5678);
        let seen: Vec<_> = fabric.take_seen();
        assert_eq!(seen.len(), 1);
        assert_eq!((seen[0].function, seen[0].access), (id, access));
        assert_eq!(seen[0].written, Some(0x1234_5678 & width.ones()));
    }
}

#[test]
fn windows_translate_what_lies_in_them_whole() {
    let bridge = description("pci-host-ecam-generic", 0, BusRange::ALL);
    let host = |io, address, size| {
        bridge
            .to_host(io, address, size)
            .map(|range| range.start().get())
    };
    assert_eq!(host(true, 0x1000, 0x100), Some(0x3eff_1000));
    assert_eq!(host(true, 0xff00, 0x101), None);
    assert_eq!(host(false, 0x3efe_0000, 0x1_0000), Some(0x3efe_0000));
    assert_eq!(host(false, 0x3efe_0000, 0x1_0001), None);
    assert_eq!(host(false, 0xff_ffff_f000, 0x1000), Some(0xff_ffff_f000));
    assert_eq!(host(false, u64::MAX, 2), None);
}

proptest! {
    /// Of Xen's fixes without a number, 3231ddf9dc: the function of an access to a window that does
    /// not begin with bus 0.
    #[test]
    fn a_trapped_offset_is_located_where_it_came_from(
        first: u8, last: u8, function: u16, offset in 0_u16..4096, cam: bool,
    ) {
        let buses = BusRange::new(first.min(last), first.max(last)).unwrap();
        let layout = if cam { ecam::Layout::Conventional } else { ecam::Layout::Enhanced };
        let function = RequesterId::from_bits(function);
        let offset = ConfigOffset::new(offset).unwrap();
        let place = layout.offset(buses, function, offset);
        let reachable = buses.contains(function.bus()) && (!cam || offset.is_conventional());
        prop_assert_eq!(place.is_some(), reachable);
        if let Some(place) = place {
            prop_assert!(place < layout.bus_size() * u64::from(buses.count()));
            prop_assert_eq!(layout.locate(buses, place), Some((function, offset)));
        }
    }

    #[test]
    fn no_offset_is_located_outside_the_buses(first: u8, last: u8, offset: u64) {
        let buses = BusRange::new(first.min(last), first.max(last)).unwrap();
        if let Some((function, _)) = ecam::Layout::Enhanced.locate(buses, offset) {
            prop_assert!(buses.contains(function.bus()));
        }
    }
}
