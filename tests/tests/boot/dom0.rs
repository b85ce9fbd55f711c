//! Dom0: Debian's kernels, unmodified, to a shell on the hypervisor's console.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use dtoolkit::model::DeviceTree;
use tests::case::Case;
use tests::{dtb, ramdisk};
use xtask::qemu::{GicVersion, Machine, Memory, Session};

use super::{Test, needed};

/// Where Dom0's kernel and ramdisk are handed over.
const KERNEL_ADDRESS: u64 = 0x4900_0000;
const RAMDISK_ADDRESS: u64 = 0x4e00_0000;

/// For Linux where its boot is not what is tried. Debian's kernels try their ciphers out when they boot,
/// for seconds of a CPU that is wanted elsewhere; and on most CPU models they keep their page tables from
/// programs, for which QEMU's TLB is flushed at each entry and exit: all takes twice to four times as long.
pub const QUICK: &str = "cryptomgr.notests kpti=off";

/// Which kernel.
#[derive(Clone, Copy)]
pub enum Kernel {
    V6_1,
    V6_12,
}

impl Kernel {
    /// Its release.
    pub const fn release(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        }
    }

    /// Its `Image`.
    pub fn image(self, case: &Case) -> Result<PathBuf> {
        let artifacts = &case.artifacts;
        match self {
            Self::V6_1 => needed(&artifacts.kernel, "no kernel (XEN_RS_KERNEL)"),
            Self::V6_12 => needed(&artifacts.newer_kernel, "no kernel (XEN_RS_KERNEL_6_12)"),
        }
    }
}

pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for kernel in [Kernel::V6_1, Kernel::V6_12] {
        for gic in [GicVersion::V2, GicVersion::V3] {
            for cpus in [1, 2, 4] {
                let name = format!("dom0::linux-{}-gicv{gic}-{cpus}vcpu", kernel.release());
                tests.push(Test::new(name, move |case| {
                    let machine = Machine {
                        gic,
                        ..machine(case, cpus)
                    };
                    shell(case, kernel, machine, cpus)
                }));
            }
        }
    }
    for gic in [GicVersion::V2, GicVersion::V3] {
        for cpus in [1, 2] {
            let name = format!("dom0::4vcpu-on-{cpus}cpu-gicv{gic}");
            tests.push(Test::new(name, move |case| {
                let machine = Machine {
                    gic,
                    append: Some("dom0_mem=1G dom0_max_vcpus=4".into()),
                    ..machine(case, cpus)
                };
                shell(case, Kernel::V6_1, machine, 4)
            }));
        }
        let name = format!("dom0::null-scheduler-gicv{gic}");
        tests.push(Test::new(name, move |case| {
            let machine = Machine {
                gic,
                append: Some("dom0_mem=1G sched=null".into()),
                ..machine(case, 2)
            };
            shell(case, Kernel::V6_1, machine, 2)
        }));
    }
    for model in ["cortex-a53", "cortex-a57", "neoverse-n1", "max"] {
        let name = format!("dom0::{model}");
        tests.push(Test::new(name, move |case| {
            let cpu = model.to_string();
            let machine = Machine {
                cpu,
                ..machine(case, 2)
            };
            shell(case, Kernel::V6_1, machine, 2)
        }));
    }
    tests.push(Test::new("dom0::gzip-kernel", |case| {
        let image = Kernel::V6_1.image(case)?;
        let packed = Command::new("gzip")
            .args(["-1", "-c"])
            .arg(&image)
            .output()?;
        ensure!(packed.status.success(), "gzip fails");
        let image = case.write("Image.gz", &packed.stdout)?;
        let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
        let ramdisk = ramdisk::with_shell(&busybox, "echo DOM0: unpacked")?;
        let mut session = boot_with(case, &image, &ramdisk, machine(case, 1))?;
        session.expect("^DOM0: unpacked")?;
        session.expect_prompt("# ")?;
        type_line(&mut session, "poweroff -f")?;
        session.expect("info: dom0: power off$")?;
        session.wait_end()
    }));
    tests.push(Test::new("dom0::reboot", |case| {
        let mut session = boot(case, Kernel::V6_1, machine(case, 1))?;
        type_line(&mut session, "reboot -f")?;
        session.expect("info: dom0: reset$")?;
        session.wait_end()
    }));
    tests.push(Test::new("dom0::halt", |case| {
        let mut session = boot(case, Kernel::V6_1, machine(case, 2))?;
        type_line(&mut session, "halt -f")?;
        session.expect("reboot: System halted")?;
        // Linux leaves its last CPU in a loop: the hypervisor lives on.
        press_keys(&mut session, "q")?;
        session.expect("info:   vcpu0: runs$")?;
        session.send("R")?;
        session.wait_end()
    }));
    tests.push(Test::new("dom0::console-switch", |case| {
        let mut session = boot(case, Kernel::V6_1, machine(case, 2))?;
        press_keys(&mut session, "q")?;
        session.expect("info: d0: 1024 MiB$")?;
        session.expect("info:   vcpu1: (runs|sleeps|waits for a CPU)$")?;
        press_keys(&mut session, "")?;
        type_line(&mut session, "echo back at $((40+2))")?;
        session.expect("^back at 42").map(drop)
    }));
    tests.push(Test::new("dom0::failed-build", failed_build));
    tests.push(Test::new("dom0::kernel-panic", |case| {
        let mut session = boot(case, Kernel::V6_1, machine(case, 1))?;
        // No restart: Linux for Arm tells a hypervisor nothing else.
        type_line(&mut session, "echo 0 > /proc/sys/kernel/panic")?;
        type_line(&mut session, "echo c > /proc/sysrq-trigger")?;
        session.expect("Kernel panic - not syncing: sysrq triggered crash")?;
        session.expect("error: dom0: its kernel has panicked")?;
        press_keys(&mut session, "R")?;
        session.expect("info: reset, as asked for at the console$")?;
        session.wait_end()
    }));
    tests.push(Test::new("dom0::kernel-panic-resets", |case| {
        let mut session = boot(case, Kernel::V6_12, machine(case, 2))?;
        type_line(&mut session, "echo c > /proc/sysrq-trigger")?;
        session.expect("error: dom0: its kernel has panicked")?;
        session.expect("info: dom0: reset$")?;
        session.wait_end()
    }));
    tests
}

