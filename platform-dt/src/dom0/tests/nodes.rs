//! The nodes that Dom0's tree has instead of the host's.

use std::boxed::Box;
use std::vec::Vec;

use dtoolkit::model::DeviceTreeNode;
use xen_types::Spi;

use super::{build_plain, build_with, build_with_regions, gpa};
use crate::Status;
use crate::dom0::{GuestGic, GuestIts, GuestV2m};
use crate::tests::fixtures::{self, cells, flag, node, strings, text};

#[test]
fn nodes_for_hypervisors_and_of_the_firmware_are_dropped() {
    let kinds = [
        "xen,domain",
        "xen,domain-shared-memory-v1",
        "xen,evtchn-v1",
        "xen,xen",
        "multiboot,module",
        "arm,psci-0.2",
        "arm,armv8-pmuv3",
        "arm,cortex-a53-pmu",
        "arm,cortex-a53-edac",
        "arm,armv7-timer-mem",
    ];
    for kind in kinds {
        let child = node("below", [], []);
        let dropped = node("dropped", [text("compatible", kind)], [child]);
        let built = build_plain(&fixtures::qemu_gicv3().with("/", dropped));
        assert!(built.find("/dropped").is_none(), "{kind}");
    }
}

#[test]
fn boot_modules_and_firmware_memory_are_gone_and_nothing_is_reserved_in_the_header() {
    let built = build_plain(&fixtures::qemu_gicv3());
    assert_eq!(built.node("/chosen").children().count(), 0);
    assert!(built.find("/memory@40000000/module").is_none());
    assert_eq!(built.dtb().reservations().count(), 0);
    assert_eq!(built.strings("/psci", "method"), ["hvc"]);
    let kinds = ["arm,psci-1.0", "arm,psci-0.2", "arm,psci"];
    assert_eq!(built.strings("/psci", "compatible"), kinds);
    assert_eq!(built.cells("/psci", "cpu_off"), [1]);
    assert_eq!(built.cells("/psci", "cpu_on"), [2]);
}

#[test]
fn a_node_with_a_private_interrupt_is_dropped() {
    let watchdog = node("watchdog", [cells("interrupts", &[1, 5, 4])], []);
    let built = build_plain(&fixtures::qemu_gicv3().with("/", watchdog));
    assert!(built.find("/watchdog").is_none());
}

#[test]
fn the_hypervisor_node_is_what_linux_looks_for() {
    let regions = [
        gpa(0x1_0000_0000, 0x4000_0000),
        gpa(0x2_0000_0000, 0x800_0000),
    ];
    let fixture = fixtures::qemu_gicv3();
    let built = build_with(&fixture, |plan| {
        plan.hypervisor.grant_window = gpa(0x5000_0000, 0x4_0000);
    });
    assert_eq!(
        built.strings("/hypervisor", "compatible"),
        ["xen,xen-4.20", "xen,xen"]
    );
    assert_eq!(
        built.cells("/hypervisor", "reg"),
        [0, 0x5000_0000, 0, 0x4_0000]
    );
    assert_eq!(built.cells("/hypervisor", "interrupts"), [1, 15, 0xf08]);
    assert_eq!(built.cells("/hypervisor", "interrupt-parent"), [1]);
    let built = build_with_regions(&fixture, &regions).unwrap();
    let reg = built.cells("/hypervisor", "reg");
    assert_eq!(reg[4..], [1, 0, 0, 0x4000_0000, 2, 0, 0, 0x800_0000]);
}

#[test]
fn processors_are_numbered_as_their_virtual_mpidr_is() {
    let mut fixture = fixtures::qemu_gicv3();
    let map = node("cpu-map", [], []);
    fixture = fixture.with("/cpus", map);
    fixture = fixture.set("/cpus/cpu@0", cells("clock-frequency", &[1_000_000]));
    let built = build_with(&fixture, |plan| plan.vcpus = 18);
    let cpus: Vec<_> = built.node("/cpus").children().collect();
    assert_eq!(cpus.len(), 18);
    assert_eq!(cpus[15].name(), "cpu@f");
    assert_eq!(cpus[17].name(), "cpu@101");
    assert_eq!(built.cells("/cpus/cpu@101", "reg"), [0x101]);
    assert_eq!(built.strings("/cpus/cpu@101", "enable-method"), ["psci"]);
    assert_eq!(
        built.strings("/cpus/cpu@101", "compatible"),
        ["arm,cortex-a57"]
    );
    assert_eq!(built.cells("/cpus/cpu@101", "clock-frequency"), [1_000_000]);
    assert_eq!(built.strings("/cpus/cpu@101", "device_type"), ["cpu"]);
}

