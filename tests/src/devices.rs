//! PCI devices of test machines, and what a shell does with them.
//!
//! A machine gets an NVMe disk and an e1000e network card; [`Devices::contents`] brings the drivers and
//! the shell functions of `devices.sh`, whose results are the lines that [`expect_once`] and
//! [`expect_stress`] wait for.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use xtask::qemu::{Machine, Session};

use crate::case::Case;
use crate::ramdisk::Contents;
use crate::{http, modules, payload};

const MIB: usize = 1 << 20;
/// The disk: a source and what is written.
const SOURCE: usize = 64 * MIB;
const PART: usize = 16 * MIB;
const DISK: usize = 2 * SOURCE;
const PAGE: usize = 16 * MIB;

/// Lines that no kernel may show whose devices work.
pub const FAULTS: [&str; 6] = [
    "nvme.*(timeout|resetting|[Aa]bort)",
    "I/O error",
    "NETDEV WATCHDOG",
    "nobody cared",
    "Hardware (Error|Hang)|Detected Hardware Unit Hang",
    r"BUG:|Oops|Kernel panic",
];

/// Where the devices are on the virt board's only bus. The interrupt of pin A of slot `n` is
/// SPI 3 + `n` mod 4.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    /// The slot of the disk.
    pub disk: u8,
    /// The slot of the network card.
    pub network: u8,
}

impl Slots {
    /// Each has an interrupt of its own.
    pub const APART: Self = Self {
        disk: 1,
        network: 2,
    };
    /// Both share one interrupt.
    pub const SHARED: Self = Self {
        disk: 1,
        network: 5,
    };

    /// Both have the same interrupt.
    const fn share(self) -> bool {
        self.disk % 4 == self.network % 4
    }
}

/// The devices, and the data that passes through them.
pub struct Devices {
    slots: Slots,
    disk: PathBuf,
    source: Vec<u8>,
    page_sum: u32,
    url: String,
}

impl Devices {
    /// Makes the disk and starts the web server.
    ///
    /// # Errors
    /// If the disk cannot be written, or there is no port for the server.
    pub fn new(case: &Case, slots: Slots) -> Result<Self> {
        let source = payload::random(1, SOURCE);
        let page = payload::random(2, PAGE);
        let disk = case.write("disk", &source)?;
        fs::File::options()
            .write(true)
            .open(&disk)?
            .set_len(DISK as u64)?;
        Ok(Self {
            slots,
            disk,
            source,
            page_sum: payload::crc32(&page),
            url: format!("http://{}:{}/", http::HOST, http::serve(page)?),
        })
    }

    /// Puts the devices into a machine.
    pub fn plug_into(&self, machine: &mut Machine) {
        let network = format!("addr={:#x}", self.slots.network);
        self.plug(machine, &network);
    }

    /// The same with the network card behind a port of its own, which can reset it: QEMU's card keeps its
    /// state when it comes back from D3hot.
    pub fn plug_behind_port_into(&self, machine: &mut Machine) {
        let port = format!(
            "pcie-root-port,id=network-port,chassis=1,addr={:#x}",
            self.slots.network
        );
        machine.extra.extend(["-device".into(), port.into()]);
        self.plug(machine, "bus=network-port");
    }

    fn plug(&self, machine: &mut Machine, network: &str) {
        let mut drive = OsString::from("if=none,id=disk,format=raw,cache=unsafe,file=");
        drive.push(&self.disk);
        let disk = self.slots.disk;
        // `dbcs`: QEMU 10.0 misses doorbells in memory, and its INTx line then stays high with
        // nothing to do; Linux gives the line up ("nobody cared"), with a hypervisor or without.
        machine.extra.extend(["-drive".into(), drive]);
        for argument in [
            "-device",
            &format!("nvme,drive=disk,serial=xen-rs,dbcs=off,addr={disk:#x}"),
            "-netdev",
            "user,id=net",
            "-device",
            &format!("e1000e,netdev=net,romfile=,{network}"),
        ] {
            machine.extra.push(argument.into());
        }
    }

