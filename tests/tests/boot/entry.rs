//! Ways into the image: boot loaders, addresses, exception levels.

use anyhow::{Result, ensure};
use tests::case::{Case, SILENCE, expect_ready};
use tests::stub;
use xtask::qemu::{Machine, Memory, Start};

use super::{Test, needed};

/// Where U-Boot on QEMU's virt board loads kernels.
const U_BOOT_ADDRESS: u64 = 0x4040_0000;
/// RAM above 4 GiB.
const HIGH_ADDRESS: u64 = 0x1_8000_0000;
/// Where QEMU leaves the device tree for firmware.
const FIRMWARE_TREE: u64 = 0x4000_0000;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("entry::u-boot", u_boot),
        Test::new("entry::above-4g", above_4g),
        Test::new("entry::el1", el1),
        Test::new("entry::el3", el3),
    ]
}

/// Real U-Boot starts it with `booti`.
fn u_boot(case: &Case) -> Result<()> {
    let firmware = needed(&case.artifacts.u_boot, "no U-Boot (XEN_RS_UBOOT)")?;
    let machine = Machine {
        memory: Memory::gib(1),
        start: Start::Firmware(firmware),
        loads: vec![(case.artifacts.image.clone(), U_BOOT_ADDRESS)],
        ..case.virt()
    };
    let mut session = case.boot(&machine)?;
    session.expect_prompt("Hit any key to stop autoboot")?;
    session.send("\n")?;
    session.expect_prompt("=> ")?;
    session.send(&format!("booti {U_BOOT_ADDRESS:#x} - {FIRMWARE_TREE:#x}\n"))?;
    expect_ready(&mut session, &machine, U_BOOT_ADDRESS)
}

/// A small image that QEMU loads jumps to ours, far up.
fn above_4g(case: &Case) -> Result<()> {
    let stub = case.write("stub", &stub::image(&stub::jump(HIGH_ADDRESS, None)))?;
    let machine = Machine {
        memory: Memory::gib(8),
        start: Start::Kernel(stub),
        loads: vec![(case.artifacts.image.clone(), HIGH_ADDRESS)],
        ..case.virt()
    };
    let mut session = case.boot(&machine)?;
    expect_ready(&mut session, &machine, HIGH_ADDRESS)
}

fn el1(case: &Case) -> Result<()> {
    says_wrong_level(
        case,
        &Machine {
            virtualization: false,
            ..case.virt()
        },
        "EL1",
    )
}

/// Firmware enters it at EL3 instead of leaving that level first.
fn el3(case: &Case) -> Result<()> {
    const ADDRESS: u64 = 0x4400_0000;
    let firmware = case.write("firmware", &stub::jump(ADDRESS, Some(FIRMWARE_TREE)))?;
    let machine = Machine {
        // Without firmware of its own every CPU would come this way.
        cpus: 1,
        secure: true,
        start: Start::Firmware(firmware),
        loads: vec![(case.artifacts.image.clone(), ADDRESS)],
        ..case.virt()
    };
    says_wrong_level(case, &machine, "EL3")
}

/// One line, and nothing after it.
fn says_wrong_level(case: &Case, machine: &Machine, level: &str) -> Result<()> {
    let mut session = case.boot(machine)?;
    session.expect(&format!(
        r"^.*xen-rs.* entered at {level}\b.*must be started at EL2"
    ))?;
    let after = session.until_silent(SILENCE)?;
    ensure!(
        after.is_empty(),
        "after the fault came: {}",
        after.join(" | ")
    );
    ensure!(
        session.seen().len() == 1,
        "more than one line: {}",
        session.seen().join(" | ")
    );
    Ok(())
}