#[test]
fn memory_is_the_plans() {
    let built = build_with(&fixtures::rcar_h3(), |plan| {
        let banks = [
            gpa(0x6_0000_0000, 0x2000_0000),
            gpa(0x4800_0000, 0x400_0000),
        ];
        plan.memory = Box::leak(Box::new(banks));
    });
    assert!(built.find("/memory@500000000").is_none());
    let reg = [0, 0x4800_0000, 0, 0x400_0000, 6, 0, 0, 0x2000_0000];
    assert_eq!(built.cells("/memory@48000000", "reg"), reg);
    assert_eq!(built.strings("/memory@48000000", "device_type"), ["memory"]);
}

#[test]
fn the_timer_keeps_its_interrupts_and_phandle() {
    let fixture = fixtures::qemu_gicv2()
        .set("/timer", cells("phandle", &[0x77]))
        .set("/timer", cells("clock-frequency", &[62_500_000]));
    let built = build_plain(&fixture);
    let interrupts = [1, 13, 0xf08, 1, 14, 0xf08, 1, 11, 0xf08];
    assert_eq!(built.cells("/timer", "interrupts"), interrupts);
    let names = ["sec-phys", "phys", "virt"];
    assert_eq!(built.strings("/timer", "interrupt-names"), names);
    assert_eq!(built.strings("/timer", "compatible"), ["arm,armv8-timer"]);
    assert_eq!(built.cells("/timer", "clock-frequency"), [62_500_000]);
    assert_eq!(built.node("/timer").phandle(), Some(0x77));
}

#[test]
fn a_gicv2_shows_the_frames_of_the_plan() {
    let built = build_with(&fixtures::qemu_gicv2(), |plan| {
        plan.gic = GuestGic::V2 {
            distributor: gpa(0x800_0000, 0x1_0000),
            cpu_interface: gpa(0x801_0000, 0x2000),
            v2m_frames: &[],
        };
    });
    let gic = "/intc@8000000";
    let reg = [0, 0x800_0000, 0, 0x1_0000, 0, 0x801_0000, 0, 0x2000];
    assert_eq!(built.cells(gic, "reg"), reg);
    assert_eq!(built.node(gic).phandle(), Some(1));
    assert_eq!(built.cells(gic, "#interrupt-cells"), [3]);
    assert!(built.node(gic).property("interrupt-controller").is_some());
    assert!(built.node(gic).property("interrupts").is_none());
    assert_eq!(built.node(gic).children().count(), 0);
}

#[test]
fn a_message_frame_of_the_plan_is_mapped_with_its_interrupts() {
    const FRAMES: &[GuestV2m<'_>] = &[GuestV2m {
        path: "/intc@8000000/v2m@8020000",
        base: Spi::new(48).unwrap(),
        count: 3,
    }];
    let built = build_with(&fixtures::qemu_gicv2(), |plan| {
        plan.gic = GuestGic::V2 {
            distributor: gpa(0x800_0000, 0x1_0000),
            cpu_interface: gpa(0x801_0000, 0x2000),
            v2m_frames: FRAMES,
        };
    });
    let frame = "/intc@8000000/v2m@8020000";
    assert_eq!(built.cells(frame, "arm,msi-base-spi"), [80]);
    assert_eq!(built.cells(frame, "arm,msi-num-spis"), [3]);
    assert_eq!(built.node(frame).phandle(), Some(2));
    assert!(built.maps(0x802_0000) && !built.maps(0x802_1000));
    assert!([48, 49, 50].iter().all(|spi| built.spis().contains(spi)));
}

