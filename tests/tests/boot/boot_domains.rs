//! Domains that the device tree asks for, made at boot without a toolstack.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use tests::case::Case;
use tests::{dtb, ramdisk, stub};
use xtask::qemu::{GicVersion, Machine, Memory};

use super::abi::GICS;
use super::dom0::{Kernel, press_keys, type_line};
use super::{Test, needed};

/// Where a domain's kernel and ramdisk are handed over.
const KERNEL_ADDRESS: u64 = 0x4900_0000;
const RAMDISK_ADDRESS: u64 = 0x4e00_0000;
/// Host seconds that a kernel may take more than another test.
const SPARE: u32 = 60;
/// The serial port of a guest.
const VPL011: u64 = 0x2200_0000;

pub fn tests() -> Vec<Test> {
    let without_dom0 = |gic| {
        let name = format!("boot-domains::linux-6.12-without-dom0-gicv{gic}");
        Test::new(name, move |case| linux_without_dom0(case, gic))
    };
    GICS.map(without_dom0).into()
}

/// Linux on its serial port, which is the console; three Ctrl-A lead to the hypervisor and back.
fn linux_without_dom0(case: &Case, gic: GicVersion) -> Result<()> {
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let script = "export PS1='guest# '\necho GUEST: $(nproc) CPUs, $(cat /sys/hypervisor/type)";
    let kernel = Kernel::V6_12.image(case)?;
    let ramdisk = case.write("ramdisk", &ramdisk::with_shell(&busybox, script)?)?;
    let machine = Machine {
        gic,
        cpus: 2,
        memory: Memory::gib(1),
        ..case.virt()
    };
    let mut tree = dtb::dump(&machine)?;
    let mut domain = domain(2, 256, "xen,enhanced");
    let size = fs::metadata(&kernel)?.len();
    let mut module = dtb::module("multiboot,kernel", KERNEL_ADDRESS, size);
    dtb::set(&mut module, "bootargs", b"console=ttyAMA0\0");
    domain.add_child(module);
    let size = fs::metadata(&ramdisk)?.len();
    domain.add_child(dtb::module("multiboot,ramdisk", RAMDISK_ADDRESS, size));
    add(&mut tree, domain)?;
    let mut machine = case.with_tree(&machine, &tree.to_dtb())?;
    let loads = [(kernel, KERNEL_ADDRESS), (ramdisk, RAMDISK_ADDRESS)];
    machine.loads.extend(loads);

    let mut session = case.boot_with(&machine, SPARE)?;
    session.expect("warning: no boot module is a kernel: there is no Dom0")?;
    session.expect("info: d1: /chosen/guest: 2 vCPU")?;
    session.expect("^GUEST: 2 CPUs, xen")?;
    session.expect_prompt("guest# ")?;
    type_line(&mut session, "echo six times seven is $((6*7))")?;
    session.expect("^six times seven is 42")?;
    press_keys(&mut session, "q")?;
    session.expect("info: console: input goes to xen-rs")?;
    // Less what Linux has given up for pages that it shares.
    session.expect("info: d1: 255 MiB$")?;
    press_keys(&mut session, "")?;
    session.expect("info: console: input goes to d1")?;
    type_line(&mut session, "poweroff -f")?;
    session.expect("reboot: Power down")?;
    press_keys(&mut session, "R")?;
    session.wait_end()
}

/// A node of a domain with a serial port.
fn domain(cpus: u32, mib: u64, further: &str) -> DeviceTreeNode {
    dtb::new_node(
        "guest",
        &[
            ("compatible", b"xen,domain\0"),
            ("#address-cells", &2_u32.to_be_bytes()),
            ("#size-cells", &2_u32.to_be_bytes()),
            ("cpus", &cpus.to_be_bytes()),
            ("memory", &(mib << 10).to_be_bytes()),
            ("vpl011", &[]),
            (further, &[]),
        ],
    )
}

fn add(tree: &mut DeviceTree, domain: DeviceTreeNode) -> Result<()> {
    dtb::node(tree, "/chosen")?.add_child(domain);
    Ok(())
}

/// Adds a domain to a tree that says a word, in a line, and then sleeps for ever. Returns its kernel and
/// where that is to be.
pub fn add_speaker(case: &Case, tree: &mut DeviceTree, word: &str) -> Result<(PathBuf, u64)> {
    const ADDRESS: u64 = 0x4600_0000;
    let kernel = stub::image(&speaker(word));
    let mut domain = domain(1, 8, "xen,enhanced");
    domain.add_child(dtb::module(
        "multiboot,kernel",
        ADDRESS,
        kernel.len() as u64,
    ));
    add(tree, domain)?;
    Ok((case.write("speaker", &kernel)?, ADDRESS))
}

fn speaker(word: &str) -> Vec<u8> {
    // movz x1, #(VPL011 >> 16), lsl #16
    let mut code = vec![0xd2a0_0001 | ((VPL011 >> 16) as u32) << 5];
    for byte in word.bytes().chain([b'\n']) {
        // movz w2, #byte; str w2, [x1]
        code.extend([0x5280_0002 | u32::from(byte) << 5, 0xb900_0022]);
    }
    // wfi; b .-4
    code.extend([0xd503_207f, 0x17ff_ffff]);
    code.into_iter().flat_map(u32::to_le_bytes).collect()
}
