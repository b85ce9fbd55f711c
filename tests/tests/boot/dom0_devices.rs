//! Dom0's PCI devices over INTx: a disk and a network card with Debian's drivers.

use std::path::Path;

use anyhow::Result;
use tests::case::Case;
use tests::devices::{self, Devices, Slots};
use tests::ramdisk;
use xtask::qemu::{GicVersion, Machine, Session, Start};

use super::dom0::{self, Dom0, Kernel, QUICK};
use super::{Test, needed};

/// The interrupt controllers that Dom0 boots on.
const GICS: [GicVersion; 2] = [GicVersion::V2, GicVersion::V3];

/// How long both devices are at work while all CPUs are busy: seconds of Dom0's clock.
const LONG: u32 = 60;
const SHORT: u32 = 5;
/// Host seconds more, for the data's first way, and for the rounds that begin as a stress ends: on a
/// machine that has other things to do, they take minutes.
const SPARE: u32 = 300;

pub fn tests() -> Vec<Test> {
    let mut tests = vec![Test::new("devices::bare-linux", bare_linux)];
    let settings = [
        (Kernel::V6_1, GicVersion::V2, 1, Slots::APART),
        (Kernel::V6_12, GicVersion::V2, 2, Slots::SHARED),
        (Kernel::V6_12, GicVersion::V3, 1, Slots::APART),
        (Kernel::V6_1, GicVersion::V3, 2, Slots::SHARED),
    ];
    for (kernel, gic, cpus, slots) in settings {
        let name = format!("devices::linux-{}-gicv{gic}-{cpus}vcpu", kernel.release());
        tests.push(Test::new(name, move |case| {
            let machine = Machine {
                gic,
                ..dom0::machine(case, cpus)
            };
            in_dom0(case, kernel, machine, slots, SHORT, |_| Ok(()))
        }));
    }
    for gic in GICS {
        // Each kernel on one of the controllers.
        let kernel = match gic {
            GicVersion::V2 => Kernel::V6_12,
            GicVersion::V3 => Kernel::V6_1,
        };
        let name = format!(
            "devices::linux-{}-gicv{gic}-4vcpu-{LONG}s",
            kernel.release()
        );
        tests.push(Test::new(name, move |case| {
            let machine = Machine {
                gic,
                ..dom0::machine(case, 4)
            };
            in_dom0(case, kernel, machine, Slots::APART, LONG, |_| Ok(()))
        }));
    }
    tests
}

/// The same without a hypervisor: what fails here is no fault of ours.
fn bare_linux(case: &Case) -> Result<()> {
    let kernel = Kernel::V6_1;
    let devices = Devices::new(case, Slots::SHARED)?;
    let kernel = kernel.image(case)?;
    let ramdisk = case.write("ramdisk", &ramdisk(case, &kernel, &devices)?)?;
    let mut machine = Machine {
        start: Start::Kernel(kernel),
        virtualization: false,
        cpus: 2,
        append: Some(format!("console=ttyAMA0 pci=nomsi {QUICK}")),
        extra: vec!["-initrd".into(), ramdisk.into()],
        ..case.virt()
    };
    devices.plug_into(&mut machine);
    let mut session = case.boot_with(&machine, SPARE)?;
    devices.expect_wired(&mut session)?;
    exercise(&mut session, &devices, SHORT)?;
    session.send("poweroff -f\n")?;
    session.wait_end()
}

/// Boots Dom0 with the devices, and has them do all that they have to; `check` looks at what the
/// hypervisor said after Dom0 has found them.
pub fn in_dom0(
    case: &Case,
    kernel: Kernel,
    mut machine: Machine,
    slots: Slots,
    seconds: u32,
    check: impl FnOnce(&mut Session) -> Result<()>,
) -> Result<()> {
    let devices = Devices::new(case, slots)?;
    devices.plug_into(&mut machine);
    let kernel = kernel.image(case)?;
    let dom0 = Dom0 {
        kernel: &kernel,
        ramdisk: &ramdisk(case, &kernel, &devices)?,
        arguments: &format!("pci=nomsi {QUICK}"),
    };
    let mut session = dom0.boot(case, machine, SPARE + seconds)?;
    devices.expect_wired(&mut session)?;
    check(&mut session)?;
    exercise(&mut session, &devices, seconds)?;
    dom0::power_off(&mut session)
}

fn ramdisk(case: &Case, kernel: &Path, devices: &Devices) -> Result<Vec<u8>> {
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let script = ". /lib/devices.sh; devices_up && devices_once";
    ramdisk::with_contents(&busybox, &devices.contents(kernel)?, script)
}

/// All that the devices have to do, and that the disk has it in the end.
fn exercise(session: &mut Session, devices: &Devices, seconds: u32) -> Result<()> {
    session.forbid(&devices::FAULTS)?;
    devices::expect_once(session)?;
    session.expect_prompt("# ")?;
    session.send(&format!(". /lib/devices.sh; stress {seconds}\n"))?;
    let rounds = devices::expect_stress(session)?;
    session.expect_prompt("# ")?;
    session.send("sync\n")?;
    session.expect_prompt("# ")?;
    devices.check_disk(Some(rounds.disk))
}
