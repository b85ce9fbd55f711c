//! What Dom0 gets of the host's devices.

use std::boxed::Box;

use xen_types::{Hpa, HpaRange, IntId, Trigger};

use super::{build_plain, build_with, try_build};
use crate::Status;
use crate::dom0::{Conflict, GuestBridge};
use crate::tests::fixtures::{self, bus, cells, flag, node, text};

#[test]
fn a_device_is_mapped_in_whole_pages_with_its_interrupt() {
    let built = build_plain(&fixtures::rcar_h3());
    let page = HpaRange::new(Hpa::new(0xe6e8_8000), 0x1000).unwrap();
    assert_eq!(built.resources.mmio, [page]);
    assert_eq!(built.spis(), [164]);
    assert_eq!(built.resources.interrupts[0].trigger, Trigger::Level);
    let flags = built.cells("/soc/serial@e6e88000", "interrupts");
    assert_eq!(flags, [0, 164, 4]);
}

#[test]
fn registers_are_translated_by_each_bus() {
    let built = build_plain(&fixtures::imx8mp());
    assert!(built.maps(0x3089_0000));
    let built = build_plain(&fixtures::one_cell());
    assert!(built.maps(0x3f21_5040) && !built.maps(0x7e21_5040));
}

#[test]
fn what_the_hypervisor_keeps_is_neither_mapped_nor_routed() {
    let built = build_with(&fixtures::qemu_gicv3(), |plan| {
        plan.console = Some("/pl011@9000000");
    });
    assert_eq!(built.resources.mmio, []);
    assert_eq!(built.spis(), [0_u32; 0]);
}

#[test]
fn further_hidden_nodes_take_what_is_below_along() {
    let reg = |start| cells("reg", &[0, start, 0, 0x1000]);
    let child = node("child@a001000", [reg(0xa00_1000)], []);
    let properties = bus(2, 2)
        .into_iter()
        .chain([reg(0xa00_0000), flag("ranges")]);
    let fixture = fixtures::qemu_gicv3().with("/", node("bus", properties, [child]));
    assert!(build_plain(&fixture).maps(0xa00_1000));
    let built = build_with(&fixture, |plan| plan.hidden = &["/bus"]);
    assert!(built.find("/bus").is_none());
    assert!(!built.maps(0xa00_0000) && !built.maps(0xa00_1000));
}

#[test]
fn a_device_in_the_consoles_page_is_withheld() {
    let neighbour = node(
        "clock@9000800",
        [
            cells("reg", &[0, 0x900_0800, 0, 8]),
            cells("interrupts", &[0, 7, 4]),
        ],
        [],
    );
    let fixture = fixtures::qemu_gicv3()
        .set("/pl011@9000000", cells("reg", &[0, 0x900_0000, 0, 0x40]))
        .with("/", neighbour);
    let built = build_with(&fixture, |plan| plan.console = Some("serial0"));
    assert_eq!(built.node("/clock@9000800").status(), Status::Disabled);
    assert!(!built.maps(0x900_0800));
    assert!(!built.spis().contains(&7));
    let line = "/clock@9000800: shares the pages 0x9000000-0x9000fff with /pl011@9000000: \
                disabled in Dom0";
    assert_eq!(built.withheld(), [line]);
}

#[test]
fn a_bus_around_the_console_loses_its_page_only() {
    let around = node(
        "bus@9000000",
        [cells("reg", &[0, 0x8ff_f000, 0, 0x4000])],
        [],
    );
    let built = build_with(&fixtures::qemu_gicv2().with("/", around), |plan| {
        plan.console = Some("serial0");
    });
    assert_eq!(built.node("/bus@9000000").status(), Status::Okay);
    assert!(built.maps(0x8ff_f000) && !built.maps(0x900_0000) && built.maps(0x900_1000));
    assert!(!built.resources.withheld[0].disabled);
}

#[test]
fn a_device_with_an_assigned_devices_interrupt_is_withheld() {
    let with_interrupt = |name, start| {
        let reg = cells("reg", &[0, start, 0, 0x1000]);
        node(name, [reg, cells("interrupts", &[0, 9, 4])], [])
    };
    let fixture = fixtures::qemu_gicv3()
        .with("/", with_interrupt("a", 0xa00_0000))
        .with("/", with_interrupt("b", 0xa00_1000));
    let built = build_plain(&fixture);
    assert!(built.spis().contains(&9) && built.resources.withheld.is_empty());
    let built = build_with(&fixture, |plan| plan.passthrough = &["/a"]);
    assert!(!built.spis().contains(&9));
    assert_eq!(
        built.withheld(),
        ["/b: shares SPI 9 with /a: disabled in Dom0"]
    );
}

