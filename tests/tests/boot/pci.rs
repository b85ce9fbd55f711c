//! PCI as Dom0 finds it through its trapped config space: as it is, without what is not its own.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tests::case::Case;
use tests::modules;
use tests::ramdisk::{self, Contents};
use xtask::qemu::{GicVersion, Machine, Session, SmmuStage, Start};

use super::dom0::{self, Dom0, Kernel, press_keys, type_line};
use super::{Test, needed};

/// Cards on the root bus, behind root ports, and behind two levels of a switch, some of several
/// functions.
const DEVICES: [&str; 17] = [
    "e1000e,addr=1,romfile=",
    "virtio-rng-pci,addr=2.0,multifunction=on",
    "edu,addr=2.1",
    "nvme,serial=xen-rs,addr=3",
    "pcie-root-port,id=first,addr=4.0,chassis=1,multifunction=on",
    "pcie-root-port,id=second,addr=4.1,chassis=2",
    "pcie-root-port,id=empty,addr=5,chassis=3",
    "igb,bus=first,romfile=",
    "x3130-upstream,id=up,bus=second",
    "xio3130-downstream,id=down0,bus=up,addr=0,chassis=4",
    "xio3130-downstream,id=down1,bus=up,addr=1,chassis=5",
    "xio3130-downstream,id=down2,bus=up,addr=2,chassis=6",
    "qemu-xhci,bus=down0",
    "pcie-pci-bridge,id=old,bus=down1",
    "e1000,bus=old,addr=1,romfile=",
    "pci-serial,bus=old,addr=2",
    "edu,addr=6",
];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (kernel, gic) in [
        (Kernel::V6_1, GicVersion::V3),
        (Kernel::V6_12, GicVersion::V3),
        (Kernel::V6_12, GicVersion::V2),
    ] {
        let name = format!("pci::dump-linux-{}-gicv{gic}", kernel.release());
        tests.push(Test::new(name, move |case| same_dump(case, kernel, gic)));
    }
    for kernel in [Kernel::V6_1, Kernel::V6_12] {
        let name = format!("pci::virtual-functions-linux-{}", kernel.release());
        tests.push(Test::new(name, move |case| virtual_functions(case, kernel)));
    }
    tests.push(Test::new("pci::assignable", assignable));
    tests.push(Test::new("pci::pciback-hide", pciback_hide));
    tests.push(Test::new("pci::assignable-at-run-time", at_run_time));
    tests.push(Test::new("pci::assignable-is-malformed", |case| {
        let machine = Machine {
            append: Some("assignable=01:00".into()),
            ..dom0::machine(case, 1)
        };
        let fault = case.refuses(&machine)?;
        ensure!(fault.contains("assignable"), "{fault}");
        Ok(())
    }));
    tests
}

fn plug_into(machine: &mut Machine, devices: &[&str]) {
    for device in devices {
        machine.extra.extend(["-device".into(), device.into()]);
    }
}

/// A ramdisk with the program that prints functions, which the script runs.
fn ramdisk(case: &Case, kernel: &Path, modules: &[&str], script: &str) -> Result<Vec<u8>> {
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let programs = needed(
        &case.artifacts.programs,
        "no programs for Dom0 (XEN_RS_PROGRAMS)",
    )?;
    let contents = Contents {
        programs: ["pci", "assignable", "xrs"]
            .map(|name| programs.join(name))
            .into(),
        modules: modules::with_dependencies(kernel, modules)?,
        ..Contents::default()
    };
    ramdisk::with_contents(&busybox, &contents, script)
}

/// What Linux has of each function, by its name and what the value is: `config 0x00c`, `resource 3`.
type Dump = BTreeMap<(String, String), String>;

/// Runs the program and takes what it prints.
fn dump(session: &mut Session) -> Result<Dump> {
    let before = session.seen().len();
    type_line(session, "pci")?;
    let count: usize = session.expect("^PCI: (\\d+) functions")?[1].parse()?;
    let mut dump = Dump::new();
    for line in session.seen().iter().skip(before) {
        let Some((name, rest)) = line
            .strip_prefix("PCI: ")
            .and_then(|line| line.split_once(' '))
        else {
            continue;
        };
        if let Some(resource) = rest.strip_prefix("resource ") {
            let (number, value) = resource.split_once(' ').context("a resource")?;
            let key = (name.to_string(), format!("resource {number}"));
            dump.insert(key, value.trim().to_string());
            continue;
        }
        for (offset, value) in rest.split(' ').filter_map(|word| word.split_once(':')) {
            let key = (name.to_string(), format!("config {offset}"));
            dump.insert(key, value.trim().to_string());
        }
    }
    let names: std::collections::BTreeSet<&String> = dump.keys().map(|(name, _)| name).collect();
    ensure!(names.len() == count, "{} of {count} functions", names.len());
    Ok(dump)
}