/// A Dom0 that cannot be made, for want of room for its pieces, leaves all memory free.
fn failed_build(case: &Case) -> Result<()> {
    let usage = "memory: (\\d+) KiB used by the hypervisor, (\\d+) MiB free$";
    let ramdisk = vec![0; 24 << 20];
    let machine = Machine {
        append: Some("dom0_mem=48M".into()),
        ..machine(case, 1)
    };
    let dom0 = Dom0 {
        kernel: &Kernel::V6_1.image(case)?,
        ramdisk: &ramdisk,
        arguments: QUICK,
    };
    let mut session = dom0.start(case, machine, 0)?;
    let before = session.expect(usage)?;
    session.expect("error: .*: there is no Dom0: ")?;
    press_keys(&mut session, "m")?;
    let after = session.expect(usage)?;
    ensure!(before[1..] == after[1..], "{before:?}, then {after:?}");
    session.send("R")?;
    session.wait_end()
}

/// Boots to the shell, types at it, and switches the machine off from there.
fn shell(case: &Case, kernel: Kernel, machine: Machine, vcpus: u32) -> Result<()> {
    let expected = vcpus.to_string();
    let mut session = boot(case, kernel, machine)?;
    let [_, online, timers] = session
        .saw("DOM0: (\\d+) CPUs online, (\\d+) with timer ticks")?
        .try_into()
        .unwrap_or_default();
    ensure!(
        online == expected && timers == expected,
        "{online} CPUs, {timers} ticking"
    );
    session.saw("^DOM0: hypervisor xen 4.20")?;
    session.saw("DOM0: event interrupts [1-9]")?;
    type_line(&mut session, "echo six times seven is $((6*7))")?;
    session.expect("^six times seven is 42")?;
    power_off(&mut session)
}

/// Gives the input to the other side, hypervisor or Dom0, and types there.
pub fn press_keys(session: &mut Session, keys: &str) -> Result<()> {
    session.send(&format!("\x01\x01\x01{keys}"))
}

/// Types a line at the shell.
pub fn type_line(session: &mut Session, line: &str) -> Result<()> {
    session.send(&format!("{line}\n"))
}

/// A machine with room for Dom0.
pub fn machine(case: &Case, cpus: u32) -> Machine {
    Machine {
        cpus,
        memory: Memory::gib(2),
        append: Some("dom0_mem=1G".into()),
        ..case.virt()
    }
}

