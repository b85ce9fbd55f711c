use alloc::boxed::Box;
use alloc::vec;

use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use platform_dt::Dtb;
use xen_types::Spi;

use super::*;
use crate::bridge::{Bridge, Bridges};
use crate::config::Function;
use crate::discovery::{self, Addresses, discover};
use crate::enumerate::enumerate;
use crate::registry::Registry;
use crate::simulated::{Fabric, SimEcam, SimRCar, Slot, machines, samples};
use crate::{HostSbdf, Pin, header, intx};

fn node(
    name: &str,
    properties: Vec<DeviceTreeProperty>,
    children: Vec<DeviceTreeNode>,
) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    properties.into_iter().for_each(|property| {
        node.add_property(property);
    });
    children.into_iter().for_each(|child| {
        node.add_child(child);
    });
    node
}

fn cells(name: &str, cells: &[u32]) -> DeviceTreeProperty {
    DeviceTreeProperty::new_unchecked(name, cells)
}

fn text(name: &str, text: &str) -> DeviceTreeProperty {
    DeviceTreeProperty::new_unchecked(name, text)
}

fn empty(name: &str) -> DeviceTreeProperty {
    let nothing: &[u8] = &[];
    DeviceTreeProperty::new_unchecked(name, nothing)
}

fn bridge(name: &str, kind: &str, more: Vec<DeviceTreeProperty>) -> DeviceTreeNode {
    let mut properties = vec![
        text("device_type", "pci"),
        text("compatible", kind),
        cells("#address-cells", &[3]),
        cells("#size-cells", &[2]),
        cells("#interrupt-cells", &[1]),
    ];
    properties.extend(more);
    node(name, properties, vec![])
}

/// Two ECAM bridges in one domain, and an R-Car controller that has none.
fn tree() -> Vec<u8> {
    let memory = [0x0200_0000, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2000_0000];
    // Mask and map of QEMU's `virt`: devices of the root bus modulo 4.
    let mut map = vec![];
    for device in 0..4 {
        for pin in 0..4 {
            map.extend([device << 11, 0, 0, pin + 1, 1, 0, 3 + (pin + device) % 4, 4]);
        }
    }
    let first = vec![
        cells("reg", &[0x40, 0, 0, 0x800_0000]),
        cells("linux,pci-domain", &[0]),
        cells("bus-range", &[0, 0x7f]),
        cells("ranges", &memory),
        cells("interrupt-map-mask", &[0x1800, 0, 0, 7]),
        cells("interrupt-map", &map),
        cells("iommu-map", &[0, 2, 0x1000, 0x1_0000]),
        cells("iommu-map-mask", &[0xfff8]),
        cells("msi-map", &[0, 3, 0x2_0000, 0x8000]),
    ];
    let second = vec![
        cells("reg", &[0x41, 0, 0, 0x800_0000]),
        cells("linux,pci-domain", &[0]),
        cells("bus-range", &[0x80, 0xff]),
        cells("msi-parent", &[3]),
    ];
    let third = vec![
        cells("reg", &[0, 0xfe00_0000, 0, 0x8_0000]),
        cells("interrupt-map-mask", &[0, 0, 0, 0]),
        cells("interrupt-map", &[0, 0, 0, 0, 1, 0, 116, 4]),
    ];
    let gic = vec![
        text("compatible", "arm,gic-v3"),
        cells("#interrupt-cells", &[3]),
        empty("interrupt-controller"),
        cells("phandle", &[1]),
    ];
    let iommu = vec![cells("#iommu-cells", &[1]), cells("phandle", &[2])];
    let its = vec![empty("msi-controller"), cells("phandle", &[3])];
    let mut tree = DeviceTree::new();
    tree.root = node(
        "",
        vec![cells("#address-cells", &[2]), cells("#size-cells", &[2])],
        vec![
            bridge("pcie@4000000000", "pci-host-ecam-generic", first),
            bridge("pcie@4100000000", "pci-host-ecam-generic", second),
            bridge("pcie@fe000000", "renesas,pcie-rcar-gen3", third),
            node("intc", gic, vec![]),
            node("iommu", iommu, vec![]),
            node("its", its, vec![]),
        ],
    );
    tree.to_dtb()
}

fn descriptions() -> Vec<Description> {
    let blob = tree();
    let bridges = PciBridge::all(&Dtb::parse(&blob).unwrap());
    Description::from_device_tree(bridges.into_iter().collect::<Result<_, _>>().unwrap())
}

fn sbdf(text: &str) -> HostSbdf {
    text.parse().unwrap()
}