/// Every function has the config space and the resources that it has without a hypervisor, but for
/// what is documented in docs/pci.md.
fn same_dump(case: &Case, kernel: Kernel, gic: GicVersion) -> Result<()> {
    let image = kernel.image(case)?;
    let disk = ramdisk(case, &image, &[], "echo PCI: up")?;
    let mut bare = Machine {
        start: Start::Kernel(image.clone()),
        virtualization: false,
        gic,
        cpus: 2,
        append: Some(format!("console=ttyAMA0 {}", dom0::QUICK)),
        extra: vec!["-initrd".into(), case.write("bare-ramdisk", &disk)?.into()],
        ..case.virt()
    };
    plug_into(&mut bare, &DEVICES);
    let mut session = case.boot(&bare)?;
    session.expect("^PCI: up")?;
    session.expect_prompt("# ")?;
    let bare = dump(&mut session)?;
    type_line(&mut session, "poweroff -f")?;
    session.wait_end()?;

    let mut machine = Machine {
        gic,
        ..dom0::machine(case, 2)
    };
    plug_into(&mut machine, &DEVICES);
    let mut session = dom0::boot_with(case, &image, &disk, machine)?;
    session.expect("^PCI: up")?;
    session.expect_prompt("# ")?;
    let ours = dump(&mut session)?;
    dom0::power_off(&mut session)?;

    let keys: std::collections::BTreeSet<_> = bare.keys().chain(ours.keys()).collect();
    let zero = "00000000".to_string();
    let mut differences = Vec::new();
    for key in keys {
        let there = bare.get(key).unwrap_or(&zero);
        let here = ours.get(key).unwrap_or(&zero);
        if there != here && !is_documented(&bare, key, there, here) {
            let (name, what) = key;
            differences.push(format!("{name} {what}: {here} instead of {there}"));
        }
    }
    ensure!(differences.is_empty(), "{}", differences.join("; "));
    Ok(())
}

/// Whether a difference is one that docs/pci.md has: isolation is on, and interrupts have other
/// numbers.
fn is_documented(bare: &Dump, key: &(String, String), there: &str, here: &str) -> bool {
    let (name, what) = key;
    let Some(offset) = what.strip_prefix("config ") else {
        return false;
    };
    let offset = usize::from_str_radix(offset, 16).unwrap_or(usize::MAX);
    let value = |text: &str| u32::from_str_radix(text, 16).unwrap_or(0);
    let changed = value(there) ^ value(here);
    let dword = |offset: usize| {
        let key = (name.clone(), format!("config {offset:03x}"));
        bare.get(&key).map_or(0, |text| value(text))
    };
    let in_acs = offset >= 0x104 && dword(offset - 4) & 0xffff == 0x000d;
    match offset {
        // Interrupt line: a number of the operating system's.
        0x3c => changed & !0xff == 0,
        // ACS control.
        _ => in_acs && changed & !0xffff_0000 == 0,
    }
}

