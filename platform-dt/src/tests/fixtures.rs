//! Device trees of known boards in outline, for tests to read and to spoil.

use std::string::String;
use std::vec::Vec;

use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

/// A tree that tests can change before it is written.
pub(crate) struct Fixture(pub DeviceTree);

impl Fixture {
    pub(crate) fn new(root: DeviceTreeNode) -> Self {
        let mut tree = DeviceTree::new();
        tree.root = root;
        Self(tree)
    }

    /// The tree as a blob.
    pub(crate) fn blob(&self) -> Vec<u8> {
        self.0.to_dtb()
    }

    pub(crate) fn node(&mut self, path: &str) -> &mut DeviceTreeNode {
        self.0.find_node_mut(path).unwrap()
    }

    /// The tree with a property of a node replaced or added.
    pub(crate) fn set(mut self, path: &str, property: DeviceTreeProperty) -> Self {
        self.node(path).add_property(property);
        self
    }

    /// The tree without a property of a node.
    pub(crate) fn without(mut self, path: &str, property: &str) -> Self {
        self.node(path).remove_property(property).unwrap();
        self
    }

    /// The tree with another child of a node.
    pub(crate) fn with(mut self, path: &str, child: DeviceTreeNode) -> Self {
        self.node(path).add_child(child);
        self
    }

    /// The tree without a child of a node.
    pub(crate) fn without_child(mut self, path: &str, child: &str) -> Self {
        self.node(path).remove_child(child).unwrap();
        self
    }
}

pub(crate) fn node(
    name: &str,
    properties: impl IntoIterator<Item = DeviceTreeProperty>,
    children: impl IntoIterator<Item = DeviceTreeNode>,
) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    properties.into_iter().for_each(|p| node.add_property(p));
    children.into_iter().for_each(|child| node.add_child(child));
    node
}

pub(crate) fn cells(name: &str, cells: &[u32]) -> DeviceTreeProperty {
    DeviceTreeProperty::new_unchecked(name, cells)
}

pub(crate) fn strings(name: &str, strings: &[&str]) -> DeviceTreeProperty {
    DeviceTreeProperty::new_unchecked(name, strings)
}

pub(crate) fn text(name: &str, text: &str) -> DeviceTreeProperty {
    DeviceTreeProperty::new_unchecked(name, text)
}

pub(crate) fn bytes(name: &str, bytes: &[u8]) -> DeviceTreeProperty {
    DeviceTreeProperty::new_unchecked(name, bytes)
}

pub(crate) fn flag(name: &str) -> DeviceTreeProperty {
    bytes(name, &[])
}

/// `#address-cells` and `#size-cells`.
pub(crate) fn bus(address: u32, size: u32) -> [DeviceTreeProperty; 2] {
    [
        cells("#address-cells", &[address]),
        cells("#size-cells", &[size]),
    ]
}

/// A memory node whose `reg` is `reg`.
pub(crate) fn memory(name: &str, reg: &[u32]) -> DeviceTreeNode {
    let properties = [text("device_type", "memory"), cells("reg", reg)];
    node(name, properties, [])
}

/// A boot module with two-cell addresses.
pub(crate) fn module(start: u32, size: u32, kind: Option<&str>) -> DeviceTreeNode {
    let compatible: Vec<&str> = kind.into_iter().chain(["multiboot,module"]).collect();
    let properties = [
        strings("compatible", &compatible),
        cells("reg", &[0, start, 0, size]),
    ];
    let name: String = std::format!("module@{start:x}");
    node(&name, properties, [])
}

fn cpu(reg: u32, kind: &str) -> DeviceTreeNode {
    let name: String = std::format!("cpu@{reg:x}");
    let properties = [
        text("device_type", "cpu"),
        text("compatible", kind),
        cells("reg", &[reg]),
        text("enable-method", "psci"),
    ];
    node(&name, properties, [])
}

