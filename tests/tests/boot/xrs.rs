//! The toolstack in Dom0: guests are made, talked to and ended.
//!
//! The same program does the same on Debian's Xen 4.20, which is how we know that it speaks Xen's
//! interface and not one that only xen-rs has.

use std::fs;

use anyhow::{Result, ensure};
use tests::case::Case;
use tests::modules;
use tests::ramdisk::{self, Contents};
use tests::stub;
use xtask::qemu::{GicVersion, Machine, Memory, Session, Start};

use super::dom0::{Dom0, Kernel, NO_TRIALS, type_line};
use super::{Test, needed};

/// What `xrs` needs of Debian's kernels.
const MODULES: [&str; 2] = ["xen-evtchn", "xen-privcmd"];
/// Host seconds that a test may take more than another: two kernels boot, one after the other, and
/// under real Xen each takes longer.
const SPARE: u32 = 240;
/// The key that leaves a console.
const ESCAPE: &str = "\x1d";

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    let pairs = [
        (GicVersion::V3, Kernel::V6_12, Kernel::V6_1),
        (GicVersion::V2, Kernel::V6_1, Kernel::V6_12),
    ];
    for (gic, dom0, guest) in pairs {
        let name = format!(
            "xrs::real-xen-gicv{gic}-linux-{}-under-{}",
            guest.release(),
            dom0.release()
        );
        tests.push(Test::new(name, move |case| {
            let xen = needed(&case.artifacts.xen, "no Xen (XEN_RS_XEN)")?;
            let machine = Machine {
                append: Some("dom0_mem=768M dom0_max_vcpus=2 console=dtuart".into()),
                start: Start::Kernel(xen),
                ..machine(case, gic)
            };
            one_guest(case, machine, dom0, guest)
        }));
    }
    tests.push(Test::new("xrs::real-xen-killed-at-some-calls", |case| {
        let xen = needed(&case.artifacts.xen, "no Xen (XEN_RS_XEN)")?;
        let machine = Machine {
            append: Some("dom0_mem=768M dom0_max_vcpus=2 console=dtuart".into()),
            start: Start::Kernel(xen),
            ..machine(case, GicVersion::V3)
        };
        // Each death takes real Xen ten times as long.
        killed_at_calls(case, machine, 6)
    }));
    tests
}

/// `xrs create` is killed after its first call, after the one `stride` later, and so on, until it is
/// through: what each left, the next takes back.
pub fn killed_at_calls(case: &Case, machine: Machine, stride: u32) -> Result<()> {
    let mut session = boot(case, machine, Kernel::V6_12, Kernel::V6_1)?;
    let free = free_memory(&mut session)?;
    let calls = format!(
        "n=1; while XRS_DIE_AFTER=$n xrs create -q /lib/idle.cfg > /dev/null 2>&1; \
         s=$?; [ $s = 137 ]; do n=$((n+{stride})); done; echo survived call $n with $s"
    );
    type_line(&mut session, &calls)?;
    let ended = session.expect("^survived call (\\d+) with (\\d+)")?;
    let (calls, status): (u32, u32) = (ended[1].parse()?, ended[2].parse()?);
    ensure!(status == 0 && calls > 20, "{calls} calls, status {status}");
    session.expect_prompt("dom0# ")?;
    let list = run(&mut session, "xrs list", 0)?;
    let guests = list
        .lines()
        .filter(|line| line.starts_with("idle ") || line.starts_with('('));
    ensure!(guests.count() == 1, "{list}");
    run(&mut session, "xrs destroy idle", 0)?;
    let left = free_memory(&mut session)?;
    ensure!(left == free, "{free} MiB were free, now {left}");
    type_line(&mut session, "poweroff -f")?;
    session.wait_end()
}

/// A machine with room for Dom0 and guests.
pub fn machine(case: &Case, gic: GicVersion) -> Machine {
    Machine {
        gic,
        cpus: 2,
        memory: Memory::gib(2),
        append: Some("dom0_mem=768M".into()),
        ..case.virt()
    }
}