/// Dom0 enables virtual functions and disables them: each comes and goes with its registers, behind the
/// SMMU.
fn virtual_functions(case: &Case, kernel: Kernel) -> Result<()> {
    let image = kernel.image(case)?;
    let disk = ramdisk(case, &image, &["igb", "igbvf"], "echo PCI: up")?;
    let mut machine = Machine {
        smmu: Some(SmmuStage::Second),
        append: Some("dom0_mem=1G guest_loglvl=info".into()),
        ..dom0::machine(case, 2)
    };
    plug_into(
        &mut machine,
        &["pcie-root-port,id=root,addr=1", "igb,bus=root,romfile="],
    );
    let mut session = dom0::boot_with(case, &image, &disk, machine)?;
    session.expect("^PCI: up")?;
    session.expect_prompt("# ")?;
    let card = "/sys/bus/pci/devices/0000:01:00.0";
    for round in 1..=2 {
        type_line(
            &mut session,
            &format!("echo 2 > {card}/sriov_numvfs; echo enabled {round}"),
        )?;
        session.expect(&format!("^enabled {round}"))?;
        for function in ["01:10.0", "01:10.2"] {
            session.saw(&format!("pci: 0000:{function} found .* behind an IOMMU"))?;
        }
        // The driver has reset each by its registers and read its address.
        type_line(
            &mut session,
            "for f in /sys/bus/pci/devices/0000:01:10.*; do echo VF: $(ls $f/net); done",
        )?;
        session.expect("^VF: eth")?;
        session.expect("^VF: eth")?;
        let found = dump(&mut session)?;
        let class = found.get(&("0000:01:10.2".to_string(), "config 008".to_string()));
        ensure!(
            class.is_some_and(|class| class.starts_with("0200")),
            "{class:?}"
        );
        type_line(
            &mut session,
            &format!("echo 0 > {card}/sriov_numvfs; echo disabled {round}"),
        )?;
        session.expect(&format!("^disabled {round}"))?;
        session.saw("pci: 0000:01:10.2 removed by the control domain")?;
        session.forbid(&["(warning|error): (pci|iommu|d0): "])?;
    }
    dom0::power_off(&mut session)
}

/// Functions that Dom0 does not have: of the root bus, of a device of two functions, and behind a root
/// port.
const HIDDEN: [&str; 3] = ["0000:00:01.0", "0000:00:02.0", "0000:01:00.0"];

/// What `assignable=` names is absent for Dom0, and all else is there and works.
fn assignable(case: &Case) -> Result<()> {
    let line = format!(
        "dom0_mem=1G assignable={},0000:1f:00.0,0000:00:03.0",
        HIDDEN.join(",")
    );
    let mut session = with_hidden(case, &line, "")?;
    session.saw("warning: pci: assignable: 0000:1f:00.0: there is no such function$")?;
    session.saw("warning: pci: assignable: 0000:00:03.0 cannot be assigned: it is a bridge")?;
    press_keys(&mut session, "p")?;
    session.expect("info: pci: 0000:00:01.0 .*: quarantine")?;
    session.expect("info: pci: 0000:00:02.1 .*: the hardware domain")?;
    session.expect("info: pci: 0000:01:00.0 .*: quarantine")?;
    press_keys(&mut session, "")?;
    dom0::power_off(&mut session)
}

/// The kernel's own word for it means the same.
fn pciback_hide(case: &Case) -> Result<()> {
    let list: String = HIDDEN.map(|name| format!("({name})")).concat();
    let arguments = format!("xen-pciback.hide={list}");
    let mut session = with_hidden(case, "dom0_mem=1G", &arguments)?;
    dom0::power_off(&mut session)
}

/// Boots Dom0 without [`HIDDEN`] and looks at what it has.
fn with_hidden(case: &Case, line: &str, arguments: &str) -> Result<Session> {
    let kernel = Kernel::V6_12.image(case)?;
    let disk = ramdisk(case, &kernel, &["e1000e"], "echo PCI: up")?;
    let mut machine = Machine {
        smmu: Some(SmmuStage::Second),
        append: Some(line.into()),
        ..dom0::machine(case, 2)
    };
    plug_into(
        &mut machine,
        &[
            "edu,addr=1",
            "edu,addr=2.0,multifunction=on",
            "e1000e,addr=2.1,romfile=",
            "pcie-root-port,id=root,addr=3",
            "edu,bus=root",
            "pcie-root-port,id=other,addr=4,chassis=2",
            "e1000e,bus=other,romfile=",
        ],
    );
    let dom0 = Dom0 {
        kernel: &kernel,
        ramdisk: &disk,
        arguments,
    };
    let mut session = dom0.boot(case, machine, 0)?;
    for hidden in HIDDEN {
        session.saw(&format!("info: pci: {hidden} is assignable: "))?;
    }
    session.expect("^PCI: up")?;
    session.expect_prompt("# ")?;
    let found = dump(&mut session)?;
    let id = |name: &str| {
        let key = (name.to_string(), "config 000".to_string());
        found.get(&key).map(String::as_str)
    };
    ensure!(
        id(HIDDEN[0]).is_none() && id(HIDDEN[2]).is_none(),
        "{found:?}"
    );
    // Something has to stand in the place of function 0.
    ensure!(id(HIDDEN[1]) == Some("fff05853"), "{:?}", id(HIDDEN[1]));
    for network in ["0000:00:02.1", "0000:02:00.0"] {
        ensure!(
            id(network) == Some("10d38086"),
            "{network}: {:?}",
            id(network)
        );
    }
    type_line(&mut session, "ls /sys/bus/pci/drivers/e1000e")?;
    session.expect("0000:00:02.1")?;
    session.saw("0000:02:00.0")?;
    Ok(session)
}