fn cpus(list: &[(u32, &str)]) -> DeviceTreeNode {
    let children = list.iter().map(|&(reg, kind)| cpu(reg, kind));
    node("cpus", bus(1, 0), children)
}

pub(crate) fn psci() -> DeviceTreeNode {
    let properties = [
        strings("compatible", &["arm,psci-1.0", "arm,psci-0.2"]),
        text("method", "smc"),
    ];
    node("psci", properties, [])
}

/// The PPIs of the timer in the usual order, with the flags that a tree gives them.
fn timer(flags: u32) -> DeviceTreeNode {
    let interrupts = [1, 13, flags, 1, 14, flags, 1, 11, flags, 1, 10, flags];
    let properties = [
        text("compatible", "arm,armv8-timer"),
        cells("interrupts", &interrupts),
    ];
    node("timer", properties, [])
}

fn gic_properties(compatible: &str, reg: &[u32]) -> Vec<DeviceTreeProperty> {
    std::vec![
        text("compatible", compatible),
        cells("#interrupt-cells", &[3]),
        flag("interrupt-controller"),
        cells("reg", reg),
        cells("interrupts", &[1, 9, 4]),
        cells("phandle", &[1]),
    ]
}

/// QEMU's `virt` with one bank of 1 GiB at 1 GiB and a kernel and a ramdisk as modules.
fn qemu(gic: DeviceTreeNode) -> Fixture {
    let root = [
        cells("interrupt-parent", &[1]),
        text("compatible", "linux,dummy-virt"),
        text("model", "linux,dummy-virt"),
    ];
    let chosen = [
        text("stdout-path", "/pl011@9000000"),
        text("xen,xen-bootargs", "loglvl=all"),
        text("xen,dom0-bootargs", "console=hvc0"),
    ];
    let uart = [
        strings("compatible", &["arm,pl011", "arm,primecell"]),
        cells("reg", &[0, 0x900_0000, 0, 0x1000]),
        cells("interrupts", &[0, 1, 4]),
    ];
    let children = [
        psci(),
        memory("memory@40000000", &[0, 0x4000_0000, 0, 0x4000_0000]),
        node(
            "chosen",
            chosen.into_iter().chain(bus(2, 2)),
            [
                module(0x4400_0000, 0x123_4567, Some("multiboot,kernel")),
                module(0x4800_0000, 0x20_0000, Some("multiboot,ramdisk")),
            ],
        ),
        node("aliases", [text("serial0", "/pl011@9000000")], []),
        cpus(&[(0, "arm,cortex-a57"), (1, "arm,cortex-a57")]),
        timer(0x104),
        gic,
        node("pl011@9000000", uart, []),
    ];
    Fixture::new(node("", root.into_iter().chain(bus(2, 2)), children))
}

/// QEMU's `virt` with a GICv2 and a GICv2m frame.
pub(crate) fn qemu_gicv2() -> Fixture {
    let reg = [
        0, 0x800_0000, 0, 0x1_0000, 0, 0x801_0000, 0, 0x1_0000, 0, 0x803_0000, 0, 0x1_0000, 0,
        0x804_0000, 0, 0x1_0000,
    ];
    let frame = [
        text("compatible", "arm,gic-v2m-frame"),
        cells("reg", &[0, 0x802_0000, 0, 0x1000]),
        cells("phandle", &[2]),
        cells("arm,msi-base-spi", &[80]),
        cells("arm,msi-num-spis", &[64]),
    ];
    let gic = gic_properties("arm,cortex-a15-gic", &reg);
    qemu(node(
        "intc@8000000",
        gic.into_iter().chain(bus(2, 2)).chain([flag("ranges")]),
        [node("v2m@8020000", frame, [])],
    ))
}

