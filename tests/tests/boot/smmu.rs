//! Dom0's devices behind an SMMUv3: they work, and reach nothing that is not Dom0's.

use anyhow::{Result, ensure};
use tests::case::Case;
use tests::modules;
use tests::monitor::Monitor;
use tests::ramdisk::{self, Contents};
use xtask::qemu::{GicVersion, Machine, Session, SmmuStage};

use super::dom0::{self, Dom0, Kernel, type_line};
use super::dom0_devices::in_dom0;
use super::{Test, needed};
use tests::devices::{self, Devices, Slots};

/// What the hypervisor says of devices that reach what they must not, or of an IOMMU that fails.
const COMPLAINTS: &str = "(warning|error): iommu: ";
/// What it says where Dom0 cannot see its memory elsewhere.
pub const NOT_ELSEWHERE: &str = "warning: dom0: it is direct-mapped in spite of \
                                 dom0=no-direct-map: there is no IOMMU that isolates";
/// Dom0's memory, and what it tells the hypervisor in the log.
const ARGUMENTS: &str = "dom0_mem=1G guest_loglvl=info";
const PAGE: usize = 4096;
/// A page of the hypervisor's code, which does not change. Dom0 has its grant table where the image's
/// first pages are.
const HYPERVISOR: u64 = 0x4028_0000;
/// An address of the board where nothing is.
const NOTHING: u64 = 0x7_0000_0000;
/// `GITS_TRANSLATER`.
const DOORBELL: u64 = 0x809_0040;
/// The malicious device behind a root port, and what the SMMU knows it by.
const DISK: &str = "0000:00:02.0";
const EDU: &str = "0000:01:00.0";
const EDU_STREAM: &str = "stream 0x100";
/// How many of them make a storm.
const STORM_DEVICES: u32 = 16;

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
            append: Some("dom0_mem=1G dom0=no-direct-map".into()),
            ..dom0::machine(case, 2)
        };
        in_dom0(case, Kernel::V6_1, machine, Slots::APART, 5, |session| {
            session.saw("warning: iommu: /smmuv3@.*: it has no stage 2 .*: no isolation")?;
            session.saw(NOT_ELSEWHERE).map(drop)
        })
    }));
    tests.push(Test::new("smmu::off", |case| {
        let machine = Machine {
            smmu: Some(SmmuStage::Second),
            append: Some("dom0_mem=1G iommu=no".into()),
            ..dom0::machine(case, 2)
        };
        in_dom0(case, Kernel::V6_12, machine, Slots::APART, 5, |session| {
            session
                .saw("warning: iommu: /smmuv3@.*: it is off by the command line .*: no isolation")
                .map(drop)
        })
    }));
    tests.push(Test::new("smmu::required-and-without-stage-2", |case| {
        refuses_without_isolation(case, Some(SmmuStage::First), "/smmuv3@")
    }));
    tests.push(Test::new("smmu::required-and-none", |case| {
        refuses_without_isolation(case, None, "the machine")
    }));
    tests.push(Test::new("smmu::no-direct-map-linux-6.12", no_direct_map));
    tests.push(Test::new("smmu::malicious-device", malicious_device));
    tests.push(Test::new("smmu::storm-of-faults", storm));
    tests
}

/// The boot stops where the command line wants what the machine cannot.
fn refuses_without_isolation(case: &Case, smmu: Option<SmmuStage>, who: &str) -> Result<()> {
    let fault = case.refuses(&Machine {
        smmu,
        append: Some("iommu=required".into()),
        ..case.virt()
    })?;
    let says_who = fault.contains(who) && fault.contains("iommu=required");
    ensure!(says_who, "{fault}");
    Ok(())
}