#[test]
fn each_bridge_of_a_tree_is_driven_in_its_segment() {
    let descriptions = descriptions();
    let segments: Vec<_> = descriptions.iter().map(|bridge| bridge.segment).collect();
    assert_eq!(segments, [0, 0, 1]);
    let low = Fabric::new([Slot::new(1, 0, samples::nvme())]);
    let high = Fabric::on_bus(0x80, [Slot::new(1, 0, samples::gpu())]);
    let r_car = Fabric::new([machines::root_port(0)]);
    let [one, two, three] = descriptions.try_into().unwrap();
    let mut bridges = Bridges::new();
    let mut add = |description: Description, registers: Box<dyn crate::bridge::Registers>| {
        let bridge = Bridge::probe(description, registers).unwrap();
        bridges.add(bridge).unwrap();
    };
    add(three, Box::new(SimRCar::new(&r_car, 0)));
    add(two, Box::new(SimEcam::new(&high, 0x80, 0x80)));
    add(one, Box::new(SimEcam::new(&low, 0, 0x80)));
    let found: Vec<usize> = bridges
        .iter()
        .map(|bridge| enumerate(bridge, &r_car).devices.len())
        .collect();
    assert_eq!(found, [1, 1, 14]);
    let device = |name| Function::new(&bridges, sbdf(name)).read(header::DEVICE_ID);
    assert_eq!(device("0000:00:01.0"), 0xa808);
    assert_eq!(device("0000:80:01.0"), 0x1eb8);
    assert_eq!(device("0001:06:00.0"), 0x1eb8);
    assert_eq!(device("0001:00:01.0"), 0xffff);
}

#[test]
fn xsa_33_ids_are_mapped_with_their_masks() {
    let descriptions = descriptions();
    let id = |text: &str| sbdf(text).requester();
    let first = &descriptions[0].routes;
    // The mask leaves functions out: a device has one stream.
    for name in ["01:02.0", "01:02.7"] {
        let stream = first.stream(id(name)).unwrap();
        assert_eq!((stream.controller, stream.id), (2, 0x1110));
    }
    let source = first.message_source(id("01:02.7")).unwrap();
    assert_eq!((source.controller, source.id), (3, 0x2_0117));
    assert_eq!(first.message_source(id("80:00.0")), None);
    let second = &descriptions[1].routes;
    assert_eq!(second.stream(id("80:01.0")), None);
    let source = second.message_source(id("80:01.0")).unwrap();
    assert_eq!((source.controller, source.id), (3, 0x8008));
}

#[test]
fn interrupts_are_found_through_the_map_and_the_bridges() {
    let descriptions = descriptions();
    let fabric = Fabric::new([
        Slot::new(1, 0, samples::nvme()),
        Slot::new(6, 0, samples::root_port()).with([machines::switch()]),
    ]);
    let bridge = machines::ecam(&fabric, 0, BusRange::ALL);
    let devices = enumerate(&bridge, &fabric).devices;
    let spi = |name: &str| {
        let device = devices.iter().find(|device| device.sbdf == sbdf(name))?;
        let (root, pin) = intx::at_root(&devices, device)?;
        descriptions[0].routes.interrupt(root, pin)
    };
    let expected = |number| Spi::new(number).unwrap().into();
    assert_eq!(spi("00:01.0").unwrap().id, expected(4));
    // Pin A of card 1 on the conventional bus is pin B of root port 6, and 6 is 2 to the map.
    assert_eq!(spi("09:01.0").unwrap().id, expected(6));
    let r_car = &descriptions[2].routes;
    let any = r_car.interrupt(sbdf("00:00.0").requester(), Pin::D);
    assert_eq!(any.unwrap().id, expected(116));
}

#[test]
fn xsa_449_all_streams_of_a_function_are_known() {
    let [one, ..] = <[Description; 3]>::try_from(descriptions()).unwrap();
    let fabric = Fabric::new([Slot::new(6, 0, samples::root_port()).with([machines::switch()])]);
    let mut bridges = Bridges::new();
    let registers = Box::new(SimEcam::new(&fabric, 0, 0x80));
    bridges.add(Bridge::probe(one, registers).unwrap()).unwrap();
    let found = discover(&bridges, &fabric, Addresses::Completed);
    // There is no I/O window, and no room for 16 GiB.
    assert!(!found.faults.is_empty());
    let streams = |name: &str| {
        let streams = discovery::streams(&bridges, &found.devices, sbdf(name)).unwrap();
        streams.iter().map(|stream| stream.id).collect::<Vec<_>>()
    };
    // A card on the conventional bus may ask as its bridge, or as that bus's first function.
    assert_eq!(streams("09:02.0"), [0x1910, 0x1800, 0x1900]);
    assert_eq!(streams("03:00.0"), [0x1300]);
    let number = |name: &str| {
        let device = found
            .devices
            .iter()
            .find(|device| device.sbdf == sbdf(name));
        discovery::stream_number(&bridges, device.unwrap())
    };
    // Both functions of the network card have one stream, by the mask: they are one group.
    assert_eq!(number("04:00.0"), number("04:00.1"));
    let registry: Registry<u16> = Registry::new(found.devices.clone(), |device| {
        discovery::stream_number(&bridges, device)
    });
    let group = |name: &str| registry.get(sbdf(name)).unwrap().group();
    assert_eq!(group("04:00.0"), group("04:00.1"));
    assert_ne!(group("04:00.0"), group("03:00.0"));
}