#[test]
fn all_below_an_assigned_node_is_assigned() {
    let fixture = fixtures::imx8mp().set("/soc@0/bus@30800000", flag("xen,passthrough"));
    let built = build_plain(&fixture);
    let uart = "/soc@0/bus@30800000/spba-bus@30800000/serial@30890000";
    assert_eq!(built.node(uart).status(), Status::Disabled);
    assert!(!built.maps(0x3089_0000) && !built.spis().contains(&27));
}

#[test]
fn reserved_memory_is_mapped_as_memory_unless_nobody_may() {
    let region = |name, phandle, start, no_map: bool| {
        let reg = cells("reg", &[0, start, 0, 0x20_0000]);
        let properties = [reg, cells("phandle", &[phandle])].into_iter();
        node(name, properties.chain(no_map.then(|| flag("no-map"))), [])
    };
    let regions = [
        region("shared@78000000", 20, 0x7800_0000, false),
        region("secure@7a000000", 21, 0x7a00_0000, true),
    ];
    let reserved = bus(2, 2).into_iter().chain([flag("ranges")]);
    let user = |name, region| node(name, [cells("memory-region", &[region])], []);
    let fixture = fixtures::qemu_gicv3()
        .with("/", node("reserved-memory", reserved, regions))
        .with("/", user("good", 20))
        .with("/", user("bad", 21));
    let built = build_plain(&fixture);
    let shared = HpaRange::new(Hpa::new(0x7800_0000), 0x20_0000).unwrap();
    assert_eq!(built.resources.reserved, [shared]);
    assert!(!built.maps(0x7800_0000) && !built.maps(0x7a00_0000));
    assert_eq!(
        built.cells("/memory@78000000", "reg"),
        [0, 0x7800_0000, 0, 0x20_0000]
    );
    assert_eq!(built.node("/good").status(), Status::Okay);
    assert_eq!(built.node("/bad").status(), Status::Disabled);
    let withheld = &built.resources.withheld[0];
    assert!(matches!(withheld.conflict, Conflict::Memory(_)));
    assert!(built.find("/reserved-memory/secure@7a000000").is_some());
}

#[test]
fn a_device_in_ram_is_withheld() {
    let properties = [
        text("compatible", "simple-framebuffer"),
        cells("reg", &[0, 0x7000_0000, 0, 0x10_0000]),
    ];
    let built = build_plain(&fixtures::qemu_gicv3().with("/", node("fb", properties, [])));
    assert_eq!(built.node("/fb").status(), Status::Disabled);
    assert!(!built.maps(0x7000_0000));
}

/// QEMU's host bridge in outline: the interrupt map goes to a GIC with two address cells.
fn bridge() -> dtoolkit::model::DeviceTreeNode {
    let map = [
        0, 0, 0, 1, 1, 0, 0, 0, 3, 4, 0, 0, 0, 2, 1, 0, 0, 0, 4, 4, 0x800, 0, 0, 1, 1, 0, 0, 0, 4,
        4,
    ];
    let windows = [
        0x100_0000,
        0,
        0,
        0,
        0x3eff_0000,
        0,
        0x1_0000,
        0x200_0000,
        0,
        0x1000_0000,
        0,
        0x1000_0000,
        0,
        0x2eff_0000,
        0x300_0000,
        0x80,
        0,
        0x80,
        0,
        0x80,
        0,
    ];
    let properties = [
        text("device_type", "pci"),
        cells("#interrupt-cells", &[1]),
        cells("interrupt-map-mask", &[0x1800, 0, 0, 7]),
        cells("interrupt-map", &map),
        cells("ranges", &windows),
        cells("reg", &[0x40, 0x1000_0000, 0, 0x1000_0000]),
    ];
    let device = node(
        "device@1,0",
        [
            cells("reg", &[0x800, 0, 0, 0, 0]),
            cells("interrupts", &[1]),
        ],
        [],
    );
    node("pcie", properties.into_iter().chain(bus(3, 2)), [device])
}

#[test]
fn a_host_bridge_comes_with_its_windows_and_interrupts() {
    let built = build_plain(&fixtures::qemu_gicv3().with("/", bridge()));
    for inside in [0x3eff_ffff, 0x1000_0000, 0x80_0000_0000, 0x40_1fff_ffff] {
        assert!(built.maps(inside), "{inside:#x}");
    }
    assert!(!built.maps(0x40_2000_0000) && !built.maps(0x100_0000_0000));
    assert_eq!(built.spis(), [1, 3, 4]);
}