/// The whole life of a guest, twice: ended from outside, and by itself.
pub fn one_guest(case: &Case, machine: Machine, dom0: Kernel, guest: Kernel) -> Result<()> {
    let mut session = boot(case, machine, dom0, guest)?;
    let version = run(&mut session, "xrs info", 0)?;
    ensure!(version.contains("xen_version       : 4.20"), "{version}");
    let free = free_memory(&mut session)?;
    let list = run(&mut session, "xrs list", 0)?;
    ensure!(list.contains("Domain-0"), "{list}");

    let checked = run(&mut session, "xrs create -n /lib/guest.cfg", 0)?;
    ensure!(
        checked.contains("guest could be created: 256 MiB, 2 vCPUs"),
        "{checked}"
    );
    // A line with an error in it would be taken for one of the hypervisor's.
    run(&mut session, "xrs create /lib/broken.cfg 2> /said", 3)?;
    run(
        &mut session,
        "grep -q '^xrs: /lib/broken.cfg:2:10: err' /said",
        0,
    )?;
    run(&mut session, "xrs console nobody", 4)?;

    let made = run(&mut session, "xrs create /lib/guest.cfg", 0)?;
    ensure!(
        made.contains("guest created as domain 1: 256 MiB, 2 vCPUs"),
        "{made}"
    );
    let taken = run(&mut session, "xrs create /lib/guest.cfg", 3)?;
    ensure!(
        taken.contains("there is a guest named guest already"),
        "{taken}"
    );

    // What it said before someone looked is still there.
    type_line(&mut session, "xrs console guest")?;
    session.expect("Booting Linux on physical CPU")?;
    session.expect("^GUEST: 2 CPUs, xen")?;
    session.expect_prompt("guest# ")?;
    type_line(&mut session, "echo six times seven is $((6*7))")?;
    session.expect("^six times seven is 42")?;
    session.send(ESCAPE)?;
    session.expect_prompt("dom0# ")?;

    let list = run(&mut session, "xrs list", 0)?;
    ensure!(
        list.lines().any(|line| line.starts_with("guest ")),
        "{list}"
    );
    let vcpus = run(&mut session, "xrs vcpu-list guest", 0)?;
    let rows = vcpus.lines().filter(|line| line.starts_with("guest "));
    ensure!(rows.count() == 2, "{vcpus}");
    run(&mut session, "xrs pause guest", 0)?;
    let list = run(&mut session, "xrs list guest", 0)?;
    ensure!(list.contains("--p---"), "{list}");
    run(&mut session, "xrs unpause guest", 0)?;
    run(&mut session, "xrs shutdown guest", 1)?;
    run(&mut session, "xrs destroy guest", 0)?;
    run(&mut session, "xrs list guest", 4)?;
    let left = free_memory(&mut session)?;
    ensure!(left == free, "{free} MiB were free, now {left}");

    // From the first letter to the last.
    type_line(&mut session, "xrs create -c /lib/guest.cfg; echo status $?")?;
    session.expect("Booting Linux on physical CPU")?;
    session.expect_prompt("guest# ")?;
    type_line(&mut session, "poweroff -f")?;
    session.expect("reboot: Power down")?;
    session.expect("^status 0")?;
    session.expect_prompt("dom0# ")?;
    let list = run(&mut session, "xrs list --json", 0)?;
    ensure!(!list.contains("\"guest\""), "{list}");
    let left = free_memory(&mut session)?;
    ensure!(left == free, "{free} MiB were free, now {left}");
    let log = run(&mut session, "xrs dmesg | head -n 3", 0)?;
    ensure!(!log.is_empty(), "the log is empty");
    type_line(&mut session, "poweroff -f")?;
    session.wait_end()
}

/// Boots Dom0 with the toolstack and what a guest needs, until its shell waits.
fn boot(case: &Case, machine: Machine, dom0: Kernel, guest: Kernel) -> Result<Session> {
    let image = dom0.image(case)?;
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let programs = needed(
        &case.artifacts.programs,
        "no programs for Dom0 (XEN_RS_PROGRAMS)",
    )?;
    let script = "export PS1='guest# '\necho GUEST: $(nproc) CPUs, $(cat /sys/hypervisor/type)";
    let configuration = format!(
        "name = 'guest'\nkernel = 'Image'\nramdisk = 'guest-ramdisk'\n\
         memory = 256; vcpus = 2\nextra = 'console=hvc0 {NO_TRIALS}'\n"
    );
    let contents = Contents {
        programs: vec![programs.join("xrs")],
        modules: modules::with_dependencies(&image, &MODULES)?,
        files: vec![
            ("Image".into(), fs::read(guest.image(case)?)?),
            (
                "guest-ramdisk".into(),
                ramdisk::with_shell(&busybox, script)?,
            ),
            ("guest.cfg".into(), configuration.into()),
            ("idle".into(), idle_kernel()),
            (
                "idle.cfg".into(),
                "name = 'idle'; kernel = 'idle'; memory = 10\n".into(),
            ),
            (
                "broken.cfg".into(),
                "name = 'guest'\nmemory = lots\n".into(),
            ),
        ],
    };
    let ramdisk = ramdisk::with_contents(&busybox, &contents, "mkdir -p /run\necho DOM0: ready")?;
    let dom0 = Dom0 {
        kernel: &image,
        ramdisk: &ramdisk,
        arguments: "",
    };
    let mut session = dom0.start(case, machine, SPARE)?;
    session.expect("^DOM0: ready")?;
    session.expect_prompt("dom0# ")?;
    Ok(session)
}

/// A kernel that waits for interrupts, of which there are none: `wfi`, and back to it.
fn idle_kernel() -> Vec<u8> {
    let code = [0xd503_207f_u32, 0x17ff_ffff];
    stub::image(&code.map(u32::to_le_bytes).concat())
}

/// Runs a command, which ends with this status; returns what it printed.
fn run(session: &mut Session, command: &str, status: u8) -> Result<String> {
    let before = session.seen().len();
    type_line(session, &format!("{command}; echo status $?"))?;
    let ended = session.expect("^status (\\d+)")?;
    let printed = session.seen().get(before..).unwrap_or_default().join("\n");
    ensure!(ended[1] == status.to_string(), "{command}: {printed}");
    session.expect_prompt("dom0# ")?;
    Ok(printed)
}

/// MiB that the hypervisor has free.
fn free_memory(session: &mut Session) -> Result<u64> {
    let info = run(session, "xrs info", 0)?;
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("free_memory"));
    let number = line.and_then(|line| line.split_whitespace().nth(1));
    Ok(number.unwrap_or_default().parse()?)
}
