//! Dom0's devices behind an SMMUv3: they work, and reach nothing that is not Dom0's.

use anyhow::{Result, ensure};
use tests::case::Case;
use tests::ramdisk::{self, Contents};
use xtask::qemu::{GicVersion, Machine, Session, SmmuStage};

use super::dom0::{self, Dom0, Kernel};
use super::dom0_devices::in_dom0;
use super::{Test, needed};
use tests::devices::Slots;

/// What the hypervisor says of devices that reach what they must not, or of an IOMMU that fails.
const COMPLAINTS: &str = "(warning|error): iommu: ";
/// Dom0's memory, and what it tells the hypervisor in the log.
const ARGUMENTS: &str = "dom0_mem=1G guest_loglvl=info";
/// Memory that is not Dom0's, and an address of the board where nothing is.
const TARGETS: [&str; 2] = ["0x41000000", "0x700000000"];

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (kernel, gic, cpus) in [
        (Kernel::V6_1, GicVersion::V3, 4),
        (Kernel::V6_12, GicVersion::V3, 2),
        (Kernel::V6_12, GicVersion::V2, 1),
    ] {
        let name = format!("smmu::linux-{}-gicv{gic}-{cpus}vcpu", kernel.release());
        tests.push(Test::new(name, move |case| {
            let machine = Machine {
                gic,
                smmu: Some(SmmuStage::Second),
                append: Some(ARGUMENTS.into()),
                ..dom0::machine(case, cpus)
            };
            in_dom0(case, kernel, machine, Slots::APART, 5, |session| {
                session.saw("info: iommu: /smmuv3@.*: SMMUv3, stage 2")?;
                for function in ["0000:00:01.0", "0000:00:02.0"] {
                    session.saw(&format!("pci: {function} found .* behind an IOMMU"))?;
                }
                session.forbid(&[COMPLAINTS])
            })
        }));
    }
    tests.push(Test::new("smmu::without-stage-2", |case| {
        let machine = Machine {
            smmu: Some(SmmuStage::First),
            ..dom0::machine(case, 2)
        };
        in_dom0(case, Kernel::V6_1, machine, Slots::APART, 5, |session| {
            session
                .saw("warning: iommu: /smmuv3@.*: it has no stage 2 .*: no isolation")
                .map(drop)
        })
    }));
    tests.push(Test::new("smmu::malicious-device", malicious_device));
    tests
}

/// Boots Dom0 with a device that moves memory as it is told.
fn with_edu(case: &Case, machine: Machine) -> Result<Session> {
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let contents = Contents {
        files: vec![(
            "edu.sh".to_string(),
            include_bytes!("../../src/edu.sh").to_vec(),
        )],
        ..Contents::default()
    };
    let dom0 = Dom0 {
        kernel: &Kernel::V6_1.image(case)?,
        ramdisk: &ramdisk::with_contents(&busybox, &contents, ". /lib/edu.sh; edu_up")?,
        arguments: "pci=nomsi",
    };
    let mut machine = machine;
    let edu = "edu,addr=3,dma_mask=0xffffffffffff";
    machine.extra.extend(["-device".into(), edu.into()]);
    let mut session = dom0.boot(case, machine, 0)?;
    session.expect("^EDU: 0000:00:03.0 says 0x010000ED")?;
    session.expect_prompt("# ")?;
    Ok(session)
}

fn malicious_device(case: &Case) -> Result<()> {
    let machine = Machine {
        smmu: Some(SmmuStage::Second),
        ..dom0::machine(case, 2)
    };
    let mut session = with_edu(case, machine)?;
    session.send(". /lib/edu.sh; edu_up\n")?;
    session.expect("^EDU: 0000:00:03.0 says")?;
    for target in TARGETS {
        for (verb, access) in [("read", "read"), ("write", "write")] {
            session.send(&format!("{verb}_memory {target}\n"))?;
            let told = format!(
                "warning: iommu: 0000:00:03.0 of d0: stream 0x18: {access} at {target}: nothing is mapped"
            );
            session.expect(&told)?;
            session.expect_prompt("# ")?;
        }
    }
    // Each was one line; the rest of it was counted.
    dom0::press_keys(&mut session, "i")?;
    let kept =
        r"info: +at \d+ ms: 0000:00:03.0 of d0: .*: write at 0x700000000: .* \((\d+) times\)$";
    let times: u64 = session.expect(kept)?[1].parse()?;
    ensure!(times > 64, "only {times} faults of one transfer");
    dom0::press_keys(&mut session, "")?;
    // What reaches Dom0's own memory is no fault.
    session.forbid(&[COMPLAINTS])?;
    session.send("read_memory 0x60000000\n")?;
    session.expect("^EDU: read 0x60000000")?;
    dom0::power_off(&mut session)
}
