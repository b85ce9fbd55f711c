//! PCI functions in a guest: an unmodified kernel finds them on a bus of its own and uses them at full
//! function, ends in the middle of that, and Dom0 uses them after it.

use std::fs;

use anyhow::{Result, ensure};
use tests::case::Case;
use tests::devices::{self, Devices, Slots};
use tests::modules;
use tests::ramdisk::{self, Contents};
use xtask::qemu::{GicVersion, Machine, Session, SmmuStage};

use super::dom0::{self, Dom0, Kernel, QUICK, type_line};
use super::xrs::{ESCAPE, run};
use super::{Test, needed};

/// vCPUs of the guest.
const VCPUS: u32 = 2;
/// Host seconds that a test may take more than another: two kernels boot, and both use the devices.
const SPARE: u32 = 300;
/// What the hypervisor must not say: of a device that reaches what is not its, or of a guest's calls.
const COMPLAINTS: [&str; 2] = [
    "(warning|error): (iommu|its|d[0-9]+|memory|stage 2): ",
    r"^\*\*\* xen-rs stopped",
];

pub fn tests() -> Vec<Test> {
    let kernels = [
        (GicVersion::V3, Kernel::V6_1, Kernel::V6_1),
        (GicVersion::V2, Kernel::V6_12, Kernel::V6_12),
    ];
    let test = |(gic, dom0, guest): (GicVersion, Kernel, Kernel)| {
        let (above, below) = (guest.release(), dom0.release());
        let name = format!("passthrough::linux-{above}-under-{below}-gicv{gic}");
        Test::new(name, move |case| disk_and_network(case, gic, dom0, guest))
    };
    kernels.into_iter().map(test).collect()
}

/// A disk that was hidden from Dom0 at boot, and a network card that is taken from its driver.
fn disk_and_network(case: &Case, gic: GicVersion, dom0: Kernel, guest: Kernel) -> Result<()> {
    let devices = Devices::new(case, Slots::APART)?;
    let mut session = boot(case, &devices, gic, dom0, guest)?;
    let list = run(&mut session, "xrs pci-assignable-list", 0)?;
    ensure!(
        list.contains("0000:00:01.0 ") && list.contains("assignable"),
        "{list}"
    );

    type_line(&mut session, "xrs create -c /lib/guest.cfg; echo status $?")?;
    session.expect(r"^DEVICES: address 10\.0\.2\.\d+")?;
    devices::expect_once(&mut session)?;
    if gic == GicVersion::V3 {
        devices::expect_messages(&mut session, VCPUS)?;
    }
    session.expect_prompt("guest# ")?;
    came(&mut session)?;
    // Where they are in the guest is not where they are in the machine.
    type_line(
        &mut session,
        "ls /sys/bus/pci/devices | tr '\\n' ' '; echo are there",
    )?;
    session.expect("0000:00:01.0 0000:00:05.0 are there")?;
    session.expect_prompt("guest# ")?;

    type_line(&mut session, ". /lib/devices.sh; stress 600 &")?;
    session.expect_prompt("guest# ")?;
    session.send(ESCAPE)?;
    session.expect_prompt("dom0# ")?;
    let list = run(&mut session, "xrs pci-list guest", 0)?;
    for function in ["0000:00:01.0", "0000:01:00.0", "0000:00:05.0"] {
        ensure!(list.matches(function).count() >= 1, "{list}");
    }
    let detach = run(&mut session, "xrs pci-detach guest 00:01.0", 1)?;
    ensure!(detach.contains("no hot-plug port"), "{detach}");
    run(&mut session, "xrs destroy guest", 0)?;

    // The card is with its driver again, and the disk waits for the next.
    let owner = "xrs pci-assignable-list -a | grep ^0000:01:00.0 | grep -c Domain-0";
    run(&mut session, owner, 0)?;
    let driven = "until [ -e /sys/bus/pci/drivers/e1000e/0000:01:00.0 ]; do sleep 0.2; done";
    run(&mut session, driven, 0)?;
    run(&mut session, "xrs pci-assignable-remove -r 00:01.0", 0)?;
    type_line(
        &mut session,
        ". /lib/devices.sh; devices_up && devices_once",
    )?;
    session.expect(r"^DEVICES: address 10\.0\.2\.\d+")?;
    devices::expect_once(&mut session)?;
    session.expect_prompt("dom0# ")?;
    type_line(&mut session, "sync")?;
    session.expect_prompt("dom0# ")?;
    dom0::power_off(&mut session)
}

/// The interrupts of both came to the guest.
fn came(session: &mut Session) -> Result<()> {
    let count = ". /lib/devices.sh; echo CAME $(interrupts nvme0q) $(interrupts eth0)";
    type_line(session, count)?;
    let line = session.expect(r"^CAME (\d+) (\d+)")?;
    let counts: [u64; 2] = [line[1].parse()?, line[2].parse()?];
    ensure!(
        counts.iter().all(|count| *count > 10),
        "{counts:?} interrupts"
    );
    session.expect_prompt("guest# ")
}

/// Boots Dom0 with the devices and all that its guest needs, until its shell waits.
fn boot(
    case: &Case,
    devices: &Devices,
    gic: GicVersion,
    dom0: Kernel,
    guest: Kernel,
) -> Result<Session> {
    let mut machine = Machine {
        gic,
        smmu: Some(SmmuStage::Second),
        append: Some("dom0_mem=1G assignable=0000:00:01.0 guest_loglvl=info".into()),
        ..dom0::machine(case, VCPUS)
    };
    devices.plug_behind_port_into(&mut machine);
    let image = dom0.image(case)?;
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let programs = needed(&case.artifacts.programs, "no programs (XEN_RS_PROGRAMS)")?;
    let mut contents = devices.contents(&image)?;
    let toolstack = modules::with_dependencies(&image, &["xen-evtchn", "xen-privcmd"])?;
    contents.modules.extend(toolstack);
    contents.programs.push(programs.join("xrs"));
    contents.files.extend([
        ("Image".into(), fs::read(guest.image(case)?)?),
        ("guest-ramdisk".into(), guest_ramdisk(case, devices, guest)?),
        ("guest.cfg".into(), configuration().into()),
    ]);
    let dom0 = Dom0 {
        kernel: &image,
        ramdisk: &ramdisk::with_contents(&busybox, &contents, "mkdir -p /run\necho DOM0: ready")?,
        arguments: QUICK,
    };
    let mut session = dom0.boot(case, machine, SPARE)?;
    session.forbid(&devices::FAULTS)?;
    session.forbid(&COMPLAINTS)?;
    session.expect("^DOM0: ready")?;
    session.expect_prompt("dom0# ")?;
    Ok(session)
}

fn configuration() -> String {
    format!(
        "name = 'guest'\nkernel = 'Image'\nramdisk = 'guest-ramdisk'\n\
         memory = 384; vcpus = {VCPUS}\nextra = 'console=hvc0 {QUICK}'\n\
         pci = ['00:01.0', '0000:01:00.0@5,seize=1']\n"
    )
}

fn guest_ramdisk(case: &Case, devices: &Devices, guest: Kernel) -> Result<Vec<u8>> {
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let image = guest.image(case)?;
    let contents: Contents = devices.contents(&image)?;
    let script = "export PS1='guest# '\n. /lib/devices.sh\n\
                  devices_up && devices_once; messages; follow";
    ramdisk::with_contents(&busybox, &contents, script)
}