/// Dom0 sees its memory elsewhere than where it is and knows it; its devices find it nevertheless, also
/// what Dom0 has given back and got again.
fn no_direct_map(case: &Case) -> Result<()> {
    /// `XENFEAT_not_direct_mapped` and `XENFEAT_direct_mapped`.
    const MAPPED: [u32; 2] = [1 << 16, 1 << 17];
    const CPUS: u32 = 2;
    let devices = Devices::new(case, Slots::APART)?;
    let mut machine = Machine {
        smmu: Some(SmmuStage::Second),
        append: Some("dom0_mem=1G dom0=no-direct-map iommu=required".into()),
        ..dom0::machine(case, CPUS)
    };
    devices.plug_into(&mut machine);
    let kernel = Kernel::V6_12.image(case)?;
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let programs = needed(&case.artifacts.programs, "no programs (XEN_RS_PROGRAMS)")?;
    let mut contents = devices.contents(&kernel)?;
    contents.programs.push(programs.join("version"));
    let privcmd = modules::with_dependencies(&kernel, &["xen-privcmd"])?;
    contents.modules.extend(privcmd);
    let script =
        "version; . /lib/devices.sh; devices_up && rebind && devices_once; messages; follow";
    let dom0 = Dom0 {
        kernel: &kernel,
        ramdisk: &ramdisk::with_contents(&busybox, &contents, script)?,
        arguments: dom0::QUICK,
    };
    let mut session = dom0.boot(case, machine, 300)?;
    session.forbid(&devices::FAULTS)?;
    session.forbid(&["(warning|error): (iommu|its|pci|d0|memory|stage 2): "])?;
    let features = session.expect("^VERSION: features 0x([0-9a-f]+)")?;
    let features = u32::from_str_radix(&features[1], 16)?;
    let mapped = MAPPED.map(|bit| features & bit != 0);
    ensure!(mapped == [true, false], "features {features:#x}");
    let place = session.saw("info: dom0: RAM at (0x[0-9a-f]+)-.*, which is (0x[0-9a-f]+)-")?;
    ensure!(place[1] != place[2], "{}", place[0]);
    session.expect(r"^DEVICES: address 10\.0\.2\.\d+")?;
    devices::expect_once(&mut session)?;
    devices::expect_messages(&mut session, CPUS)?;
    session.expect_prompt("# ")?;
    balloon(&mut session)?;
    type_line(&mut session, ". /lib/devices.sh; stress 5")?;
    let rounds = devices::expect_stress(&mut session)?;
    session.expect_prompt("# ")?;
    type_line(&mut session, "sync")?;
    session.expect_prompt("# ")?;
    devices.check_disk(Some(rounds.disk))?;
    dom0::power_off(&mut session)
}

/// Dom0 gives memory back, and gets it again.
fn balloon(session: &mut Session) -> Result<()> {
    const SIZE: u64 = 256 << 10;
    let folder = "/sys/devices/system/xen_memory/xen_memory0";
    type_line(
        session,
        &format!("echo BALLOON: has $(cat {folder}/info/current_kb)"),
    )?;
    let all: u64 = session.expect(r"^BALLOON: has (\d+)")?[1].parse()?;
    session.expect_prompt("# ")?;
    for size in [all - SIZE, all] {
        let reached = format!("[ $(cat {folder}/info/current_kb) = {size} ]");
        let wait = format!("until {reached}; do usleep 50000; done; echo BALLOON: at {size}");
        type_line(
            session,
            &format!("echo {size} > {folder}/target_kb; {wait}"),
        )?;
        session.expect(&format!("^BALLOON: at {size}"))?;
        session.expect_prompt("# ")?;
    }
    Ok(())
}

