//! A machine with one of each kind of PCI device, in each kind of place.
//!
//! A disk behind a host bridge of its own (`pxb-pcie`); a network card on the root bus; one with virtual
//! functions behind a root port; a virtio card behind a switch. QEMU tells of further host bridges by
//! ACPI only: [`add_host_bridge`] adds this one to the device tree.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use dtoolkit::{Node as _, Property as _};
use xtask::qemu::{Machine, Session};

use crate::case::Case;
use crate::dtb::{node, set};
use crate::ramdisk::Contents;
use crate::{http, modules, payload};

const PART: usize = 4 << 20;
const SOURCE: usize = 4 * PART;
const DISK: usize = SOURCE + PART;
const PAGE: usize = 4 << 20;

/// The drivers of the network cards, in the order of their names, each with the third number of its
/// network's addresses and where it is.
const CARDS: [(&str, u8, &str); 3] = [
    ("e1000e", 4, r"0000:00:02\.0"),
    ("igb", 6, r"0000:0[1-9]:00\.0"),
    ("virtio_net", 5, r"0000:0[1-9]:00\.0"),
];
/// The virtual functions of the second card.
const VIRTUAL: [&str; 2] = [r"0000:0[1-9]:10\.0", r"0000:0[1-9]:10\.2"];
/// First bus of the second host bridge.
const SECOND_BUS: u32 = 0x80;

/// The devices. Each card has a network of its own.
const DEVICES: [&str; 26] = [
    "-device",
    "pxb-pcie,id=second,bus_nr=128,bus=pcie.0,addr=1",
    "-device",
    "pcie-root-port,id=port1,bus=second,chassis=1,addr=0",
    "-device",
    "nvme,drive=disk,serial=xen-rs,bus=port1",
    "-netdev",
    "user,id=net4,net=10.0.4.0/24",
    "-device",
    "e1000e,netdev=net4,romfile=,bus=pcie.0,addr=2",
    "-device",
    "pcie-root-port,id=port2,chassis=2,bus=pcie.0,addr=3",
    "-device",
    "x3130-upstream,id=switch,bus=port2",
    "-device",
    "xio3130-downstream,id=port3,bus=switch,chassis=3,addr=1",
    "-netdev",
    "user,id=net5,net=10.0.5.0/24",
    "-device",
    "virtio-net-pci,netdev=net5,romfile=,bus=port3,disable-legacy=on,iommu_platform=on",
    "-device",
    "pcie-root-port,id=port4,chassis=4,bus=pcie.0,addr=4",
    "-netdev",
    "user,id=net6,net=10.0.6.0/24",
    "-device",
    "igb,netdev=net6,romfile=,bus=port4",
];
/// The devices, and the data that passes through them.
pub struct Fleet {
    disk: PathBuf,
    source: Vec<u8>,
    page_sum: u32,
    port: u16,
}

impl Fleet {
    /// Makes the disk and starts the web server.
    ///
    /// # Errors
    /// If the disk cannot be written, or there is no port for the server.
    pub fn new(case: &Case) -> Result<Self> {
        let source = payload::random(3, SOURCE);
        let page = payload::random(4, PAGE);
        let disk = case.write("disk", &source)?;
        fs::File::options()
            .write(true)
            .open(&disk)?
            .set_len(DISK as u64)?;
        Ok(Self {
            disk,
            source,
            page_sum: payload::crc32(&page),
            port: http::serve(page)?,
        })
    }

    /// Puts the devices into a machine.
    pub fn plug_into(&self, machine: &mut Machine) {
        let mut drive = OsString::from("if=none,id=disk,format=raw,cache=unsafe,file=");
        drive.push(&self.disk);
        machine.extra.extend(["-drive".into(), drive]);
        machine.extra.extend(DEVICES.map(OsString::from));
    }

    /// What the ramdisk of a machine with this kernel has to have: the drivers, and `fleet.sh`, for a
    /// script to read.
    ///
    /// # Errors
    /// If the kernel's package does not have the drivers.
    pub fn contents(&self, kernel: &Path) -> Result<Contents> {
        let parts = self.source.chunks(PART);
        let sums: Vec<_> = parts
            .map(|part| format!("{:08x}", payload::crc32(part)))
            .collect();
        let cards: Vec<_> = CARDS
            .iter()
            .map(|(driver, network, _)| format!("{driver}:{network}"))
            .collect();
        let script = format!(
            "CARDS='{}'\nPART_SUMS='{}'\nPORT={}\nPAGE_SUM={:08x}\n{}",
            cards.join(" "),
            sums.join(" "),
            self.port,
            self.page_sum,
            include_str!("fleet.sh")
        );
        let drivers = ["nvme", "e1000e", "igb", "igbvf", "virtio_pci", "virtio_net"];
        Ok(Contents {
            modules: modules::with_dependencies(kernel, &drivers)?,
            files: vec![("fleet.sh".to_string(), script.into_bytes())],
            ..Contents::default()
        })
    }

    /// After `fleet_up`: each function is where it was plugged, the disk behind the second host bridge,
    /// and the virtual functions are there.
    ///
    /// # Errors
    /// If a driver did not come up, or elsewhere.
    pub fn expect_up(session: &mut Session) -> Result<()> {
        for (card, _, function) in CARDS {
            session.expect(&format!("^FLEET: {card} is .*, function {function}"))?;
        }
        for function in VIRTUAL {
            session.expect(&format!(
                "^FLEET: virtual function {function} with 3 messages"
            ))?;
        }
        session.expect(r"^FLEET: disk is function 0001:8[1-9]:00\.0")?;
        Ok(())
    }

