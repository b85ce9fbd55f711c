use std::string::ToString;
use std::vec::Vec;

use dtoolkit::model::{DeviceTreeNode, DeviceTreeProperty};
use xen_types::{Hpa, Spi, Trigger};

use super::*;
use crate::tests::fixtures::{Fixture, cells, flag, node, qemu_gicv3, rcar_h3, strings, text};

fn bridge(name: &str, properties: impl IntoIterator<Item = DeviceTreeProperty>) -> DeviceTreeNode {
    let common = [
        text("device_type", "pci"),
        cells("#address-cells", &[3]),
        cells("#size-cells", &[2]),
        cells("#interrupt-cells", &[1]),
    ];
    node(name, common.into_iter().chain(properties), [])
}

/// The host bridge of QEMU's `virt`.
fn virt() -> DeviceTreeNode {
    let mut map = Vec::new();
    for device in 0..4 {
        for pin in 0..4 {
            map.extend([
                device << 11,
                0,
                0,
                pin + 1,
                1,
                0,
                0,
                0,
                3 + (pin + device) % 4,
                4,
            ]);
        }
    }
    bridge(
        "pcie@10000000",
        [
            text("compatible", "pci-host-ecam-generic"),
            cells("reg", &[0x40, 0x1000_0000, 0, 0x1000_0000]),
            cells("linux,pci-domain", &[0]),
            cells("bus-range", &[0, 0xff]),
            flag("dma-coherent"),
            cells(
                "ranges",
                &[
                    0x100_0000,
                    0,
                    0,
                    0,
                    0x3eff_0000,
                    0,
                    0x1_0000, //
                    0x200_0000,
                    0,
                    0x1000_0000,
                    0,
                    0x1000_0000,
                    0,
                    0x2eff_0000, //
                    0x300_0000,
                    0x80,
                    0,
                    0x80,
                    0,
                    0x80,
                    0,
                ],
            ),
            cells("msi-map", &[0, 2, 0, 0x1_0000]),
            cells("interrupt-map-mask", &[0x1800, 0, 0, 7]),
            cells("interrupt-map", &map),
        ],
    )
}

/// The first controller of an R-Car H3.
fn r_car() -> DeviceTreeNode {
    bridge(
        "pcie@fe000000",
        [
            strings(
                "compatible",
                &["renesas,pcie-r8a7795", "renesas,pcie-rcar-gen3"],
            ),
            cells("reg", &[0, 0xfe00_0000, 0, 0x8_0000]),
            cells("bus-range", &[0, 0xff]),
            cells(
                "ranges",
                &[
                    0x100_0000,
                    0,
                    0,
                    0,
                    0xfe10_0000,
                    0,
                    0x10_0000, //
                    0x200_0000,
                    0,
                    0xfe20_0000,
                    0,
                    0xfe20_0000,
                    0,
                    0x20_0000, //
                    0x200_0000,
                    0,
                    0x3000_0000,
                    0,
                    0x3000_0000,
                    0,
                    0x800_0000, //
                    0x4200_0000,
                    0,
                    0x3800_0000,
                    0,
                    0x3800_0000,
                    0,
                    0x800_0000,
                ],
            ),
            cells("interrupt-map-mask", &[0, 0, 0, 0]),
            cells("interrupt-map", &[0, 0, 0, 0, 1, 0, 116, 4]),
            cells("iommu-map", &[0, 9, 0, 1]),
            cells("iommu-map-mask", &[0]),
        ],
    )
}

fn with_gic_cells(tree: Fixture) -> Fixture {
    tree.set("/intc@8000000", cells("#address-cells", &[2]))
        .set("/intc@8000000/its@8080000", flag("msi-controller"))
}

fn read(tree: &Fixture) -> Vec<Result<PciBridge, String>> {
    let blob = tree.blob();
    let bridges = PciBridge::all(&Dtb::parse(&blob).unwrap()).into_iter();
    bridges
        .map(|bridge| bridge.map_err(|error| error.to_string()))
        .collect()
}

fn range(start: u64, size: u64) -> HpaRange {
    HpaRange::new(Hpa::new(start), size).unwrap()
}

