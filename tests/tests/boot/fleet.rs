//! Dom0 with one of each kind of PCI device behind an SMMUv3: messages to every vCPU, and much data, of
//! which nothing is lost.

use anyhow::Result;
use tests::case::Case;
use tests::fleet::{self, Fleet};
use tests::{devices, ramdisk};
use xtask::qemu::{Machine, SmmuStage};

use super::dom0::{self, Dom0, Kernel};
use super::{Test, needed};

/// What the hypervisor may not have to say.
const COMPLAINTS: &str = "(warning|error): (iommu|its|pci|d0): ";
/// Host seconds for all that is not the stress, and for its last rounds: with all devices at work on a
/// machine that has other things to do, one takes a minute.
const SPARE: u32 = 300;

pub fn tests() -> Vec<Test> {
    // The time that all are at work, in seconds of Dom0's clock.
    let settings = [
        (Kernel::V6_12, 1, 5),
        (Kernel::V6_1, 2, 5),
        (Kernel::V6_12, 4, 60),
    ];
    let tests = settings.map(|(kernel, cpus, seconds)| {
        let name = format!("fleet::linux-{}-{cpus}vcpu-{seconds}s", kernel.release());
        Test::new(name, move |case| all_at_work(case, kernel, cpus, seconds))
    });
    tests.into()
}

fn all_at_work(case: &Case, kernel: Kernel, cpus: u32, seconds: u32) -> Result<()> {
    let fleet = Fleet::new(case)?;
    let mut machine = Machine {
        smmu: Some(SmmuStage::Second),
        append: Some("dom0_mem=1G guest_loglvl=info iommu=required,verbose".into()),
        ..dom0::machine(case, cpus)
    };
    fleet.plug_into(&mut machine);
    let kernel = kernel.image(case)?;
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let script = ". /lib/fleet.sh; fleet_up && spread && follow";
    let dom0 = Dom0 {
        kernel: &kernel,
        ramdisk: &ramdisk::with_contents(&busybox, &fleet.contents(&kernel)?, script)?,
        arguments: dom0::QUICK,
    };
    let mut session = dom0.boot_edited(case, machine, SPARE + seconds, fleet::add_host_bridge)?;
    session.forbid(&devices::FAULTS)?;
    session.forbid(&[COMPLAINTS])?;
    Fleet::expect_up(&mut session)?;
    session.saw(r"iommu: /smmuv3@.*: stream 0x8\d00 is 0001:8\d:00\.0 of d0")?;
    // Of the virtual functions nobody knew before Dom0 made them.
    let virtual_functions = [["80", "10\\.0"], ["82", "10\\.2"]]
        .map(|[stream, function]| (format!(r"iommu: /smmuv3@.*: stream 0x\d{stream}"), function));
    for (stream, function) in &virtual_functions {
        session.saw(&format!(r"{stream} is 0000:0\d:{function} of d0"))?;
    }
    Fleet::expect_spread(&mut session, cpus)?;
    session.expect_prompt("# ")?;
    session.send(&format!(". /lib/fleet.sh; stress {seconds}\n"))?;
    fleet.expect_stress(&mut session)?;
    for (stream, _) in &virtual_functions {
        session.saw(&format!("{stream} is nobody's"))?;
    }
    dom0::power_off(&mut session)
}