/// Boots Dom0 with one vCPU for each CPU until its shell waits.
fn boot(case: &Case, kernel: Kernel, machine: Machine) -> Result<Session> {
    let busybox = needed(&case.artifacts.busybox, "no shell (XEN_RS_BUSYBOX)")?;
    let script = "\
        echo DOM0: $(nproc) CPUs online, \
        $(grep arch_timer /proc/interrupts | sed 's/GIC.*//;s/.*: *//' | tr -s ' ' '\\n' | grep -c '^[1-9]') with timer ticks\n\
        echo DOM0: hypervisor $(cat /sys/hypervisor/type) \
        $(cat /sys/hypervisor/version/major).$(cat /sys/hypervisor/version/minor)\n\
        echo DOM0: event interrupts $(grep events /proc/interrupts | tr -s ' ' | cut -d' ' -f3)\n\
        sleep 1\n\
        echo DOM0: awake";
    let dom0 = Dom0 {
        kernel: &kernel.image(case)?,
        ramdisk: &ramdisk::with_shell(&busybox, script)?,
        arguments: "panic=1 cryptomgr.notests",
    };
    let mut session = dom0.boot(case, machine, 0)?;
    session.expect("^DOM0: awake")?;
    session.expect_prompt("# ")?;
    Ok(session)
}

/// Boots Dom0 from a kernel and a ramdisk.
pub fn boot_with(case: &Case, kernel: &Path, ramdisk: &[u8], machine: Machine) -> Result<Session> {
    let dom0 = Dom0 {
        kernel,
        ramdisk,
        arguments: QUICK,
    };
    dom0.boot(case, machine, 0)
}

/// What Dom0 boots from.
pub struct Dom0<'a> {
    /// The file of its kernel.
    pub kernel: &'a Path,
    /// Its ramdisk.
    pub ramdisk: &'a [u8],
    /// What its command line has beside the console.
    pub arguments: &'a str,
}

impl Dom0<'_> {
    /// Boots it on a machine that has `seconds` more than a test has otherwise.
    pub fn boot(&self, case: &Case, machine: Machine, seconds: u32) -> Result<Session> {
        let mut session = self.start(case, machine, seconds)?;
        session.expect("info: dom0: .* vCPU")?;
        Ok(session)
    }

    /// As [`Dom0::boot`], on a machine whose device tree is not quite QEMU's own.
    pub fn boot_edited(
        &self,
        case: &Case,
        machine: Machine,
        seconds: u32,
        edit: impl FnOnce(&mut DeviceTree) -> Result<()>,
    ) -> Result<Session> {
        let only_edit = |tree: &mut DeviceTree| edit(tree).map(|()| Vec::new());
        self.boot_beside(case, machine, seconds, only_edit)
    }

    /// As [`Dom0::boot_edited`], with what the edit returns in memory: files and their addresses.
    pub fn boot_beside(
        &self,
        case: &Case,
        machine: Machine,
        seconds: u32,
        edit: impl FnOnce(&mut DeviceTree) -> Result<Vec<(PathBuf, u64)>>,
    ) -> Result<Session> {
        let ramdisk = case.write("ramdisk", self.ramdisk)?;
        let mut described = machine.clone();
        self.describe(&ramdisk, &mut described);
        let mut tree = dtb::dump(&described)?;
        let beside = edit(&mut tree)?;
        let mut machine = case.with_tree(&machine, &tree.to_dtb())?;
        let kernel = (self.kernel.to_path_buf(), KERNEL_ADDRESS);
        machine.loads.extend([kernel, (ramdisk, RAMDISK_ADDRESS)]);
        machine.loads.extend(beside);
        let mut session = case.boot_with(&machine, seconds)?;
        session.expect("info: dom0: .* vCPU")?;
        Ok(session)
    }

    /// Starts the machine, whether or not Dom0 can be made.
    pub fn start(&self, case: &Case, mut machine: Machine, seconds: u32) -> Result<Session> {
        let ramdisk = case.write("ramdisk", self.ramdisk)?;
        self.describe(&ramdisk, &mut machine);
        case.boot_with(&machine, seconds)
    }

    /// Has QEMU load the files and describe them in its device tree.
    fn describe(&self, ramdisk: &Path, machine: &mut Machine) {
        let loaders = [
            format!(
                "guest-loader,kernel={},addr={KERNEL_ADDRESS:#x},\
                 bootargs=console=hvc0 earlycon=xenboot {}",
                self.kernel.display(),
                self.arguments
            ),
            format!(
                "guest-loader,initrd={},addr={RAMDISK_ADDRESS:#x}",
                ramdisk.display()
            ),
        ];
        for loader in loaders {
            machine.extra.extend(["-device".into(), loader.into()]);
        }
    }
}

/// Switches the machine off from Dom0's shell.
pub fn power_off(session: &mut Session) -> Result<()> {
    type_line(session, "poweroff -f")?;
    session.expect("info: dom0: power off$")?;
    session.wait_end()
}
