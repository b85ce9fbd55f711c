//! The Xen ABI as user space in Dom0 sees it: through Linux's drivers and by programs of our own.

use anyhow::Result;
use tests::case::Case;
use tests::ramdisk::{self, Contents};
use xtask::qemu::{GicVersion, Machine, Session};

use super::dom0::{self, Kernel, type_line};
use super::{Test, needed};

/// The interrupt controllers that Dom0 runs on.
const GICS: [GicVersion; 2] = [GicVersion::V2, GicVersion::V3];

/// Modules of Debian's kernels, each behind those that it needs.
const MODULES: [&str; 5] = [
    "xen-evtchn",
    "xen-gntdev",
    "xen-gntalloc",
    "xen-privcmd",
    "xenfs",
];

/// Random hypercalls where nothing else is asked for.
const RANDOM_HYPERCALLS: u64 = 200_000;

/// Programs of `tests/programs`.
const PROGRAMS: [&str; 5] = ["version", "events", "grants", "refusals", "hypercalls"];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for gic in GICS {
        for kernel in [Kernel::V6_1, Kernel::V6_12] {
            let mut add = |what, body: fn(&mut Session) -> Result<()>| {
                let name = format!("abi::{what}-linux-{}-gicv{gic}", kernel.release());
                tests.push(Test::new(name, move |case| {
                    in_dom0(case, kernel, gic, body)
                }));
            };
            add("version", version);
            add("events", events);
            add("grants", grants);
            add("refusals", refusals);
            add("devices", devices);
            add("random-hypercalls", random_hypercalls);
        }
    }
    tests
}

/// Boots Dom0 with the programs, types at its shell what `body` types, and switches it off.
fn in_dom0(
    case: &Case,
    kernel: Kernel,
    gic: GicVersion,
    body: fn(&mut Session) -> Result<()>,
) -> Result<()> {
    let mut session = boot(case, kernel, gic)?;
    body(&mut session)?;
    type_line(&mut session, "poweroff -f")?;
    session.expect("info: dom0: power off$")?;
    session.wait_end()
}

fn boot(case: &Case, kernel: Kernel, gic: GicVersion) -> Result<Session> {
    let image = kernel.image(case)?;
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let programs = needed(
        &case.artifacts.programs,
        "no programs for Dom0 (XEN_RS_PROGRAMS)",
    )?;
    let modules = MODULES.map(|name| ramdisk::module(&image, name));
    let contents = Contents {
        programs: PROGRAMS.map(|name| programs.join(name)).into(),
        modules: modules.into_iter().collect::<Result<_>>()?,
    };
    let script = "mount -t xenfs xenfs /proc/xen\necho DOM0: ready";
    let ramdisk = ramdisk::with_contents(&busybox, &contents, script)?;
    let machine = Machine {
        gic,
        ..dom0::machine(case, 2)
    };
    let mut session = dom0::boot_with(case, &image, &ramdisk, machine)?;
    session.expect("^DOM0: ready")?;
    session.expect_prompt("# ")?;
    Ok(session)
}

/// Runs a program and waits for its last line.
fn run(session: &mut Session, command: &str, last: &str) -> Result<()> {
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
    let count = asked.map_or(Ok(RANDOM_HYPERCALLS), |count| count.parse::<u64>())?;
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
