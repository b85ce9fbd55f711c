use std::string::{String, ToString};

use super::*;
use crate::tests::fixtures::{
    Fixture, cells, imx8mp, one_cell, qemu_gicv2, rcar_h3, strings, text,
};

/// What the choice leads to, as text.
fn console(tree: &Fixture, choice: ConsoleChoice<'_>) -> String {
    let blob = tree.blob();
    match Dtb::parse(&blob).unwrap().console(choice) {
        Ok(uart) => std::format!(
            "{} {:?} {} shift {} width {} {:?}",
            uart.node,
            uart.kind,
            uart.regs,
            uart.reg_shift,
            uart.reg_io_width,
            uart.interrupt.map(|interrupt| interrupt.id.to_string()),
        ),
        Err(error) => error.to_string(),
    }
}

fn stdout(tree: &Fixture) -> String {
    console(tree, ConsoleChoice::StdoutPath)
}

#[test]
fn the_boot_loader_chooses() {
    assert_eq!(
        stdout(&qemu_gicv2()),
        "/pl011@9000000 Pl011 0x9000000-0x9000fff shift 0 width 2 Some(\"SPI 1\")"
    );
    assert_eq!(
        stdout(&rcar_h3()),
        "/soc/serial@e6e88000 Scif 0xe6e88000-0xe6e8803f shift 0 width 2 Some(\"SPI 164\")"
    );
    assert_eq!(
        stdout(&imx8mp()),
        "/soc@0/bus@30800000/spba-bus@30800000/serial@30890000 Imx 0x30890000-0x3089ffff \
         shift 0 width 4 Some(\"SPI 27\")"
    );
    assert_eq!(
        stdout(&one_cell()),
        "/soc/serial@7e215040 BcmAux 0x3f215040-0x3f21507f shift 2 width 4 None"
    );
}

#[test]
fn the_older_name_is_understood() {
    let tree = rcar_h3()
        .without("/chosen", "stdout-path")
        .set("/chosen", text("linux,stdout-path", "/soc/serial@e6e88000"));
    assert!(stdout(&tree).starts_with("/soc/serial@e6e88000 Scif"));
}

#[test]
fn the_user_chooses_by_alias_or_path() {
    for name in [
        "serial0",
        "serial0:115200n8",
        "/soc/serial@e6e88000",
        "/soc/serial@e6e88000:x",
    ] {
        let found = console(&rcar_h3(), ConsoleChoice::Named(name));
        assert!(found.starts_with("/soc/serial@e6e88000 Scif"), "{found}");
    }
}

#[test]
fn registers_are_spaced_as_the_tree_says() {
    let path = "/pl011@9000000";
    let tree = qemu_gicv2()
        .set(path, strings("compatible", &["snps,dw-apb-uart"]))
        .set(path, cells("reg-shift", &[2]))
        .set(path, cells("reg-io-width", &[4]));
    assert_eq!(
        stdout(&tree),
        "/pl011@9000000 Ns16550 0x9000000-0x9000fff shift 2 width 4 Some(\"SPI 1\")"
    );
    let tree = tree.set(path, cells("reg-shift", &[4]));
    assert_eq!(
        stdout(&tree),
        "/pl011@9000000: reg-shift is 0x4: it must be 0 to 3"
    );
    let tree = tree
        .set(path, cells("reg-shift", &[0]))
        .set(path, cells("reg-io-width", &[3]));
    assert_eq!(
        stdout(&tree),
        "/pl011@9000000: reg-io-width is 0x3: it must be 1, 2 or 4"
    );
}

#[test]
fn the_most_special_kind_counts() {
    let path = "/soc/serial@e6e88000";
    let kinds = [
        "renesas,hscif-r8a7795",
        "renesas,rcar-gen3-hscif",
        "renesas,hscif",
    ];
    let tree = rcar_h3().set(path, strings("compatible", &kinds));
    assert!(stdout(&tree).contains(" Hscif "));
    let tree = tree.set(
        path,
        strings("compatible", &["fsl,imx8mm-uart", "ns16550a"]),
    );
    assert!(stdout(&tree).contains(" Imx "));
}

#[test]
fn a_choice_that_leads_nowhere_says_why() {
    let chosen = |path| qemu_gicv2().set("/chosen", text("stdout-path", path));
    assert_eq!(
        stdout(&chosen("seral0:115200")),
        "/chosen/stdout-path: seral0 names no node; did you mean serial0?"
    );
    assert_eq!(
        stdout(&chosen("/pl011@9000001")),
        "/chosen/stdout-path: /pl011@9000001 names no node; did you mean pl011@9000000?"
    );
    assert_eq!(
        stdout(&chosen("/memory@40000000")),
        "/memory@40000000: has no compatible"
    );
    assert_eq!(
        stdout(&chosen("/timer")),
        "/timer: no driver for a console that is arm,armv8-timer"
    );
    assert_eq!(
        stdout(&qemu_gicv2().without("/chosen", "stdout-path")),
        "/chosen: has no stdout-path"
    );
    assert_eq!(
        stdout(&qemu_gicv2().without_child("/", "chosen")),
        "/: there is no /chosen node, so no stdout-path chooses a console"
    );
}

#[test]
fn a_console_must_be_usable() {
    let path = "/soc/serial@e6e88000";
    let tree = rcar_h3().set(path, text("status", "ok"));
    assert!(stdout(&tree).contains(" Scif "));
    let tree = tree.set(path, text("status", "disabled"));
    assert_eq!(
        stdout(&tree),
        "/soc/serial@e6e88000: its status is disabled, so it cannot be used as the console"
    );
    let tree = tree.without(path, "status").without("/soc", "ranges");
    assert_eq!(
        stdout(&tree),
        "/soc/serial@e6e88000: its address 0xe6e88000 cannot be reached: /soc has no ranges for it"
    );
    let tree = tree.without(path, "reg");
    assert_eq!(stdout(&tree), "/soc/serial@e6e88000: has no reg");
}