/// QEMU's `virt` with a GICv3 of two redistributor regions and an ITS.
pub(crate) fn qemu_gicv3() -> Fixture {
    let reg = [
        0, 0x800_0000, 0, 0x1_0000, 0, 0x80a_0000, 0, 0xf6_0000, 0x40, 0, 0, 0x400_0000,
    ];
    let its = [
        text("compatible", "arm,gic-v3-its"),
        cells("reg", &[0, 0x808_0000, 0, 0x2_0000]),
        cells("phandle", &[2]),
    ];
    let mut gic = gic_properties("arm,gic-v3", &reg);
    gic.push(cells("#redistributor-regions", &[2]));
    qemu(node(
        "intc@8000000",
        gic.into_iter().chain(bus(2, 2)).chain([flag("ranges")]),
        [node("its@8080000", its, [])],
    ))
}

/// Renesas R-Car H3: two clusters, four banks of which three lie above 4 GiB, a SCIF on a bus.
pub(crate) fn rcar_h3() -> Fixture {
    let root = [
        text(
            "model",
            "Renesas Salvator-X 2nd version board based on r8a77951",
        ),
        strings("compatible", &["renesas,salvator-xs", "renesas,r8a7795"]),
    ];
    let scif = [
        strings(
            "compatible",
            &[
                "renesas,scif-r8a7795",
                "renesas,rcar-gen3-scif",
                "renesas,scif",
            ],
        ),
        cells("reg", &[0, 0xe6e8_8000, 0, 64]),
        cells("interrupts", &[0, 164, 4]),
    ];
    let gic_reg = [
        0,
        0xf101_0000,
        0,
        0x1000,
        0,
        0xf102_0000,
        0,
        0x2_0000,
        0,
        0xf104_0000,
        0,
        0x2_0000,
        0,
        0xf106_0000,
        0,
        0x2_0000,
    ];
    let soc = [
        text("compatible", "simple-bus"),
        cells("interrupt-parent", &[1]),
        flag("ranges"),
    ];
    let mut timer = timer(0xf08);
    timer.add_property(cells(
        "interrupts-extended",
        &[
            1, 1, 13, 0xf08, 1, 1, 14, 0xf08, 1, 1, 11, 0xf08, 1, 1, 10, 0xf08,
        ],
    ));
    let _ = timer.remove_property("interrupts");
    let children = [
        node("aliases", [text("serial0", "/soc/serial@e6e88000")], []),
        node("chosen", [text("stdout-path", "serial0:115200n8")], []),
        cpus(&[
            (0, "arm,cortex-a57"),
            (1, "arm,cortex-a57"),
            (0x100, "arm,cortex-a53"),
            (0x101, "arm,cortex-a53"),
        ]),
        psci(),
        memory("memory@48000000", &[0, 0x4800_0000, 0, 0x3800_0000]),
        memory("memory@500000000", &[5, 0, 0, 0x4000_0000]),
        memory("memory@600000000", &[6, 0, 0, 0x4000_0000]),
        memory("memory@700000000", &[7, 0, 0, 0x4000_0000]),
        node(
            "soc",
            soc.into_iter().chain(bus(2, 2)),
            [
                node("serial@e6e88000", scif, []),
                node(
                    "interrupt-controller@f1010000",
                    gic_properties("arm,gic-400", &gic_reg),
                    [],
                ),
            ],
        ),
        timer,
    ];
    Fixture::new(node("", root.into_iter().chain(bus(2, 2)), children))
}