#[test]
fn qemus_host_bridge_has_ecam_three_windows_and_interrupts() {
    let tree = with_gic_cells(qemu_gicv3()).with("/", virt());
    let bridge = read(&tree).remove(0).unwrap();
    assert_eq!(bridge.path, "/pcie@10000000");
    assert_eq!(bridge.compatible, ["pci-host-ecam-generic"]);
    assert_eq!(bridge.registers, [range(0x40_1000_0000, 0x1000_0000)]);
    assert_eq!((bridge.domain, bridge.buses), (Some(0), Some((0, 255))));
    assert!(bridge.coherent);
    let kinds: Vec<_> = bridge
        .windows
        .iter()
        .map(|window| {
            (
                window.io,
                window.prefetchable,
                window.bus_address,
                window.host,
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            (true, false, 0, range(0x3eff_0000, 0x1_0000)),
            (false, false, 0x1000_0000, range(0x1000_0000, 0x2eff_0000)),
            (
                false,
                false,
                0x80_0000_0000,
                range(0x80_0000_0000, 0x80_0000_0000)
            ),
        ]
    );
    let device = bridge.msi_map.unwrap().find(0x0110).unwrap();
    assert_eq!((device.controller, device.id), (2, 0x110));
    // Device 5 is as device 1: the mask leaves the other bits out.
    for (requester, pin, spi) in [(1 << 3, 1, 4), (5 << 3, 1, 4), (3 << 3, 4, 5), (0, 4, 6)] {
        let interrupt = bridge.interrupts.find(requester, pin).unwrap();
        assert_eq!(interrupt.id, Spi::new(spi).unwrap().into());
        assert_eq!(interrupt.trigger, Trigger::Level);
    }
    assert_eq!(bridge.interrupts.find(0, 5), None);
}

#[test]
fn an_r_car_has_one_interrupt_and_one_stream_for_all() {
    let iommu = node(
        "iommu@febd0000",
        [cells("#iommu-cells", &[1]), cells("phandle", &[9])],
        [],
    );
    let tree = rcar_h3().with("/soc", r_car()).with("/soc", iommu);
    let bridge = read(&tree).remove(0).unwrap();
    assert_eq!(bridge.path, "/soc/pcie@fe000000");
    assert_eq!(bridge.domain, None);
    let prefetchable: Vec<_> = bridge
        .windows
        .iter()
        .map(|window| window.prefetchable)
        .collect();
    assert_eq!(prefetchable, [false, false, false, true]);
    for requester in [0x0000, 0x0100, 0xffff] {
        let interrupt = bridge.interrupts.find(requester, 2).unwrap();
        assert_eq!(interrupt.id, Spi::new(116).unwrap().into());
        let stream = bridge.iommu_map.as_ref().unwrap().find(requester).unwrap();
        assert_eq!((stream.controller, stream.id), (9, 0));
    }
}

#[test]
fn bridges_behind_a_host_bridge_and_disabled_ones_are_not_listed() {
    let mut outer = virt();
    outer.add_child(bridge("pci@0,0", [text("compatible", "pciclass,0604")]));
    let mut off = r_car();
    off.add_property(text("status", "disabled"));
    let tree = with_gic_cells(qemu_gicv3()).with("/", outer).with("/", off);
    assert_eq!(read(&tree).len(), 1);
}

#[test]
fn what_is_wrong_is_said() {
    let with = |property: DeviceTreeProperty| {
        let tree = with_gic_cells(qemu_gicv3()).with("/", virt());
        let tree = tree.set("/pcie@10000000", property);
        read(&tree).remove(0).unwrap_err()
    };
    assert_eq!(
        with(cells("bus-range", &[5, 4])),
        "/pcie@10000000: bus-range must be two bus numbers up to 0xff, in order"
    );
    assert_eq!(
        with(cells("linux,pci-domain", &[0x1_0000])),
        "/pcie@10000000: linux,pci-domain must be one cell up to 0xffff"
    );
    assert_eq!(
        with(cells("interrupt-map", &[0, 0, 0, 1, 1, 0, 0])),
        "/pcie@10000000: interrupt-map must be entries of an address, a pin, a controller and its \
         interrupt"
    );
    assert_eq!(
        with(cells("interrupt-map-mask", &[0, 0, 7])),
        "/pcie@10000000: interrupt-map-mask must be four cells"
    );
    assert_eq!(
        with(cells("#address-cells", &[2])),
        "/pcie@10000000: #address-cells must be 3, with 2 #size-cells"
    );
    let wrapping = [0x300_0000, u32::MAX, u32::MAX, 0x80, 0, 0, 0x1000];
    assert!(with(cells("ranges", &wrapping)).starts_with("/pcie@10000000: "));
}

#[test]
fn any_map_and_ranges_are_read_or_refused() {
    let tree = |property: DeviceTreeProperty| {
        with_gic_cells(qemu_gicv3())
            .with("/", virt())
            .set("/pcie@10000000", property)
    };
    // Each length of each, and each cell of a map changed.
    let words: Vec<u32> = (0..30).map(|cell| cell % 5).collect();
    for length in 0..words.len() {
        for name in [
            "ranges",
            "interrupt-map",
            "interrupt-map-mask",
            "bus-range",
            "reg",
        ] {
            let _ = read(&tree(cells(name, &words[..length])));
        }
    }
}
