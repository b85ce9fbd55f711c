//! Dom0's PCI devices over message interrupts: through the ITS on GICv3, and through GICv2m frames.

use anyhow::Result;
use tests::case::Case;
use tests::devices::{self, Devices, Slots};
use tests::ramdisk;
use xtask::qemu::{GicVersion, Machine, Session, SmmuStage};

use super::dom0::{self, Dom0, Kernel};
use super::{Test, needed};

/// How long both devices are at work while all CPUs are busy: seconds of Dom0's clock.
const LONG: u32 = 60;
const SHORT: u32 = 5;
/// Host seconds for the data's first way, for a page to each CPU, and for a round that begins at the
/// end of a stress.
const SPARE: u32 = 120;

/// What a test runs on.
#[derive(Clone, Copy)]
struct Setting {
    kernel: Kernel,
    gic: GicVersion,
    cpus: u32,
    /// The devices are behind an SMMU.
    smmu: bool,
    seconds: u32,
}

pub fn tests() -> Vec<Test> {
    let settings = [
        (Kernel::V6_1, GicVersion::V3, 1, false, SHORT),
        (Kernel::V6_1, GicVersion::V3, 2, true, SHORT),
        (Kernel::V6_12, GicVersion::V3, 2, false, SHORT),
        (Kernel::V6_12, GicVersion::V3, 4, true, LONG),
        (Kernel::V6_1, GicVersion::V2, 2, false, SHORT),
        (Kernel::V6_12, GicVersion::V2, 4, false, SHORT),
    ];
    let mut tests = vec![Test::new("messages::no-its", without_its)];
    for (kernel, gic, cpus, smmu, seconds) in settings {
        let setting = Setting {
            kernel,
            gic,
            cpus,
            smmu,
            seconds,
        };
        tests.push(Test::new(setting.name(), move |case| {
            in_dom0(case, setting)
        }));
    }
    tests
}

impl Setting {
    fn name(self) -> String {
        let Self {
            kernel, gic, cpus, ..
        } = self;
        let smmu = if self.smmu { "-smmuv3" } else { "" };
        let release = kernel.release();
        format!("messages::linux-{release}-gicv{gic}-{cpus}vcpu{smmu}")
    }

    fn machine(self, case: &Case) -> Machine {
        Machine {
            gic: self.gic,
            smmu: self.smmu.then_some(SmmuStage::Second),
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
        arguments: "",
    };
    let mut session = dom0.boot(case, machine, SPARE + setting.seconds)?;
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
    session.send(&format!(". /lib/devices.sh; stress {}\n", setting.seconds))?;
    let rounds = devices::expect_stress(session)?;
    session.expect_prompt("# ")?;
    session.send("sync\n")?;
    session.expect_prompt("# ")?;
    devices.check_disk(Some(rounds.disk))
}

/// It is said, and devices work over INTx.
fn without_its(case: &Case) -> Result<()> {
    let devices = Devices::new(case, Slots::APART)?;
    let mut machine = dom0::machine(case, 1);
    machine
        .extra
        .extend(["-machine", "its=off"].map(Into::into));
    devices.plug_into(&mut machine);
    let kernel = Kernel::V6_12.image(case)?;
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let script = ". /lib/devices.sh; devices_up && devices_once";
    let dom0 = Dom0 {
        kernel: &kernel,
        ramdisk: &ramdisk::with_contents(&busybox, &devices.contents(&kernel)?, script)?,
        arguments: "",
    };
    let mut session = dom0.boot(case, machine, SPARE)?;
    session.saw("info: its: none: devices have no message interrupts")?;
    session.forbid(&devices::FAULTS)?;
    devices.expect_wired(&mut session)?;
    devices::expect_once(&mut session)?;
    session.expect_prompt("# ")?;
    dom0::power_off(&mut session)
}
