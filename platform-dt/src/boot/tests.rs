use std::string::{String, ToString};
use std::vec::Vec;
use std::{format, vec};

use dtoolkit::memreserve::MemoryReservation;
use dtoolkit::model::DeviceTreeProperty;
use xen_types::Hpa;

use super::*;
use crate::tests::fixtures::{
    Fixture, bytes, cells, flag, imx8mp, memory, module, node, one_cell, qemu_gicv2, rcar_h3,
    strings, text,
};

fn refused(tree: &Fixture) -> String {
    refused_beside(tree, &[])
}

fn refused_beside(tree: &Fixture, own: &[(&'static str, HpaRange)]) -> String {
    let blob = tree.blob();
    let dtb = Dtb::parse(&blob).unwrap();
    BootInfo::read(&dtb, own).err().unwrap().to_string()
}

/// Reads `tree` and shows what `show` makes of it.
fn read<T>(tree: &Fixture, show: impl Fn(&BootInfo<'_>) -> T) -> T {
    let blob = tree.blob();
    let dtb = Dtb::parse(&blob).unwrap();
    show(&BootInfo::read(&dtb, &[]).unwrap())
}

fn ram(tree: &Fixture) -> Vec<String> {
    read(tree, |info| {
        info.ram.iter().map(HpaRange::to_string).collect()
    })
}

fn modules(tree: &Fixture) -> Vec<String> {
    let show = |module: &Module<'_>| {
        let domain = module.domain.map(|domain| format!(" of {domain}"));
        let domain = domain.unwrap_or_default();
        format!("{} {:?} {}{domain}", module.node, module.kind, module.range)
    };
    read(tree, |info| info.modules.iter().map(show).collect())
}

/// The hypervisor's command line, and Dom0's.
fn lines(tree: &Fixture) -> (String, Option<String>) {
    read(tree, |info| {
        let dom0 = info.dom0_command_line.map(String::from);
        (info.command_line.into(), dom0)
    })
}

#[test]
fn ram_is_sorted_and_merged() {
    let banks = [
        "0x48000000-0x7fffffff",
        "0x500000000-0x53fffffff",
        "0x600000000-0x63fffffff",
        "0x700000000-0x73fffffff",
    ];
    assert_eq!(ram(&rcar_h3()), banks);
    assert_eq!(ram(&imx8mp()), ["0x40000000-0x1bfffffff"]);
    assert_eq!(ram(&one_cell()), ["0x0-0x3b3fffff"]);
    let tree = qemu_gicv2()
        .with(
            "/",
            memory("memory@100000000", &[1, 0x800, 0, 0x1000, 0, 0, 0, 0]),
        )
        .with(
            "/",
            memory("memory@20000000", &[0, 0x2000_0800, 0, 0x1000_0000]),
        )
        .with("/", memory("memory@80000000", &[0, 0x8000_0000, 0, 0x1000]));
    assert_eq!(
        ram(&tree),
        ["0x20001000-0x2fffffff", "0x40000000-0x80000fff"]
    );
}

#[test]
fn memory_that_is_no_ram_is_passed_over() {
    let disabled = memory("memory@1", &[0, 0x1000, 0, 0x1000]);
    let without_type = node("memory@2", [cells("reg", &[0, 0x1000, 0, 0x1000])], []);
    let tree = qemu_gicv2().with("/", disabled).with("/", without_type);
    let tree = tree.set("/memory@1", text("status", "disabled"));
    assert_eq!(ram(&tree), ["0x40000000-0x7fffffff"]);
}

#[test]
fn a_host_without_memory_is_refused() {
    let none = "/: there is no RAM: no node with device_type = \"memory\" describes a page";
    let tree = qemu_gicv2().without_child("/", "memory@40000000");
    assert_eq!(refused(&tree), none);
    assert_eq!(
        refused(&tree.with("/", memory("memory@0", &[0, 0, 0, 0]))),
        none
    );
    let tree = qemu_gicv2().without("/memory@40000000", "reg");
    assert_eq!(refused(&tree), "/memory@40000000: has no reg");
}

#[test]
fn memory_nodes_must_not_overlap() {
    let tree = qemu_gicv2().with(
        "/",
        memory("memory@48000000", &[0, 0x4800_0000, 0, 0x800_0000]),
    );
    assert_eq!(
        refused(&tree),
        "/memory@48000000: overlaps /memory@40000000 at 0x48000000-0x4fffffff"
    );
}

#[test]
fn reg_must_have_whole_entries() {
    let tree = qemu_gicv2().set("/memory@40000000", cells("reg", &[0, 0x4000_0000, 0]));
    assert_eq!(
        refused(&tree),
        "/memory@40000000: reg is 12 bytes long: it must be a multiple of 16"
    );
    let path = "/chosen/module@44000000";
    let tree = qemu_gicv2().set(path, cells("reg", &[0, 0x4400_0000, 0, 1, 0, 0, 0, 1]));
    assert_eq!(
        refused(&tree),
        "/chosen/module@44000000: reg is 32 bytes long: it must be exactly 16"
    );
    let tree = tree.set(path, cells("reg", &[0, 0x4400_0000, 0, 0]));
    assert_eq!(
        refused(&tree),
        "/chosen/module@44000000: reg gives 0x0 bytes at 0x44000000: no range of addresses"
    );
    let tree = tree.set("/memory@40000000", cells("reg", &[!0, !0, 0, 2]));
    assert_eq!(
        refused(&tree),
        "/memory@40000000: reg gives 0x2 bytes at 0xffffffffffffffff: no range of addresses"
    );
}

#[test]
fn there_is_room_for_so_much_memory() {
    let reg: Vec<u32> = (0..65)
        .flat_map(|bank| [1, bank << 16, 0, 0x1000])
        .collect();
    let tree = qemu_gicv2().with("/", memory("memory@100000000", &reg));
    assert_eq!(
        refused(&tree),
        "/memory@100000000: more than 64 ranges of RAM"
    );
}

#[test]
fn modules_say_what_they_are() {
    assert_eq!(
        modules(&qemu_gicv2()),
        [
            "/chosen/module@44000000 Kernel 0x44000000-0x45234566",
            "/chosen/module@48000000 Ramdisk 0x48000000-0x481fffff",
        ]
    );
    let legacy = [
        strings("compatible", &["xen,linux-zimage", "xen,multiboot-module"]),
        cells("reg", &[0, 0x5000_0000, 0, 0x1000]),
    ];
    let tree = qemu_gicv2()
        .with("/chosen", node("kernel", legacy, []))
        .with(
            "/chosen",
            module(0x5100_0000, 0x1000, Some("multiboot,device-tree")),
        )
        .with(
            "/chosen",
            module(0x5200_0000, 0x1000, Some("xen,xsm-policy")),
        );
    assert_eq!(
        modules(&tree)[2..],
        [
            "/chosen/kernel Kernel 0x50000000-0x50000fff",
            "/chosen/module@51000000 DeviceTree 0x51000000-0x51000fff",
            "/chosen/module@52000000 XsmPolicy 0x52000000-0x52000fff",
        ]
    );
}

#[test]
fn modules_without_a_kind_go_by_order() {
    let kinds = |tree: &Fixture| {
        read(tree, |info| {
            info.modules
                .iter()
                .map(|module| module.kind)
                .collect::<Vec<_>>()
        })
    };
    let mut tree = qemu_gicv2()
        .without_child("/chosen", "module@44000000")
        .without_child("/chosen", "module@48000000");
    for start in [0x5000_0000, 0x5100_0000, 0x5200_0000] {
        tree = tree.with("/chosen", module(start, 0x1000, None));
    }
    use ModuleKind::{Kernel, Ramdisk, Unknown};
    assert_eq!(kinds(&tree), [Kernel, Ramdisk, Unknown]);
}

#[test]
fn domains_have_modules_of_their_own() {
    let properties = [
        text("compatible", "xen,domain"),
        cells("#address-cells", &[1]),
        cells("#size-cells", &[1]),
    ];
    let kernel = [
        strings("compatible", &["multiboot,kernel", "multiboot,module"]),
        cells("reg", &[0x5000_0000, 0x1000]),
        text("bootargs", "of the guest"),
    ];
    let domain = node("domU1", properties, [node("module@50000000", kernel, [])]);
    let tree = qemu_gicv2().with("/chosen", domain);
    assert_eq!(
        modules(&tree)[2..],
        ["/chosen/domU1/module@50000000 Kernel 0x50000000-0x50000fff of /chosen/domU1"]
    );
    assert_eq!(lines(&tree).1.as_deref(), Some("console=hvc0"));
}

/// A tree with a domain of these properties, which has a kernel.
fn with_domain(properties: &[DeviceTreeProperty]) -> Fixture {
    let usual = [
        text("compatible", "xen,domain"),
        cells("#address-cells", &[1]),
        cells("#size-cells", &[1]),
    ];
    let kernel = [
        strings("compatible", &["multiboot,kernel", "multiboot,module"]),
        cells("reg", &[0x5000_0000, 0x1000]),
        text("bootargs", "console=ttyAMA0"),
    ];
    let all = usual.into_iter().chain(properties.iter().cloned());
    let domain = node("domU1", all, [node("module@50000000", kernel, [])]);
    qemu_gicv2().with("/chosen", domain)
}

/// What the first domain to be made at boot shows, or what is wrong with it.
fn first_domain<T>(tree: &Fixture, show: impl FnOnce(&BootDomain<'_>) -> T) -> Result<T, String> {
    let blob = tree.blob();
    let dtb = Dtb::parse(&blob).unwrap();
    let info = BootInfo::read(&dtb, &[]).unwrap();
    let (_, domain) = info.domains(&dtb).next().unwrap();
    domain
        .map(|domain| show(&domain))
        .map_err(|error| error.to_string())
}

#[test]
fn domains_of_the_tree_say_what_they_want() {
    let tree = with_domain(&[
        cells("cpus", &[2]),
        cells("memory", &[0, 0x2_0000]),
        flag("vpl011"),
        text("xen,enhanced", "enabled"),
    ]);
    let shown = first_domain(&tree, |domain| {
        assert!(domain.vuart && domain.enhanced);
        assert_eq!((domain.spis, domain.ramdisk), (None, None));
        assert_eq!(domain.kernel.range.start(), Hpa::new(0x5000_0000));
        (domain.vcpus, domain.memory_kib, domain.command_line.len())
    });
    assert_eq!(shown, Ok((2, 0x2_0000, "console=ttyAMA0".len())));
    let tree = with_domain(&[cells("cpus", &[1]), cells("memory", &[64])]);
    assert_eq!(
        first_domain(&tree, |domain| (domain.vuart, domain.enhanced)),
        Ok((false, false))
    );
    let blob = qemu_gicv2().blob();
    let dtb = Dtb::parse(&blob).unwrap();
    let info = BootInfo::read(&dtb, &[]).unwrap();
    assert_eq!(info.domains(&dtb).count(), 0);
}

#[test]
fn a_domain_that_cannot_be_made_says_why() {
    let cpus = || cells("cpus", &[1]);
    let memory = || cells("memory", &[0, 0x1_0000]);
    for (properties, fault) in [
        (vec![memory()], "has no cpus"),
        (vec![cells("cpus", &[0]), memory()], "has no cpus"),
        (vec![cpus()], "has no memory"),
        (
            vec![cpus(), cells("memory", &[1, 2, 3])],
            "memory must be a number",
        ),
        (
            vec![cpus(), memory(), flag("direct-map")],
            "direct-map must be absent",
        ),
        (
            vec![cpus(), memory(), text("xen,enhanced", "much")],
            "xen,enhanced must be \"enabled\" or empty",
        ),
    ] {
        let error = first_domain(&with_domain(&properties), |_| ()).unwrap_err();
        let expected = format!("/chosen/domU1: {fault}");
        assert!(error.starts_with(&expected), "{error}");
    }
}

#[test]
fn a_ramdisk_can_be_given_as_to_linux() {
    assert_eq!(
        modules(&one_cell()),
        ["/chosen Ramdisk 0x8000000-0x8ffffff"]
    );
    let tree = one_cell().set("/chosen", cells("linux,initrd-end", &[0, 0x900_0000]));
    assert_eq!(modules(&tree), ["/chosen Ramdisk 0x8000000-0x8ffffff"]);
    let tree = tree.set("/chosen", cells("linux,initrd-end", &[0x800_0000]));
    assert_eq!(
        refused(&tree),
        "/chosen: linux,initrd-start must be below linux,initrd-end"
    );
    let tree = tree.set("/chosen", bytes("linux,initrd-end", &[1, 2]));
    assert_eq!(
        refused(&tree),
        "/chosen: linux,initrd-end must be 4 or 8 bytes long"
    );
}

#[test]
fn modules_must_lie_in_ram() {
    let tree = qemu_gicv2().with("/chosen", module(0x7fff_f000, 0x2000, None));
    assert_eq!(
        refused(&tree),
        "/chosen/module@7ffff000: 0x7ffff000-0x80000fff is not all in RAM"
    );
}

#[test]
fn modules_must_not_overlap() {
    let tree = qemu_gicv2().with("/chosen", module(0x4810_0000, 0x20_0000, None));
    assert_eq!(
        refused(&tree),
        "/chosen/module@48100000: overlaps /chosen/module@48000000 at 0x48100000-0x481fffff"
    );
    let image = HpaRange::new(Hpa::new(0x4520_0000), 0x20_0000).unwrap();
    assert_eq!(
        refused_beside(&qemu_gicv2(), &[("the hypervisor image", image)]),
        "/chosen/module@44000000: overlaps the hypervisor image at 0x45200000-0x45234566"
    );
}

#[test]
fn there_is_room_for_so_many_modules() {
    let tree = (0..31).fold(qemu_gicv2(), |tree, index| {
        tree.with(
            "/chosen",
            module(0x5000_0000 + 0x1000 * index, 0x1000, None),
        )
    });
    assert_eq!(
        refused(&tree),
        "/chosen/module@5001e000: more than 32 boot modules"
    );
}

/// A tree with `/reserved-memory` that holds `children`.
fn with_reserved(children: Vec<dtoolkit::model::DeviceTreeNode>) -> Fixture {
    let properties = [
        cells("#address-cells", &[2]),
        cells("#size-cells", &[2]),
        flag("ranges"),
    ];
    qemu_gicv2().with("/", node("reserved-memory", properties, children))
}

#[test]
fn reserved_memory_is_listed() {
    let secure = [
        cells(
            "reg",
            &[0, 0x7000_0000, 0, 0x1000, 0, 0x7100_0000, 0, 0x800],
        ),
        flag("no-map"),
    ];
    let off = [
        cells("reg", &[0, 0x7300_0000, 0, 0x1000]),
        text("status", "disabled"),
    ];
    let anywhere = [cells("size", &[0, 0x1000])];
    let overlapping = [cells("reg", &[0, 0x7000_0000, 0, 0x2000])];
    let mut tree = with_reserved(vec![
        node("secure@70000000", secure, []),
        node("off@73000000", off, []),
        node("anywhere", anywhere, []),
        node("also@70000000", overlapping, []),
    ]);
    tree.0
        .memory_reservations
        .push(MemoryReservation::new(0x7200_0000, 0x10));
    let list = |info: &BootInfo<'_>| {
        let show = |entry: &Reserved<'_>| format!("{entry} {} {}", entry.range, entry.no_map);
        info.reserved.iter().map(show).collect::<Vec<_>>()
    };
    assert_eq!(
        read(&tree, list),
        [
            "/reserved-memory/secure@70000000 0x70000000-0x70000fff true",
            "/reserved-memory/secure@70000000 0x71000000-0x710007ff true",
            "/reserved-memory/also@70000000 0x70000000-0x70001fff false",
            "/memreserve/ 0x72000000-0x7200000f false",
        ]
    );
}

#[test]
fn modules_must_not_lie_in_reserved_memory() {
    let secure = [cells("reg", &[0, 0x4810_0000, 0, 0x1000])];
    let tree = with_reserved(vec![node("secure@48100000", secure, [])]);
    assert_eq!(
        refused(&tree),
        "/chosen/module@48000000: overlaps /reserved-memory/secure@48100000 at \
         0x48100000-0x48100fff"
    );
    let mut tree = qemu_gicv2();
    tree.0
        .memory_reservations
        .push(MemoryReservation::new(0x4800_0000, 0x1000));
    assert_eq!(
        refused(&tree),
        "/chosen/module@48000000: overlaps /memreserve/ at 0x48000000-0x48000fff"
    );
}

#[test]
fn a_boot_loader_may_reserve_what_it_loaded() {
    let mut tree = qemu_gicv2();
    let reservations = &mut tree.0.memory_reservations;
    reservations.push(MemoryReservation::new(0x4400_0000, 0x123_5000));
    reservations.push(MemoryReservation::new(0x4800_0000, 0x20_0000));
    assert_eq!(read(&tree, |info| info.reserved.len()), 2);
}

#[test]
fn there_is_room_for_so_many_reservations() {
    let mut tree = qemu_gicv2();
    let entries = (0..129).map(|index| MemoryReservation::new(0x5000_0000 + index, 1));
    tree.0.memory_reservations.extend(entries);
    assert_eq!(
        refused(&tree),
        "/memreserve/: more than 128 reserved ranges"
    );
}

#[test]
fn modules_count_cells_like_the_root_where_chosen_does_not_say() {
    let tree = qemu_gicv2()
        .without("/chosen", "#address-cells")
        .without("/chosen", "#size-cells");
    assert_eq!(modules(&tree), modules(&qemu_gicv2()));
}

#[test]
fn without_a_dom0_bootargs_are_the_hypervisors() {
    let tree = qemu_gicv2()
        .without("/chosen", "xen,xen-bootargs")
        .without("/chosen", "xen,dom0-bootargs")
        .without_child("/chosen", "module@44000000")
        .set("/chosen", text("bootargs", "loglvl=all"));
    assert_eq!(lines(&tree), ("loglvl=all".into(), None));
}

#[test]
fn command_lines_follow_xens_rule() {
    let kernel = "/chosen/module@44000000";
    let none = || {
        qemu_gicv2()
            .without("/chosen", "xen,xen-bootargs")
            .without("/chosen", "xen,dom0-bootargs")
    };
    let line = |name, value| text(name, value);
    assert_eq!(lines(&none()), ("".into(), None));
    assert_eq!(
        lines(&qemu_gicv2()),
        ("loglvl=all".into(), Some("console=hvc0".into()))
    );
    // Alone, bootargs are Dom0's.
    let tree = none().set("/chosen", line("bootargs", "b"));
    assert_eq!(lines(&tree), ("".into(), Some("b".into())));
    // They are the hypervisor's as soon as Dom0 has its own.
    let tree = tree.set("/chosen", line("xen,dom0-bootargs", "d"));
    assert_eq!(lines(&tree), ("b".into(), Some("d".into())));
    let tree = tree.set(kernel, line("bootargs", "k"));
    assert_eq!(lines(&tree), ("b".into(), Some("k".into())));
    let tree = tree.set("/chosen", line("xen,xen-bootargs", "x"));
    assert_eq!(lines(&tree), ("x".into(), Some("k".into())));
    let tree = tree.set("/chosen", bytes("bootargs", b"no end"));
    assert_eq!(
        refused(&tree),
        "/chosen: bootargs must be text in UTF-8 that ends in a NUL"
    );
}

#[test]
fn a_tree_without_chosen_has_no_modules() {
    let tree = qemu_gicv2().without_child("/", "chosen");
    assert!(modules(&tree).is_empty());
    assert_eq!(lines(&tree), ("".into(), None));
}