/// Dom0 gives a function up and gets it back: by `xrs`, with its driver, and by Xen's own calls, from
/// under its driver.
fn at_run_time(case: &Case) -> Result<()> {
    let kernel = Kernel::V6_1.image(case)?;
    let modules = ["e1000e", "xen-privcmd"];
    let disk = ramdisk(case, &kernel, &modules, "mkdir -p /run\necho PCI: up")?;
    let mut machine = Machine {
        smmu: Some(SmmuStage::Second),
        ..dom0::machine(case, 2)
    };
    plug_into(
        &mut machine,
        &[
            "pcie-root-port,id=root,addr=1",
            "e1000e,bus=root,romfile=",
            "edu,addr=2",
        ],
    );
    let mut session = dom0::boot_with(case, &kernel, &disk, machine)?;
    session.expect("^PCI: up")?;
    session.expect_prompt("# ")?;
    let card = "0000:01:00.0";
    let driver = "/sys/bus/pci/drivers/e1000e";
    let mut run = |line: &str, answers: &[&str]| -> Result<()> {
        type_line(&mut session, line)?;
        for answer in answers {
            session.expect(answer)?;
        }
        session.expect_prompt("# ")
    };
    let is_gone = format!("hexdump -n 4 /sys/bus/pci/devices/{card}/config");
    let has_network = format!("ls /sys/bus/pci/devices/{card}/net");

    run(
        "xrs pci-assignable-list --all",
        &[r"^0000:01:00.0 +8086:10d3 +020000 +Domain-0 +0000:01:00.0 +(FLR|D3hot|bus below)"],
    )?;
    run(
        "xrs pci-assignable-add 01:00.0",
        &["^0000:01:00.0 is assignable; e1000e has let go of it"],
    )?;
    run(&is_gone, &["^0+ ffff ffff"])?;
    run("xrs pci-assignable-list", &["^0000:01:00.0 .* assignable "])?;
    run(
        "xrs pci-assignable-list --json | tr -d ' \\n'; echo",
        &[r#"^\[\{"function":"0000:01:00.0","state":"assignable","domain":null,"#],
    )?;
    run(
        "xrs pci-assignable-add 00:1e.0; echo status $?",
        &["^xrs: 0000:00:1e.0: there is no such function", "^status 1"],
    )?;
    run(
        "xrs pci-assignable-add 00:01.0; echo status $?",
        &[
            "^xrs: 0000:00:01.0 cannot be assigned: it is a bridge",
            "^status 1",
        ],
    )?;
    // What no reset would clean keeps its driver, if it has one.
    run(
        "xrs pci-assignable-add 00:02.0; echo status $?",
        &[
            "^xrs: 0000:00:02.0 cannot be assigned: there is no way to reset it",
            "^status 1",
        ],
    )?;
    run(
        "xrs pci-assignable-remove -r 01:00.0",
        &["^0000:01:00.0 is the control domain's, with e1000e"],
    )?;
    run(&has_network, &["^eth"])?;

    // The driver has its interrupts still: none of them arrives any more.
    run(
        &format!("assignable give {card}"),
        &[
            r"info: pci: 0000:01:00.0: [1-9]\d* message interrupt\(s\) of the control domain end",
            "^ASSIGNABLE: .*: done",
        ],
    )?;
    run(&is_gone, &["^0+ ffff ffff"])?;
    run(
        "assignable give 0000:00:1e.0",
        &[r"^ASSIGNABLE: .*: Some\(19\)"],
    )?;
    run(
        &format!("echo {card} > {driver}/unbind; echo unbound"),
        &["^unbound"],
    )?;
    run(
        &format!("assignable take {card}"),
        &["^ASSIGNABLE: .*: done"],
    )?;
    run(
        &format!("echo {card} > {driver}/bind; {has_network}"),
        &["^eth"],
    )?;
    session.forbid(&["(warning|error): iommu: "])?;
    dom0::power_off(&mut session)
}