/// NXP i.MX8MP: the root counts in two cells and the buses in one; the UART is three buses down.
pub(crate) fn imx8mp() -> Fixture {
    let root = [
        cells("interrupt-parent", &[1]),
        text("model", "NXP i.MX8MPlus EVK board"),
        strings("compatible", &["fsl,imx8mp-evk", "fsl,imx8mp"]),
    ];
    let uart = [
        strings("compatible", &["fsl,imx8mp-uart", "fsl,imx6q-uart"]),
        cells("reg", &[0x3089_0000, 0x1_0000]),
        cells("interrupts", &[0, 27, 4]),
    ];
    let bus_with = |name, ranges: &[u32], children| {
        let properties = bus(1, 1).into_iter().chain([cells("ranges", ranges)]);
        node(name, properties, children)
    };
    let spba = bus_with(
        "spba-bus@30800000",
        &[0x3080_0000, 0x3080_0000, 0x10_0000],
        std::vec![node("serial@30890000", uart, [])],
    );
    let aips = bus_with(
        "bus@30800000",
        &[0x3080_0000, 0x3080_0000, 0x40_0000],
        std::vec![spba],
    );
    let gic = node(
        "interrupt-controller@38800000",
        gic_properties(
            "arm,gic-v3",
            &[0x3880_0000, 0x1_0000, 0x3888_0000, 0xc_0000],
        ),
        [],
    );
    let soc = bus_with("soc@0", &[0, 0, 0, 0x3e00_0000], std::vec![aips, gic]);
    let mut timer = timer(0xf08);
    let names = ["sec-phys", "phys", "virt", "hyp-phys"];
    timer.add_property(strings("interrupt-names", &names));
    let children = [
        node(
            "aliases",
            [text(
                "serial1",
                "/soc@0/bus@30800000/spba-bus@30800000/serial@30890000",
            )],
            [],
        ),
        node("chosen", [text("stdout-path", "serial1")], []),
        cpus(&[(0, "arm,cortex-a53"), (1, "arm,cortex-a53")]),
        psci(),
        memory(
            "memory@40000000",
            &[0, 0x4000_0000, 0, 0xc000_0000, 1, 0, 0, 0xc000_0000],
        ),
        soc,
        timer,
    ];
    Fixture::new(node("", root.into_iter().chain(bus(2, 2)), children))
}

/// A host that counts addresses and sizes in one cell each, with a spin table.
pub(crate) fn one_cell() -> Fixture {
    let root = [
        cells("interrupt-parent", &[1]),
        text("compatible", "brcm,bcm2837"),
    ];
    let chosen = [
        text("stdout-path", "/soc/serial@7e215040"),
        cells("linux,initrd-start", &[0x800_0000]),
        cells("linux,initrd-end", &[0x900_0000]),
    ];
    let uart = [
        text("compatible", "brcm,bcm2835-aux-uart"),
        cells("reg", &[0x7e21_5040, 0x40]),
    ];
    let soc = [cells(
        "ranges",
        &[
            0x7e00_0000,
            0x3f00_0000,
            0x100_0000,
            0x4000_0000,
            0x4000_0000,
            0x1000,
        ],
    )];
    let spinning = |reg: u32| {
        let mut cpu = cpu(reg, "arm,cortex-a53");
        cpu.add_property(text("enable-method", "spin-table"));
        cpu.add_property(cells("cpu-release-addr", &[0, 0xd8 + 8 * reg]));
        cpu
    };
    let gic = gic_properties("arm,gic-400", &[0x4004_1000, 0x1000, 0x4004_2000, 0x2000]);
    let children = [
        node("chosen", chosen, []),
        node("cpus", bus(1, 0), [spinning(0), spinning(1)]),
        memory("memory@0", &[0, 0x3b40_0000]),
        node(
            "soc",
            bus(1, 1).into_iter().chain(soc),
            [node("serial@7e215040", uart, [])],
        ),
        node("interrupt-controller@40041000", gic, []),
        timer(4),
    ];
    Fixture::new(node("", root.into_iter().chain(bus(1, 1)), children))
}

/// All of them, each with its name.
pub(crate) fn all() -> [(&'static str, Fixture); 5] {
    [
        ("QEMU virt, GICv2", qemu_gicv2()),
        ("QEMU virt, GICv3", qemu_gicv3()),
        ("R-Car H3", rcar_h3()),
        ("i.MX8MP", imx8mp()),
        ("one-cell host", one_cell()),
    ]
}
