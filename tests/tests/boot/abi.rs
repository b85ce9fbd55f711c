//! The Xen ABI as user space in Dom0 sees it: through Linux's drivers and by programs of our own.

use anyhow::{Context as _, Result, ensure};
use tests::case::Case;
use tests::modules;
use tests::ramdisk::{self, Contents};
use xtask::qemu::{GicVersion, Machine, Session};

use super::dom0::{self, Dom0, Kernel, type_line};
use super::{Test, needed};

/// The interrupt controllers that Dom0 runs on.
pub const GICS: [GicVersion; 2] = [GicVersion::V2, GicVersion::V3];

/// Modules of Debian's kernels.
const MODULES: [&str; 5] = [
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-privcmd",
    "xenfs",
];

/// Random hypercalls of one test where nothing else is asked for: the four make ten million.
const RANDOM_HYPERCALLS: u64 = 2_500_000;
/// Host seconds that they may take more than another test.
const RANDOM_SPARE: u32 = 1500;

/// Programs of `tests/programs`.
const PROGRAMS: [&str; 7] = [
    "version",
    "events",
    "grants",
    "refusals",
    "hypercalls",
    "shutdown",
    "domains",
];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for gic in GICS {
        for kernel in [Kernel::V6_1, Kernel::V6_12] {
            let name = format!("abi::user-space-linux-{}-gicv{gic}", kernel.release());
            tests.push(Test::new(name, move |case| {
                in_dom0(case, kernel, gic, RANDOM_SPARE, |session| {
                    for body in [
                        version,
                        devices,
                        events,
                        grants,
                        refusals,
                        random_hypercalls,
                    ] {
                        body(session)?;
                    }
                    Ok(())
                })
            }));
        }
    }
    for kernel in [Kernel::V6_1, Kernel::V6_12] {
        let name = format!("abi::pci-devices-linux-{}", kernel.release());
        tests.push(Test::new(name, move |case| pci_devices(case, kernel)));
    }
    tests.push(Test::new("abi::crash", crash));
    tests.push(Test::new("abi::steal-time", steal_time));
    tests
}

/// Boots Dom0 with the programs, types at its shell what `body` types, and switches it off.
pub fn in_dom0(
    case: &Case,
    kernel: Kernel,
    gic: GicVersion,
    seconds: u32,
    body: impl FnOnce(&mut Session) -> Result<()>,
) -> Result<()> {
    let machine = Machine {
        gic,
        ..dom0::machine(case, 2)
    };
    let mut session = boot_within(case, kernel, machine, seconds)?;
    body(&mut session)?;
    type_line(&mut session, "poweroff -f")?;
    session.expect("info: dom0: power off$")?;
    session.wait_end()
}

fn boot(case: &Case, kernel: Kernel, machine: Machine) -> Result<Session> {
    boot_within(case, kernel, machine, 0)
}

/// Boots Dom0 on a machine that has `seconds` more than a test has otherwise.
fn boot_within(case: &Case, kernel: Kernel, machine: Machine, seconds: u32) -> Result<Session> {
    let image = kernel.image(case)?;
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let programs = needed(
        &case.artifacts.programs,
        "no programs for Dom0 (XEN_RS_PROGRAMS)",
    )?;
    let contents = Contents {
        programs: PROGRAMS.map(|name| programs.join(name)).into(),
        modules: modules::with_dependencies(&image, &MODULES)?,
        ..Contents::default()
    };
    let script = "mount -t xenfs xenfs /proc/xen\necho DOM0: ready";
    let ramdisk = ramdisk::with_contents(&busybox, &contents, script)?;
    let dom0 = Dom0 {
        kernel: &image,
        ramdisk: &ramdisk,
        arguments: dom0::QUICK,
    };
    let mut session = dom0.boot(case, machine, seconds)?;
    session.expect("^DOM0: ready")?;
    session.expect_prompt("# ")?;
    Ok(session)
}

/// Runs a program and waits for its last line.
pub fn run(session: &mut Session, command: &str, last: &str) -> Result<()> {
    type_line(session, &format!("{command}; echo status $?"))?;
    session.expect("^status \\d+")?;
    session.saw("^status 0$")?;
    session.saw(last).map(drop)
}

/// The files by which user space reaches the hypervisor, and that Linux is a control domain which runs
/// the store itself.
fn devices(session: &mut Session) -> Result<()> {
    type_line(session, "cat /proc/xen/capabilities")?;
    session.expect("^control_d")?;
    type_line(
        session,
        "cd /dev/xen; for f in privcmd evtchn gntdev gntalloc xenbus hypercall; do \
         (: <> $f) && echo opened $f; done; cd /; echo looked",
    )?;
    session.expect("^looked$")?;
    for file in [
        "privcmd",
        "evtchn",
        "gntdev",
        "gntalloc",
        "xenbus",
        "hypercall",
    ] {
        session.saw(&format!("^opened {file}$"))?;
    }
    // The port of the loopback channel over which a store would be reached.
    type_line(session, "echo store port $(cat /proc/xen/xsd_port)")?;
    session.expect("^store port [1-9]")?;
    type_line(
        session,
        "cd /sys/hypervisor; grep . version/* compilation/* properties/*; cd /; echo read",
    )?;
    session.expect("^read$")?;
    session.saw("^version/extra:-xen-rs-")?;
    session.saw("^properties/capabilities:xen-3.0-aarch64")?;
    session.saw("^properties/pagesize:1000$")?;
    Ok(())
}