#[test]
fn a_gicv3_shows_its_regions_and_its() {
    const ITS: &str = "/intc@8000000/its@8080000";
    let built = build_with(&fixtures::qemu_gicv3(), |plan| {
        let registers = gpa(0x808_0000, 0x2_0000);
        let redistributors = [gpa(0x80a_0000, 0x4_0000), gpa(0x40_0000_0000, 0x4_0000)];
        plan.gic = GuestGic::V3 {
            distributor: gpa(0x800_0000, 0x1_0000),
            redistributors: Box::leak(Box::new(redistributors)),
            stride: Some(0x2_0000),
            its: Box::leak(Box::new([GuestIts {
                path: ITS,
                registers,
            }])),
        };
    });
    let gic = "/intc@8000000";
    assert_eq!(built.strings(gic, "compatible"), ["arm,gic-v3"]);
    assert_eq!(built.cells(gic, "#redistributor-regions"), [2]);
    assert_eq!(built.cells(gic, "redistributor-stride"), [0, 0x2_0000]);
    let reg = built.cells(gic, "reg");
    assert_eq!(reg[4..], [0, 0x80a_0000, 0, 0x4_0000, 0x40, 0, 0, 0x4_0000]);
    assert_eq!(built.strings(ITS, "compatible"), ["arm,gic-v3-its"]);
    assert!(built.node(ITS).property("msi-controller").is_some());
    assert_eq!(built.cells(ITS, "#msi-cells"), [1]);
    assert_eq!(built.cells(ITS, "reg"), [0, 0x808_0000, 0, 0x2_0000]);
    assert_eq!(built.node(ITS).phandle(), Some(2));
}

#[test]
fn a_gic_on_a_bus_is_addressed_as_the_bus_does() {
    let fixture = fixtures::rcar_h3();
    let window = cells("ranges", &[0, 0x100_0000, 0, 0xf100_0000, 0, 0x100_0000]);
    let mut fixture = fixture.set("/soc", window);
    let path = "/soc/interrupt-controller@f1010000";
    let frames = [
        0, 0x101_0000, 0, 0x1000, 0, 0x102_0000, 0, 0x2_0000, 0, 0x104_0000, 0, 0x2_0000, 0,
        0x106_0000, 0, 0x2_0000,
    ];
    fixture.node(path).add_property(cells("reg", &frames));
    let built = build_plain(&fixture);
    let reg = [0, 0x101_0000, 0, 0x1000, 0, 0x102_0000, 0, 0x2_0000];
    assert_eq!(built.cells(path, "reg"), reg);
}

#[test]
fn chosen_says_what_the_plan_says() {
    let names = [
        "xen,static-heap",
        "bootargs",
        "linux,uefi-system-table",
        "linux,uefi-mmap-start",
        "linux,usable-memory-range",
    ];
    let mut fixture = fixtures::qemu_gicv3();
    for name in names {
        fixture = fixture.set("/chosen", text(name, "old"));
    }
    fixture = fixture.set("/chosen", cells("rng-seed", &[1, 2]));
    let built = build_with(&fixture, |plan| {
        plan.ramdisk = Some(gpa(0x4100_0000, 0x1234))
    });
    let chosen = built.node("/chosen");
    let mut left: Vec<_> = chosen.properties().map(|property| property.name).collect();
    left.sort_unstable();
    let expected = [
        "#address-cells",
        "#size-cells",
        "bootargs",
        "linux,initrd-end",
        "linux,initrd-start",
        "rng-seed",
    ];
    assert_eq!(left, expected);
    assert_eq!(built.strings("/chosen", "bootargs"), ["console=hvc0"]);
    assert_eq!(
        built.cells("/chosen", "linux,initrd-start"),
        [0, 0x4100_0000]
    );
    assert_eq!(built.cells("/chosen", "linux,initrd-end"), [0, 0x4100_1234]);
}

#[test]
fn names_of_lost_nodes_are_lost_and_others_kept() {
    let fixture = fixtures::qemu_gicv3().set("/aliases", text("rtc0", "/intc@8000000"));
    let built = build_with(&fixture, |plan| plan.console = Some("serial0"));
    assert!(built.find("/pl011@9000000").is_none());
    let aliases = built.node("/aliases");
    let names: Vec<_> = aliases.properties().map(|property| property.name).collect();
    assert_eq!(names, ["rtc0"]);
}