#[test]
fn a_host_bridge_that_the_hypervisor_drives_is_not_mapped() {
    let fixture = fixtures::qemu_gicv3().with("/", bridge());
    let bridge = |path| GuestBridge {
        path,
        domain: 3,
        driven: true,
    };
    let built = build_with(&fixture, |plan| {
        plan.bridges = Box::leak(Box::new([bridge("/pcie")]));
        plan.keeps_pci = true;
    });
    for inside in [0x3eff_ffff, 0x1000_0000, 0x80_0000_0000, 0x40_1fff_ffff] {
        assert!(!built.maps(inside), "{inside:#x}");
    }
    assert_eq!(built.spis(), [1, 3, 4]);
    assert_eq!(built.cells("/pcie", "linux,pci-domain"), [3]);
    assert_eq!(built.cells("/chosen", "linux,pci-probe-only"), [1]);
    let wrong = try_build(&fixture, |plan| {
        plan.bridges = Box::leak(Box::new([bridge("/pci")]));
    });
    assert!(wrong.is_err());
}

#[test]
fn an_assigned_host_bridge_takes_its_windows_along() {
    let fixture = fixtures::qemu_gicv3().with("/", bridge());
    let built = build_with(&fixture, |plan| plan.passthrough = &["/pcie"]);
    assert!(!built.maps(0x1000_0000) && !built.maps(0x40_1000_0000));
    assert_eq!(built.spis(), [1]);
}

#[test]
fn interrupts_go_through_every_nexus_to_the_gic() {
    let nexus = [
        cells("phandle", &[30]),
        cells("#interrupt-cells", &[2]),
        cells("#address-cells", &[0]),
        cells("interrupt-map-mask", &[0xf, 0]),
        cells(
            "interrupt-map",
            &[3, 0, 1, 0, 0, 0, 40, 1, 5, 0, 1, 0, 0, 0, 41, 4],
        ),
    ];
    let through = [
        cells("interrupt-parent", &[30]),
        cells("interrupts", &[0x13, 7]),
    ];
    let other = [
        cells("phandle", &[31]),
        cells("#interrupt-cells", &[1]),
        flag("interrupt-controller"),
        cells("interrupts", &[0, 50, 4]),
    ];
    let extended = [cells("interrupts-extended", &[31, 2, 1, 0, 51, 1, 31, 3])];
    let fixture = fixtures::qemu_gicv3()
        .with("/", node("through", through, []))
        .with("/", node("other", other, []))
        .with("/", node("extended", extended, []));
    let built = build_plain(&fixture);
    assert_eq!(built.spis(), [1, 50, 51]);
    let built = build_plain(&fixture.with("/", node("nexus", nexus, [])));
    assert_eq!(built.spis(), [1, 40, 41, 50, 51]);
    let edge = built.resources.interrupts[1];
    assert!(matches!(edge.id, IntId::Spi(spi) if spi.number() == 40));
    assert_eq!(edge.trigger, Trigger::Edge);
}

#[test]
fn a_loop_of_interrupt_maps_ends() {
    let looping = |name, own, other| {
        let properties = [
            cells("phandle", &[own]),
            cells("#interrupt-cells", &[1]),
            cells("#address-cells", &[0]),
            cells("interrupt-map", &[1, other, 1]),
            cells("interrupt-parent", &[own]),
            cells("interrupts", &[1]),
        ];
        node(name, properties, [])
    };
    let fixture = fixtures::qemu_gicv3()
        .with("/", looping("a", 40, 41))
        .with("/", looping("b", 41, 40));
    assert_eq!(build_plain(&fixture).spis(), [1]);
}

#[test]
fn interrupts_go_through_a_controller_that_wakes_the_system() {
    let properties = [
        text("compatible", "fsl,imx8mq-gpc"),
        cells("phandle", &[60]),
        cells("#interrupt-cells", &[3]),
        flag("interrupt-controller"),
        cells("interrupt-parent", &[1]),
    ];
    let device = [
        cells("interrupt-parent", &[60]),
        cells("interrupts", &[0, 33, 4]),
    ];
    let fixture = fixtures::imx8mp()
        .with("/", node("gpc", properties, []))
        .with("/", node("device", device, []));
    assert_eq!(build_plain(&fixture).spis(), [27, 33]);
}