/// Random calls do no harm to anyone but who makes them: Dom0 is alive after. So many as
/// `XEN_RS_HYPERCALLS` says.
fn random_hypercalls(session: &mut Session) -> Result<()> {
    let asked = std::env::var("XEN_RS_HYPERCALLS").ok();
    let count = asked
        .map_or(Ok(RANDOM_HYPERCALLS), |count| count.parse::<u64>())
        .context("XEN_RS_HYPERCALLS is no number of calls")?;
    run(
        session,
        &format!("hypercalls {count} 1 2"),
        &format!("^HYPERCALLS: {count} calls"),
    )?;
    run(session, "events", "^EVENTS: done")?;
    run(session, "grants", "^GRANTS: done")
}

fn version(session: &mut Session) -> Result<()> {
    run(session, "version", "^VERSION: 4.20$")?;
    session.saw("^VERSION: capabilities xen-3.0-aarch64 ")?;
    Ok(())
}

fn events(session: &mut Session) -> Result<()> {
    run(session, "events", "^EVENTS: done")
}

fn refusals(session: &mut Session) -> Result<()> {
    run(session, "refusals", "^REFUSALS: done")
}

fn grants(session: &mut Session) -> Result<()> {
    run(session, "grants", "^GRANTS: done")
}

/// Dom0 tells of the PCI functions that it finds, and of those that go.
fn pci_devices(case: &Case, kernel: Kernel) -> Result<()> {
    let devices = [
        "edu,addr=2",
        "pcie-root-port,id=below,addr=3",
        "edu,bus=below",
    ];
    let machine = Machine {
        append: Some("dom0_mem=1G guest_loglvl=all".into()),
        extra: devices
            .into_iter()
            .flat_map(|device| ["-device".into(), device.into()])
            .collect(),
        ..dom0::machine(case, 1)
    };
    let mut session = boot(case, kernel, machine)?;
    for function in ["00:00.0", "00:02.0", "00:03.0", "01:00.0"] {
        session.saw(&format!(
            "info: pci: 0000:{function} found by the control domain$"
        ))?;
    }
    type_line(
        &mut session,
        "echo 1 > /sys/bus/pci/devices/0000:01:00.0/remove",
    )?;
    session.expect("info: pci: 0000:01:00.0 removed by the control domain$")?;
    type_line(&mut session, "echo 1 > /sys/bus/pci/rescan")?;
    session.expect("info: pci: 0000:01:00.0 found by the control domain$")?;
    type_line(&mut session, "poweroff -f")?;
    session.wait_end()
}

/// A domain that says that it has crashed, as a kernel with a crash handler does.
fn crash(case: &Case) -> Result<()> {
    let mut session = boot(case, Kernel::V6_1, dom0::machine(case, 1))?;
    // Reasons that a control domain cannot have: suspended, soft reset, none at all.
    for (reason, error) in [(2, 95), (5, 95), (77, 22)] {
        type_line(&mut session, &format!("shutdown {reason}"))?;
        session.expect(&format!("^SHUTDOWN: Err\\(Some\\({error}\\)\\)"))?;
    }
    type_line(&mut session, "shutdown 3")?;
    session.expect("error: d0: the kernel has crashed$")?;
    session.wait_end()
}

/// vCPUs that share a CPU hear how long they have waited for it.
fn steal_time(case: &Case) -> Result<()> {
    let machine = Machine {
        // With page table isolation Linux would not ask.
        append: Some("dom0_mem=1G dom0_max_vcpus=3".into()),
        ..dom0::machine(case, 1)
    };
    let mut session = boot(case, Kernel::V6_12, machine)?;
    // Hundredths of a second: of three busy ones, two wait at any time.
    let busy = "for i in 1 2 3; do timeout 2 sh -c 'while :; do :; done' & done; wait";
    let stolen = stolen_during(&mut session, busy)?;
    ensure!(stolen >= 200, "{stolen}/100 s stolen from busy vCPUs");
    let stolen = stolen_during(&mut session, "sleep 2")?;
    ensure!(stolen < 100, "{stolen}/100 s stolen from idle vCPUs");
    type_line(&mut session, "poweroff -f")?;
    session.wait_end()
}

/// Hundredths of a second of all vCPUs that Linux has counted as stolen during a command.
fn stolen_during(session: &mut Session, command: &str) -> Result<u32> {
    let counter = "$(grep '^cpu ' /proc/stat | tr -s ' ' | cut -d' ' -f9)";
    let line = format!("before={counter}; {command}; echo stolen $(({counter} - before))");
    type_line(session, &line)?;
    let [_, stolen] = session
        .expect("^stolen (\\d+)")?
        .try_into()
        .unwrap_or_default();
    Ok(stolen.parse()?)
}
