//! What the boot loader hands over: boot modules and the command line.

use anyhow::{Context as _, Result, ensure};
use dtoolkit::model::DeviceTree;
use tests::case::{Case, IMAGE_ADDRESS, SILENCE, expect_ready};
use tests::dtb;
use xtask::qemu::{Machine, Memory};

use super::{Test, needed};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("options::debian-kernel-module", kernel_module),
        Test::new("options::loglvl", loglvl),
        Test::new("options::unknown-key", unknown_key),
        Test::new("options::malformed-value", malformed_value),
        Test::new("options::console-by-dtuart", dtuart),
        Test::new("options::absent-cpu", absent_cpu),
    ]
}

fn small(case: &Case) -> Machine {
    Machine {
        cpus: 2,
        memory: Memory::gib(1),
        ..case.virt()
    }
}

/// QEMU's guest loader describes Debian's kernel as a boot module.
fn kernel_module(case: &Case) -> Result<()> {
    const ADDRESS: u64 = 0x4900_0000;
    let kernel = needed(&case.artifacts.kernel, "no kernel (XEN_RS_KERNEL)")?;
    let last = ADDRESS + std::fs::metadata(&kernel)?.len() - 1;
    let mut machine = small(case);
    let loader = format!(
        "guest-loader,kernel={},addr={ADDRESS:#x},bootargs=console=ttyAMA0",
        kernel.display()
    );
    machine.extra.extend(["-device".into(), loader.into()]);
    let mut session = case.boot(&machine)?;
    expect_ready(&mut session, &machine, machine.board.load_address())?;
    session
        .saw(&format!(
            "module /chosen/module@{ADDRESS:#x}: kernel, {ADDRESS:#x}-{last:#x}"
        ))
        .map(drop)
}

/// From the command line on, only lines of the level that it names are logged.
fn loglvl(case: &Case) -> Result<()> {
    let append = "loglvl=warning no-such-key";
    let mut session = case.boot(&Machine {
        append: Some(append.into()),
        ..small(case)
    })?;
    session.expect("warning: .*no-such-key")?;
    let after = session.until_silent(SILENCE)?;
    let info = after.iter().find(|line| line.contains("] info: "));
    ensure!(info.is_none(), "in spite of loglvl=warning: {info:?}");
    Ok(())
}

/// A key that nobody knows is said to be so, and ignored.
fn unknown_key(case: &Case) -> Result<()> {
    let machine = Machine {
        append: Some("no-such-key=1".into()),
        ..small(case)
    };
    let mut session = case.boot(&machine)?;
    expect_ready(&mut session, &machine, machine.board.load_address())?;
    session.saw("warning: .*no-such-key").map(drop)
}

/// A known key with a value that makes no sense stops the boot.
fn malformed_value(case: &Case) -> Result<()> {
    let fault = case.refuses(&Machine {
        append: Some("loglvl=banana".into()),
        ..small(case)
    })?;
    ensure!(
        fault.contains("loglvl") && fault.contains("banana"),
        "{fault}"
    );
    Ok(())
}

/// A tree without `stdout-path`: the command line names the console.
fn dtuart(case: &Case) -> Result<()> {
    let mut machine = small(case);
    machine.append = Some("console=dtuart dtuart=/pl011@9000000".into());
    let mut tree = dtb::dump(&machine)?;
    dtb::node(&mut tree, "/chosen")?
        .remove_property("stdout-path")
        .context("no stdout-path")?;
    let mut session = boot_edited(case, &machine, &tree)?;
    expect_ready(&mut session, &machine, IMAGE_ADDRESS)
}

/// A CPU that the tree lists and the firmware does not have is reported and left out.
fn absent_cpu(case: &Case) -> Result<()> {
    let machine = small(case);
    let mut tree = dtb::dump(&machine)?;
    let absent = dtb::new_node(
        "cpu@63",
        &[
            ("device_type", b"cpu\0"),
            ("compatible", b"arm,cortex-a72\0"),
            ("reg", &0x63_u32.to_be_bytes()),
            ("enable-method", b"psci\0"),
        ],
    );
    dtb::node(&mut tree, "/cpus")?.add_child(absent);
    let mut session = boot_edited(case, &machine, &tree)?;
    session.expect("ready: 2 of 3 CPUs up")?;
    session.saw("cpu2: did not come up: .+").map(drop)
}

fn boot_edited(case: &Case, machine: &Machine, tree: &DeviceTree) -> Result<xtask::qemu::Session> {
    case.boot(&case.with_tree(machine, &tree.to_dtb())?)
}