/// Boots Dom0 with a driver of malicious devices, and `modules`; runs `script`.
fn with_edu(
    case: &Case,
    machine: Machine,
    seconds: u32,
    modules: &[&str],
    script: &str,
) -> Result<Session> {
    let artifacts = &case.artifacts;
    let busybox = needed(&artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let programs = needed(&artifacts.programs, "no programs (XEN_RS_PROGRAMS)")?;
    let kernel = Kernel::V6_12.image(case)?;
    let contents = Contents {
        programs: ["edu", "given"].map(|name| programs.join(name)).into(),
        modules: modules::with_dependencies(&kernel, modules)?,
        ..Contents::default()
    };
    let dom0 = Dom0 {
        kernel: &kernel,
        ramdisk: &ramdisk::with_contents(&busybox, &contents, script)?,
        arguments: dom0::QUICK,
    };
    let mut session = dom0.boot(case, machine, seconds)?;
    session.expect_prompt("# ")?;
    Ok(session)
}

/// A device is told to reach the hypervisor, nothing, and the ITS on behalf of another device.
fn malicious_device(case: &Case) -> Result<()> {
    let disk = case.write("disk", &[0; 1 << 20])?;
    let mut machine = Machine {
        smmu: Some(SmmuStage::Second),
        append: Some(ARGUMENTS.into()),
        ..dom0::machine(case, 2)
    };
    let drive = format!("if=none,id=disk,format=raw,file={}", disk.display());
    for [option, value] in [
        ["-device", "pcie-root-port,id=root,chassis=1,addr=1"],
        ["-device", "edu,bus=root,dma_mask=0xffffffffffff"],
        ["-drive", &drive],
        ["-device", "nvme,drive=disk,serial=xen-rs,addr=2"],
    ] {
        machine.extra.extend([option.into(), value.into()]);
    }
    let mut monitor = Monitor::plug_into(&mut machine)?;
    let script = "until [ -b /dev/nvme0n1 ]; do usleep 100000; done";
    let mut session = with_edu(case, machine, 60, &["nvme", "xen-privcmd"], script)?;

    let before = monitor.memory(HYPERVISOR, PAGE)?;
    for address in [HYPERVISOR, NOTHING] {
        for (verb, done) in [("read", "read"), ("write", "wrote")] {
            type_line(&mut session, &format!("edu {verb} {address:#x}"))?;
            // Of what it was to read it has seen nothing.
            let end = match verb {
                "read" => ": 0x.. all over",
                _ => "",
            };
            session.expect(&format!("^EDU: {done} {address:#x}{end}"))?;
            expect_told(&mut session, verb, address, "nothing is mapped there")?;
        }
    }
    let after = monitor.memory(HYPERVISOR, PAGE)?;
    ensure!(before == after, "the hypervisor's memory has changed");
    ensure!(
        before.iter().any(|byte| *byte != before[0]),
        "there is no hypervisor"
    );

    foreign_interrupts(&mut session)?;

    // Each fault was one line; the rest of it was counted.
    dom0::press_keys(&mut session, "i")?;
    let kept =
        format!(r"info: +at \d+ ms: {EDU} of d0: .*: write at {NOTHING:#x}: .* \((\d+) times\)$");
    let times: u64 = session.expect(&kept)?[1].parse()?;
    ensure!(times > 64, "only {times} faults of one transfer");
    dom0::press_keys(&mut session, "")?;
    // What reaches Dom0's own memory is no fault.
    session.forbid(&[COMPLAINTS])?;
    type_line(&mut session, "edu read 0x60000000")?;
    session.expect("^EDU: read 0x60000000")?;
    guests_have_it(&mut session)?;
    dom0::power_off(&mut session)
}

/// Guests have the device, one after the other, and each uses all of it; what cannot be had is refused
/// with a reason.
fn guests_have_it(session: &mut Session) -> Result<()> {
    const GUESTS: u32 = 3;
    type_line(session, &format!("given edu {EDU} {GUESTS}"))?;
    session.expect(&format!("^GIVEN: {GUESTS} guests had it"))?;
    for guest in 1..=GUESTS {
        session.saw(&format!(
            "info: pci: {EDU} is assigned to d{guest} as 0000:00:03.0"
        ))?;
        session.saw(&format!("info: pci: {EDU} comes back from d{guest}, reset"))?;
    }
    type_line(session, &format!("given refusals {EDU} {DISK}"))?;
    session.expect("^GIVEN: refused")?;
    let reasons = [
        format!("{DISK} cannot be assigned: it belongs to the hardware domain"),
        "0000:ff:1f.7: there is no such function".into(),
        "d[0-9]+ was not made for devices".into(),
        format!("{EDU}: d[0-9]+ has it already"),
        format!("{EDU} cannot be assigned: it belongs to domain d[0-9]+"),
        format!("{EDU} is not assigned to d[0-9]+"),
    ];
    for reason in reasons {
        session.saw(&format!("warning: pci: {reason}"))?;
    }
    session.expect_prompt("# ")
}

/// The log has had, or has soon, a line about a transfer of the malicious device.
fn expect_told(session: &mut Session, verb: &str, address: u64, why: &str) -> Result<()> {
    let told = format!("warning: iommu: {EDU} of d0: {EDU_STREAM}: {verb} at {address:#x}: {why}");
    if session.saw(&told).is_err() {
        session.expect(&told)?;
    }
    type_line(session, "")?;
    session.expect_prompt("# ")
}

/// The disk's events are those of the disk: neither the device that writes their numbers to the
/// doorbell nor a CPU that does can raise their interrupts. (That devices cannot read the doorbell is
/// for the tests of `smmu`: QEMU does not hold reads against what it has cached.)
fn foreign_interrupts(session: &mut Session) -> Result<()> {
    let mut counts = |when| -> Result<Vec<String>> {
        let count = "awk '/nvme0q/ { print $NF \":\" $2 + $3 }' /proc/interrupts | tr '\\n' ' '";
        type_line(session, &format!("echo DISK {when}: $({count})"))?;
        let line = session.expect(&format!(
            r"^DISK {when}: (nvme0q0:\d+ nvme0q1:\d+ nvme0q2:\d+)"
        ))?;
        if when == "before" {
            type_line(session, &format!("edu doorbell {DOORBELL:#x} 3"))?;
            session.expect("^EDU: rang 3 times")?;
            type_line(
                session,
                &format!("devmem {DOORBELL:#x} 32 1; echo wrote it"),
            )?;
            session.expect("^wrote it")?;
        }
        Ok(line)
    };
    let (before, after) = (counts("before")?, counts("after")?);
    ensure!(before[1] == after[1], "{before:?}, then {after:?}");
    Ok(())
}

/// A million faults of many devices at once leave Dom0 nine tenths of its speed. Time is counted in
/// instructions, 8 nanoseconds each: what QEMU itself needs for a fault costs the machine nothing.
fn storm(case: &Case) -> Result<()> {
    const FAULTS: u64 = 1_000_000;
    let mut machine = Machine {
        smmu: Some(SmmuStage::Second),
        append: Some(ARGUMENTS.into()),
        ..dom0::machine(case, 1)
    };
    machine
        .extra
        .extend(["-icount", "shift=3,sleep=off"].map(Into::into));
    for slot in 1..=STORM_DEVICES {
        let edu = format!("edu,addr={slot:#x},dma_mask=0xffffffffffff");
        machine.extra.extend(["-device".into(), edu.into()]);
    }
    let mut session = with_edu(case, machine, 240, &[], "")?;
    type_line(&mut session, &format!("edu storm {NOTHING:#x} {FAULTS}"))?;
    let line = session.expect(
        r"^EDU: (\d+) faults of (\d+) devices in \d+ ms: ([0-9.]+) % of the speed without",
    )?;
    let (faults, devices): (u64, u32) = (line[1].parse()?, line[2].parse()?);
    ensure!(faults >= FAULTS && devices == STORM_DEVICES, "{}", line[0]);
    let speed: f64 = line[3].parse()?;
    ensure!(speed >= 90.0, "{}", line[0]);
    session.expect_prompt("# ")?;
    session.saw("warning: iommu: .*: more faults than it can report")?;
    // Not every fault had a line.
    let told = session
        .seen()
        .iter()
        .filter(|line| line.contains("warning: iommu: "));
    ensure!(told.count() < 200, "the log has too much of it");
    dom0::press_keys(&mut session, "i")?;
    session.expect(r"info: +at \d+ ms: 0000:00:0.\.0 of d0: .*: write at 0x7")?;
    dom0::press_keys(&mut session, "")?;
    dom0::power_off(&mut session)
}