    /// What the ramdisk of a machine with this kernel has to have: the drivers, and `devices.sh`, for
    /// a script to read.
    ///
    /// # Errors
    /// If the kernel's package does not have the drivers.
    pub fn contents(&self, kernel: &Path) -> Result<Contents> {
        let sum = |bytes: &[u8]| format!("{:08x}", payload::crc32(bytes));
        let parts: Vec<_> = self.source.chunks(PART).map(sum).collect();
        let script = format!(
            "DISK_SUM={}\nPART_SUMS='{}'\nURL={}\nPAGE_SUM={:08x}\n{}",
            sum(&self.source),
            parts.join(" "),
            self.url,
            self.page_sum,
            include_str!("devices.sh")
        );
        Ok(Contents {
            modules: modules::with_dependencies(kernel, &["nvme", "e1000e"])?,
            files: vec![
                ("devices.sh".to_string(), script.into_bytes()),
                ("dhcp".to_string(), include_bytes!("dhcp.sh").to_vec()),
            ],
            ..Contents::default()
        })
    }

    /// The machine is off: checks that the disk has what was last written, by `devices_once` if
    /// `parts` is none and else by as many rounds of single parts.
    ///
    /// # Errors
    /// If the disk has something else.
    pub fn check_disk(&self, parts: Option<usize>) -> Result<()> {
        let disk = fs::read(&self.disk)?;
        let (source, written) = disk.split_at(SOURCE);
        ensure!(source == self.source, "the disk's source has changed");
        // The last of the parts is on top of the whole.
        let mut wanted = self.source.clone();
        if let Some(last) = parts.and_then(|parts| parts.checked_sub(1)) {
            let from = last % (SOURCE / PART) * PART;
            wanted[..PART].copy_from_slice(&self.source[from..from + PART]);
        }
        ensure!(
            written == wanted,
            "the disk has something else than what was written"
        );
        Ok(())
    }

    /// After `devices_up`: both have the interrupts that they should, which are the board's own.
    ///
    /// # Errors
    /// If the drivers did not come up, or use message-signalled interrupts.
    pub fn expect_wired(&self, session: &mut Session) -> Result<()> {
        session.expect(r"^DEVICES: address 10\.0\.2\.\d+")?;
        let mut line = |device: &str| -> Result<String> {
            let pattern = format!(r"^DEVICES: {device} on +\S+ +(\d+) +Level ");
            Ok(session.expect(&pattern)?.swap_remove(1))
        };
        let (disk, network) = (line("disk")?, line("network")?);
        ensure!(
            (disk == network) == self.slots.share(),
            "disk on {disk}, network on {network}"
        );
        Ok(())
    }
}

/// After `messages` and `follow`: the disk has an interrupt for itself and one for each queue, of which
/// there is one a CPU; the network card has three, which came to all CPUs.
///
/// # Errors
/// If the drivers use other interrupts.
pub fn expect_messages(session: &mut Session, cpus: u32) -> Result<()> {
    session.expect(&format!(
        "^DEVICES: nvme0q has {} message interrupts",
        cpus + 1
    ))?;
    session.expect("^DEVICES: eth0 has 3 message interrupts")?;
    session.expect(&format!("^DEVICES: messages followed to {cpus} CPUs"))?;
    Ok(())
}

/// After `devices_once`.
///
/// # Errors
/// If something arrived otherwise than it was sent.
pub fn expect_once(session: &mut Session) -> Result<()> {
    session.expect("^DEVICES: 64 MiB written and read")?;
    session.expect("^DEVICES: 16 MiB fetched")?;
    Ok(())
}

/// What `stress` did.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// Parts written to the disk and read.
    pub disk: usize,
    /// Pages fetched.
    pub network: usize,
}

/// After `stress SECONDS`: all rounds went well, and the devices interrupted.
///
/// # Errors
/// If something arrived otherwise than it was sent, or nothing did.
pub fn expect_stress(session: &mut Session) -> Result<Rounds> {
    let mut rounds = |kind: &str| -> Result<usize> {
        let pattern = format!(r"^DEVICES: {kind}: (\d+) right, (\d+) wrong, (\d+) interrupts");
        let line = session.expect(&pattern)?;
        let [right, wrong, interrupts] = [1, 2, 3].map(|at| line[at].parse::<usize>());
        let (right, wrong, interrupts) = (right?, wrong?, interrupts?);
        ensure!(wrong == 0 && right > 0, "{}", line[0]);
        ensure!(interrupts > right, "{}", line[0]);
        Ok(right)
    };
    let (disk, network) = (rounds("disk_round")?, rounds("net_round")?);
    session.expect(r"^DEVICES: \d+ s are over")?;
    Ok(Rounds { disk, network })
}
