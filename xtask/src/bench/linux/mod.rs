//! The way of Debian's kernel to its `/init`, without a hypervisor, under xen-rs and under real Xen.
//!
//! All have the same kernel, ramdisk, CPU and 1 GiB, and begin at the reset of the machine, where
//! the counter starts. What the kernel prints on the way goes to the same UART.

mod init;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Bench;
use super::boot::nanoseconds;
use super::figure::{Figure, Group, Limit};
use crate::debian;
use crate::qemu::{Echo, GicVersion, Machine, Memory, Session, Start};

/// The interrupt controllers that Dom0 boots on.
const GICS: [GicVersion; 2] = [GicVersion::V2, GicVersion::V3];
/// From reset to `/init`, in per cent of what it takes without a hypervisor.
const LIMIT_PER_CENT: u64 = 106;
/// From reset to the kernel's entry, in microseconds.
const SHARE_LIMIT: u64 = 60_000;
/// What the hypervisor may use of a machine with 2 GiB, in KiB.
const MEMORY_LIMIT: u64 = 24 << 10;
/// How QEMU's Cortex-A72 counts.
const HERTZ: u64 = 62_500_000;
const TIME: Duration = Duration::from_secs(300);

/// What boots.
struct Files {
    kernel: PathBuf,
    ramdisk: PathBuf,
    xen: PathBuf,
    logs: PathBuf,
}

/// Times since reset, in microseconds.
struct Boot {
    /// Until the hypervisor enters the kernel.
    share: u64,
    /// Until `/init` runs.
    init: u64,
}

/// Boots each way.
pub fn measure(bench: &Bench) -> Result<Vec<Group>> {
    let context = bench.context;
    let logs = context.target.join("qemu-logs");
    std::fs::create_dir_all(&logs)?;
    let ramdisk = logs.join("bench-linux-ramdisk");
    std::fs::write(&ramdisk, init::ramdisk()?)?;
    let files = Files {
        kernel: debian::kernel_image(&debian::unpacked(context, &debian::KERNEL_6_1)?)?,
        ramdisk,
        xen: debian::xen_image(&debian::unpacked(context, &debian::XEN)?)?,
        logs,
    };
    let group = |gic| group(gic, &files, &bench.image.file);
    GICS.into_iter().map(group).collect()
}

fn group(gic: GicVersion, files: &Files, image: &Path) -> Result<Group> {
    let bare = files.bare(gic).context("no hypervisor")?;
    let (ours, memory) = files.under_xen_rs(gic, image).context("xen-rs")?;
    let xen = files.under_xen(gic).context("Xen")?;
    let row = |name: &str, ours, xen, limit| Figure {
        name: format!("{name}, GICv{gic}"),
        ours,
        xen,
        limit: Some(Limit::Number(limit)),
    };
    let part = |boot: &Boot| boot.init as f64 / bare as f64;
    Ok(Group {
        title: format!("Linux 6.1 as Dom0, 1 GiB, GICv{gic}, 1 cortex-a72, -icount shift=0"),
        figures: vec![
            row(
                "reset to /init, us",
                ours.init,
                Some(xen.init),
                bare * LIMIT_PER_CENT / 100,
            ),
            row(
                "of that before the kernel, us",
                ours.share,
                Some(xen.share),
                SHARE_LIMIT,
            ),
            row(
                "hypervisor's memory of 2 GiB, KiB",
                memory,
                None,
                MEMORY_LIMIT,
            ),
        ],
        notes: vec![format!(
            "without a hypervisor {bare} us to /init: xen-rs takes {:.3} x that, Xen {:.3} x",
            part(&ours),
            part(&xen)
        )],
    })
}

impl Files {
    /// Microseconds to `/init` without a hypervisor.
    fn bare(&self, gic: GicVersion) -> Result<u64> {
        let mut machine = Machine {
            memory: Memory::gib(1),
            append: Some("console=ttyAMA0".to_string()),
            ..machine(gic, &self.kernel)
        };
        machine.extra.push("-initrd".into());
        machine.extra.push((&self.ramdisk).into());
        init_time(&mut self.start(&machine, "bare")?)
    }

    /// The times under xen-rs, which leaves Dom0 the counter as it is, and the KiB that it uses.
    fn under_xen_rs(&self, gic: GicVersion, image: &Path) -> Result<(Boot, u64)> {
        let machine = self.with_dom0(machine(gic, image), "dom0_mem=1G");
        let mut session = self.start(&machine, "xen-rs")?;
        session.forbid(&[r"^\*\*\* xen-rs stopped", r"error: "])?;
        let memory = session.expect(r"memory: (\d+) KiB used by the hypervisor")?[1].parse()?;
        let share = log_time(&mut session, r"\[ *(\d+)\.(\d{6})\] info: dom0: 1 vCPU")?;
        let init = init_time(&mut session)?;
        Ok((Boot { share, init }, memory))
    }

    /// The times under Xen, whose Dom0 counts from its creation.
    fn under_xen(&self, gic: GicVersion) -> Result<Boot> {
        let arguments = "dom0_mem=1G dom0_max_vcpus=1 console=dtuart console_timestamps=boot";
        let machine = self.with_dom0(machine(gic, &self.xen), arguments);
        let mut session = self.start(&machine, "xen")?;
        let created = log_time(
            &mut session,
            r"\[ *(\d+)\.(\d{6})\] \*\*\* LOADING DOMAIN 0",
        )?;
        let share = log_time(
            &mut session,
            r"\[ *(\d+)\.(\d{6})\] Freed \d+kB init memory",
        )?;
        let init = created + init_time(&mut session)?;
        Ok(Boot { share, init })
    }

    fn with_dom0(&self, machine: Machine, arguments: &str) -> Machine {
        let mut machine = Machine {
            append: Some(arguments.to_string()),
            ..machine
        };
        let kernel = self.kernel.display();
        let ramdisk = self.ramdisk.display();
        for loader in [
            format!("guest-loader,addr=0x49000000,kernel={kernel},bootargs=console=hvc0"),
            format!("guest-loader,addr=0x4e000000,initrd={ramdisk}"),
        ] {
            machine.extra.extend(["-device".into(), loader.into()]);
        }
        machine
    }

    fn start(&self, machine: &Machine, name: &str) -> Result<Session> {
        let log = format!("bench-linux-{name}-gicv{}.log", machine.gic);
        Session::start(machine, &self.logs.join(log), Echo::No, TIME)
    }
}

fn machine(gic: GicVersion, image: &Path) -> Machine {
    Machine {
        gic,
        cpus: 1,
        memory: Memory::gib(2),
        extra: ["-icount", "shift=0,sleep=off"].map(Into::into).to_vec(),
        ..Machine::virt(Start::Kernel(image.to_path_buf()))
    }
}

/// Waits for `/init`, and returns the microseconds that the kernel's counter has then.
fn init_time(session: &mut Session) -> Result<u64> {
    let letters = session.expect(init::PATTERN)?.swap_remove(1);
    let ticks = init::counter(&letters).context("not what init prints")?;
    Ok(nanoseconds(ticks, HERTZ).context("too long")? / 1000)
}

/// Waits for a line with seconds and microseconds.
fn log_time(session: &mut Session, pattern: &str) -> Result<u64> {
    let line = session.expect(pattern)?;
    let (seconds, micros): (u64, u64) = (line[1].parse()?, line[2].parse()?);
    Ok(seconds * 1_000_000 + micros)
}