    /// After `spread` and `follow`: every queue of the disk interrupted the CPU that used it, and what
    /// can be moved followed to every CPU.
    ///
    /// # Errors
    /// If an interrupt came elsewhere.
    pub fn expect_spread(session: &mut Session, cpus: u32) -> Result<()> {
        session.expect(&format!("^FLEET: {cpus} queues of the disk interrupt"))?;
        session.expect(&format!("^FLEET: disk moved to {cpus} CPUs"))?;
        for (card, ..) in CARDS {
            session.expect(&format!("^FLEET: {card} moved to {cpus} CPUs"))?;
        }
        Ok(())
    }

    /// After `stress SECONDS`: all rounds of all devices went well, with messages; the last of the
    /// disk's is on the disk.
    ///
    /// # Errors
    /// If something arrived otherwise than it was sent, or nothing did.
    pub fn expect_stress(&self, session: &mut Session) -> Result<()> {
        let mut written = 0;
        let cards = CARDS.map(|(card, ..)| card);
        for device in ["disk"].into_iter().chain(cards).chain(VIRTUAL) {
            let pattern = format!(r"^FLEET: {device}: (\d+) right, (\d+) wrong, (\d+) messages");
            let line = session.expect(&pattern)?;
            let [right, wrong, messages] = [1, 2, 3].map(|at| line[at].parse::<usize>());
            let (right, wrong, messages) = (right?, wrong?, messages?);
            ensure!(wrong == 0 && right > 0, "{}", line[0]);
            ensure!(messages > right, "{}", line[0]);
            if device == "disk" {
                written = right;
            }
        }
        session.expect(r"^FLEET: \d+ s are over")?;
        session.expect_prompt("# ")?;
        session.send("virtual_down\n")?;
        session.expect("^FLEET: virtual functions are gone")?;
        session.expect_prompt("# ")?;
        session.send("sync\n")?;
        session.expect_prompt("# ")?;
        let last = (written - 1) % (SOURCE / PART) * PART;
        let disk = fs::read(&self.disk)?;
        ensure!(
            disk[..SOURCE] == self.source && disk[SOURCE..] == self.source[last..last + PART],
            "the disk has something else than what was written"
        );
        Ok(())
    }
}

/// Gives the second host bridge a node: half of the buses, of the configuration space and of the
/// windows that QEMU's node gives to the first. It is a PCI domain of its own: ACPI would have both in
/// one, which Linux refuses of device trees.
///
/// # Errors
/// If the tree is not that of a virt board with an ITS and an SMMU.
pub fn add_host_bridge(tree: &mut DeviceTree) -> Result<()> {
    let first = node(tree, "/pcie@10000000")?;
    let mut second = DeviceTreeNode::new_unchecked("pcie@80000000");
    for property in first.properties() {
        set(&mut second, property.name(), property.value());
    }
    halve(first, Half::First)?;
    halve(&mut second, Half::Second)?;
    tree.root.add_child(second);
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    First,
    Second,
}

/// Cells of a property, and what they become.
fn edit(bridge: &mut DeviceTreeNode, name: &str, change: impl FnOnce(&mut Vec<u32>)) -> Result<()> {
    let property = bridge
        .property(name)
        .with_context(|| format!("no {name}"))?;
    let value = property.value().chunks_exact(4);
    let mut cells: Vec<_> = value
        .map(|cell| {
            cell.iter()
                .fold(0, |word, byte| word << 8 | u32::from(*byte))
        })
        .collect();
    change(&mut cells);
    let value: Vec<_> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
    set(bridge, name, &value);
    Ok(())
}

/// Halves what the two cells behind `size` count, and makes the pairs of cells at `starts` those of
/// that half.
fn halve_pair(cells: &mut [u32], starts: &[usize], size: usize, half: Half) {
    let pair = |cells: &[u32], at: usize| u64::from(cells[at]) << 32 | u64::from(cells[at + 1]);
    let put = |cells: &mut [u32], at: usize, value: u64| {
        cells[at] = (value >> 32) as u32;
        cells[at + 1] = value as u32;
    };
    let rest = pair(cells, size) / 2;
    // Bridges' windows are in MiB.
    let rest = rest >> 20 << 20;
    put(cells, size, rest);
    if half == Half::Second {
        for start in starts {
            let moved = pair(cells, *start) + rest;
            put(cells, *start, moved);
        }
    }
}

fn halve(bridge: &mut DeviceTreeNode, half: Half) -> Result<()> {
    let (domain, buses) = match half {
        Half::First => (0, [0, SECOND_BUS - 1]),
        Half::Second => (1, [SECOND_BUS, 2 * SECOND_BUS - 1]),
    };
    edit(bridge, "linux,pci-domain", |cells| *cells = vec![domain])?;
    edit(bridge, "bus-range", |cells| *cells = buses.to_vec())?;
    edit(bridge, "reg", |cells| halve_pair(cells, &[0], 2, half))?;
    edit(bridge, "ranges", |cells| {
        // The I/O ports stay with the first. The window above 4 GiB is the second's: QEMU forgets the
        // upper half of the address of virtual functions' registers.
        let windows = cells.chunks_exact_mut(7);
        let mut windows: Vec<_> = windows.map(|window| window.to_vec()).collect();
        windows.retain(|window| match window[0] >> 24 & 3 {
            1 => half == Half::First,
            3 => half == Half::Second,
            _ => true,
        });
        for window in windows.iter_mut().filter(|window| window[0] >> 24 & 3 != 1) {
            halve_pair(window, &[1, 3], 5, half);
        }
        *cells = windows.concat();
    })?;
    // Requester ids of these buses, of 8 bits of devices and functions each.
    let first = buses[0] << 8;
    for map in ["iommu-map", "msi-map"] {
        edit(bridge, map, |cells| {
            cells[0] += first;
            cells[2] += first;
            cells[3] = SECOND_BUS << 8;
        })?;
    }
    Ok(())
}
