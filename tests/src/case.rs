//! One test case: its files, its machine's console, and what every boot has to show.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use xtask::image::header::{self, EarlyConsole};
use xtask::qemu::{Board, Echo, GicVersion, Machine, Session, Start};

use crate::artifacts::Artifacts;
use crate::stub;

/// Where a machine that [`Case::with_tree`] makes has the image.
pub const IMAGE_ADDRESS: u64 = 0x4400_0000;
/// Where it has the device tree.
pub const TREE_ADDRESS: u64 = 0x4700_0000;
/// The console of QEMU's virt board.
const VIRT_CONSOLE: &str = "pl011,0x09000000";

/// Lines that no boot may show.
const FAULTS: [&str; 2] = [r"^\*\*\* xen-rs stopped", r"error: "];

/// Seconds for a whole test; `XEN_RS_TEST_SLOWNESS` multiplies them.
const SECONDS: u32 = 60;
/// A console that says nothing for this long has nothing more to say.
pub const SILENCE: Duration = Duration::from_millis(500);

/// A test case with files of its own, which stay where they are if it fails.
pub struct Case<'a> {
    /// What can be booted.
    pub artifacts: &'a Artifacts,
    folder: PathBuf,
}

impl<'a> Case<'a> {
    /// Starts a case with an empty folder.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub fn new(artifacts: &'a Artifacts, name: &str) -> Result<Self> {
        let folder = artifacts.logs.join(name.replace("::", "-"));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(Self { artifacts, folder })
    }

    /// Ends a case that went well: its files go, unless `XEN_RS_KEEP_LOGS` is set.
    ///
    /// # Errors
    /// If the files cannot be removed.
    pub fn succeed(self) -> Result<()> {
        if env::var_os("XEN_RS_KEEP_LOGS").is_none() {
            fs::remove_dir_all(&self.folder)?;
        }
        Ok(())
    }

    /// Writes a file of the case's own.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// The virt board that boots the image by QEMU's own boot loader.
    #[must_use]
    pub fn virt(&self) -> Machine {
        Machine::virt(Start::Kernel(self.artifacts.image.clone()))
    }

    /// A virt board with the image at [`IMAGE_ADDRESS`] and these bytes as its device tree. If
    /// the tree gives the image no console it uses the board's.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn with_tree(&self, machine: &Machine, tree: &[u8]) -> Result<Machine> {
        let tree = self.write("edited.dtb", tree)?;
        let mut machine = self.entered_with(machine, TREE_ADDRESS)?;
        machine.loads.push((tree, TREE_ADDRESS));
        Ok(machine)
    }

    /// A virt board with the image at [`IMAGE_ADDRESS`], entered with `x0` as it is given. If it
    /// finds no console it uses the board's.
    ///
    /// # Errors
    /// If the files cannot be written.
    pub fn entered_with(&self, machine: &Machine, x0: u64) -> Result<Machine> {
        let image = self.image_with_console()?;
        let stub = self.write("stub", &stub::image(&stub::jump(IMAGE_ADDRESS, Some(x0))))?;
        Ok(Machine {
            start: Start::Kernel(stub),
            loads: vec![(image, IMAGE_ADDRESS)],
            ..machine.clone()
        })
    }

    /// A copy of the image that knows the console of the virt board.
    ///
    /// # Errors
    /// If the image is none, or the copy cannot be written.
    pub fn image_with_console(&self) -> Result<PathBuf> {
        let mut image = fs::read(&self.artifacts.image)?;
        header::set_console(&mut image, &VIRT_CONSOLE.parse::<EarlyConsole>()?)?;
        self.write("xen-rs", &image)
    }

    /// Starts a machine on which nothing is wrong: a fault that it reports fails the test.
    ///
    /// # Errors
    /// If QEMU does not start.
    pub fn boot(&self, machine: &Machine) -> Result<Session> {
        self.boot_with(machine, 0)
    }

    /// As [`Case::boot`], with `seconds` more than a test has otherwise.
    ///
    /// # Errors
    /// If QEMU does not start.
    pub fn boot_with(&self, machine: &Machine, seconds: u32) -> Result<Session> {
        let mut session = self.start_with(machine, seconds)?;
        session.forbid(&FAULTS)?;
        Ok(session)
    }

    /// Starts a machine.
    ///
    /// # Errors
    /// If QEMU does not start.
    pub fn start(&self, machine: &Machine) -> Result<Session> {
        self.start_with(machine, 0)
    }

    fn start_with(&self, machine: &Machine, seconds: u32) -> Result<Session> {
        let log = self.folder.join("console.log");
        Session::start(machine, &log, Echo::No, time(SECONDS + seconds))
    }

    /// Starts a machine on which the image cannot run, and waits for the one line that says why.
    /// Returns the node and the fault that it names.
    ///
    /// # Errors
    /// If the line does not come, or is not the last.
    pub fn refuses(&self, machine: &Machine) -> Result<String> {
        let mut session = self.start(machine)?;
        session.forbid(&FAULTS[..1])?;
        let fault = session
            .expect(r"error: cannot boot: (\S.*: .*)$")?
            .swap_remove(1);
        let after = session.until_silent(SILENCE)?;
        ensure!(
            after.is_empty(),
            "after the fault came: {}",
            after.join(" | ")
        );
        Ok(fault)
    }
}

/// Waits until the image is ready and checks what it says of the machine.
///
/// # Errors
/// If it does not become ready, or what it found is not what the machine has.
pub fn expect_ready(session: &mut Session, machine: &Machine, address: u64) -> Result<()> {
    let cpus = machine.cpus;
    session.expect(r"\] info: ready: .*")?;
    session.saw(&format!(
        r"ready: {cpus} of {cpus} CPUs up, \d+ ticks at [1-9]\d* Hz since entry"
    ))?;
    let banner = session.saw(r"xen-rs \d+\.\d+\.\d+.*")?.swap_remove(0);
    ensure!(banner.contains("entered at EL2"), "{banner}");
    ensure!(banner.contains(&format!("at {address:#x}")), "{banner}");
    session.saw(&format!("selftest: sgi and tick on {cpus} of {cpus} CPUs"))?;
    for cpu in 0..cpus {
        session.saw(&format!(
            r"cpu{cpu}: up, affinity {}",
            affinity(machine, cpu)
        ))?;
    }
    if machine.board == Board::Virt {
        session.saw(&format!(
            "memory: {} MiB in 1 bank",
            machine.memory.as_mib()
        ))?;
        session.saw(&format!("gic: GICv{}", machine.gic))?;
        if machine.gic == GicVersion::V3 {
            session.saw("its: ")?;
        }
    }
    Ok(())
}

/// The affinity, `3.2.1.0`, that a board's CPU has.
fn affinity(machine: &Machine, cpu: u32) -> String {
    // QEMU's virt board makes clusters of as many CPUs as one SGI can name.
    let cluster = match (machine.board, machine.gic) {
        (Board::Virt, GicVersion::V2) => 8,
        (Board::Virt, GicVersion::V3) => 16,
        (Board::Imx8mpEvk | Board::Raspi4b, _) => 4,
    };
    format!(r"0\.0\.{}\.{}\b", cpu / cluster, cpu % cluster)
}

fn time(seconds: u32) -> Duration {
    let slowness = env::var("XEN_RS_TEST_SLOWNESS")
        .ok()
        .and_then(|text| text.parse().ok());
    Duration::from_secs(u64::from(seconds * slowness.unwrap_or(1)))
}
