//! Dom0's PCI devices over message interrupts: through the ITS on GICv3, and through GICv2m frames.
//! `fleet` has them behind an SMMU.

use anyhow::{Result, ensure};
use dtoolkit::model::DeviceTree;
use tests::case::Case;
use tests::devices::{self, Devices, Slots};
use tests::{dtb, ramdisk};
use xtask::qemu::{GicVersion, Machine, Session};

use super::dom0::{self, Dom0, Kernel};
use super::smmu::NOT_ELSEWHERE;
use super::{Test, needed};

/// How long both devices are at work while all CPUs are busy: seconds of Dom0's clock.
const SECONDS: u32 = 5;
/// Host seconds for the data's first way, for a page to each CPU, and for a round that begins at the
/// end of a stress.
const SPARE: u32 = 120;

/// What a test runs on.
#[derive(Clone, Copy)]
struct Setting {
    kernel: Kernel,
    gic: GicVersion,
    cpus: u32,
}

pub fn tests() -> Vec<Test> {
    let settings = [
        (Kernel::V6_1, GicVersion::V3, 1),
        (Kernel::V6_12, GicVersion::V3, 2),
        (Kernel::V6_1, GicVersion::V2, 2),
        (Kernel::V6_12, GicVersion::V2, 4),
    ];
    let mut tests = vec![
        Test::new("messages::no-its", without_its),
        Test::new("messages::no-v2m-frame", without_frame),
    ];
    for (kernel, gic, cpus) in settings {
        let setting = Setting { kernel, gic, cpus };
        tests.push(Test::new(setting.name(), move |case| {
            in_dom0(case, setting)
        }));
    }
    tests
}

impl Setting {
    fn name(self) -> String {
        let Self { kernel, gic, cpus } = self;
        let release = kernel.release();
        format!("messages::linux-{release}-gicv{gic}-{cpus}vcpu")
    }

    fn machine(self, case: &Case) -> Machine {
        Machine {
            gic: self.gic,
            ..dom0::machine(case, self.cpus)
        }
    }
}

fn in_dom0(case: &Case, setting: Setting) -> Result<()> {
    let devices = Devices::new(case, Slots::APART)?;
    let mut machine = setting.machine(case);
    devices.plug_into(&mut machine);
    let kernel = setting.kernel.image(case)?;
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let script = ". /lib/devices.sh; devices_up && rebind && devices_once; messages; follow";
    let dom0 = Dom0 {
        kernel: &kernel,
        ramdisk: &ramdisk::with_contents(&busybox, &devices.contents(&kernel)?, script)?,
        arguments: dom0::QUICK,
    };
    let mut session = dom0.boot(case, machine, SPARE + SECONDS)?;
    exercise(&mut session, &devices, setting)?;
    dom0::power_off(&mut session)
}

/// All that the devices have to do, and that the disk has it in the end.
fn exercise(session: &mut Session, devices: &Devices, setting: Setting) -> Result<()> {
    session.forbid(&devices::FAULTS)?;
    session.forbid(&["(warning|error): (iommu|its|d0): "])?;
    session.expect(r"^DEVICES: address 10\.0\.2\.\d+")?;
    devices::expect_once(session)?;
    devices::expect_messages(session, setting.cpus)?;
    session.expect_prompt("# ")?;
    session.send(&format!(". /lib/devices.sh; stress {SECONDS}\n"))?;
    let rounds = devices::expect_stress(session)?;
    session.expect_prompt("# ")?;
    session.send("sync\n")?;
    session.expect_prompt("# ")?;
    devices.check_disk(Some(rounds.disk))
}

/// An interrupt controller without an ITS.
fn without_its(case: &Case) -> Result<()> {
    let mut machine = dom0::machine(case, 1);
    machine
        .extra
        .extend(["-machine", "its=off"].map(Into::into));
    let said = "info: its: none: devices have no message interrupts";
    wired_only(case, machine, &[said], |_| Ok(()))
}

/// A GICv2 without a frame for messages.
fn without_frame(case: &Case) -> Result<()> {
    let machine = Machine {
        gic: GicVersion::V2,
        // Nor is there an SMMU.
        append: Some("dom0_mem=1G dom0=no-direct-map".into()),
        ..dom0::machine(case, 1)
    };
    let said = "info: v2m: no frame: PCI devices have INTx only";
    wired_only(case, machine, &[said, NOT_ELSEWHERE], |tree| {
        let frame = dtb::node(tree, "/intc@8000000")?.remove_child("v2m@8020000");
        ensure!(frame.is_some(), "the board's GICv2 has no frame");
        let bridge = dtb::node(tree, "/pcie@10000000")?;
        for property in ["msi-map", "msi-parent"] {
            bridge.remove_property(property);
        }
        Ok(())
    })
}

/// It is said, and devices work over INTx.
fn wired_only(
    case: &Case,
    mut machine: Machine,
    said: &[&str],
    edit: impl FnOnce(&mut DeviceTree) -> Result<()>,
) -> Result<()> {
    let devices = Devices::new(case, Slots::APART)?;
    devices.plug_into(&mut machine);
    let kernel = Kernel::V6_12.image(case)?;
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let script = ". /lib/devices.sh; devices_up && devices_once";
    let dom0 = Dom0 {
        kernel: &kernel,
        ramdisk: &ramdisk::with_contents(&busybox, &devices.contents(&kernel)?, script)?,
        arguments: dom0::QUICK,
    };
    let mut session = dom0.boot_edited(case, machine, SPARE, edit)?;
    for line in said {
        session.saw(line)?;
    }
    session.forbid(&devices::FAULTS)?;
    devices.expect_wired(&mut session)?;
    devices::expect_once(&mut session)?;
    session.expect_prompt("# ")?;
    dom0::power_off(&mut session)
}