/// A device behind the IOMMU with phandle 9.
fn master(name: &str) -> DeviceTreeNode {
    node(name, [cells("iommus", &[9, 5]), flag("dma-coherent")], [])
}

#[test]
fn iommus_and_what_refers_to_them_are_gone() {
    let kinds: [&[&str]; 5] = [
        &["arm,smmu-v1"],
        &["marvell,ap806-smmu-500", "arm,mmu-500"],
        &["arm,smmu-v3"],
        &["renesas,ipmmu-r8a7795"],
        &["renesas,ipmmu-vmsa"],
    ];
    for kind in kinds {
        let reg = cells("reg", &[0, 0xa00_0000, 0, 0x2_0000]);
        let properties = [strings("compatible", kind), reg];
        let properties = properties.into_iter().chain([cells("phandle", &[9])]);
        let iommu = node("iommu", properties.chain([cells("#iommu-cells", &[1])]), []);
        let map = [
            cells("iommu-map", &[0, 9, 0x100, 0x1_0000]),
            cells("iommu-map-mask", &[0xff]),
        ];
        let bridge = node("bridge", map, []);
        let fixture = fixtures::qemu_gicv3()
            .with("/", iommu)
            .with("/", master("device"));
        let built = build_plain(&fixture.with("/", bridge));
        assert!(built.find("/iommu").is_none(), "{kind:?}");
        assert!(!built.maps(0xa00_0000));
        assert!(built.node("/device").property("iommus").is_none());
        assert!(built.node("/device").property("dma-coherent").is_some());
        assert_eq!(built.node("/bridge").properties().count(), 0);
        let masters = &built.resources.masters;
        let paths: Vec<_> = masters.iter().map(|master| master.path.as_str()).collect();
        assert_eq!(paths, ["/device", "/bridge"]);
        assert!(masters.iter().all(|master| master.iommu == 9));
    }
}

#[test]
fn an_iommu_that_is_not_the_hypervisors_keeps_its_masters() {
    let properties = [text("compatible", "rockchip,iommu"), cells("phandle", &[9])];
    let iommu = node(
        "iommu",
        properties.into_iter().chain([cells("#iommu-cells", &[1])]),
        [],
    );
    let fixture = fixtures::qemu_gicv3()
        .with("/", iommu)
        .with("/", master("device"));
    let built = build_plain(&fixture);
    assert_eq!(built.cells("/device", "iommus"), [9, 5]);
    assert_eq!(built.resources.masters, []);
}

#[test]
fn references_to_lost_message_controllers_and_processors_are_gone() {
    let fixture = fixtures::qemu_gicv3()
        .set("/cpus/cpu@0", cells("phandle", &[5]))
        .set("/cpus/cpu@0", cells("#cooling-cells", &[2]))
        .with(
            "/",
            node("bridge", [cells("msi-map", &[0, 2, 0, 0x1_0000])], []),
        )
        .with("/", node("mbi", [cells("msi-parent", &[1])], []))
        .with(
            "/",
            node("cooler", [cells("cooling-device", &[5, 0, 0])], []),
        )
        .with("/", node("pmu", [cells("interrupt-affinity", &[5])], []));
    let built = build_plain(&fixture);
    assert!(built.node("/bridge").property("msi-map").is_none());
    assert!(built.node("/mbi").property("msi-parent").is_none());
    assert!(built.find("/cooler").is_none());
    assert!(built.find("/pmu").is_none());
}

#[test]
fn an_assigned_node_is_disabled_and_told_nothing() {
    let fixture = fixtures::qemu_gicv3().set("/pl011@9000000", flag("xen,passthrough"));
    let built = build_plain(&fixture);
    let uart = built.node("/pl011@9000000");
    assert_eq!(uart.status(), Status::Disabled);
    assert!(uart.property("xen,passthrough").is_none());
    assert!(!built.maps(0x900_0000));
    assert!(!built.spis().contains(&1));
}
