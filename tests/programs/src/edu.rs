//! QEMU's edu device (docs/specs/edu.rst), whose DMA goes wherever its driver says.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use crate::device::{Mapping, PAGE_SIZE};

/// What the device says that it is, from bit 0; the version is in bits 31:16.
const MAGIC: u32 = 0xed;
const REGISTERS: usize = 1 << 20;
const SOURCE: usize = 0x80;
const TARGET: usize = 0x88;
const COUNT: usize = 0x90;
const COMMAND: usize = 0x98;
const START: u64 = 1;
const TO_MEMORY: u64 = 1 << 1;
/// The device's own memory, of a page.
const INSIDE: u64 = 0x4_0000;

/// Which way data go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From memory to the device.
    Read,
    /// From the device to memory.
    Write,
}

/// A device, with memory decoding and bus mastering on.
pub struct Edu {
    registers: Mapping,
}

impl Edu {
    /// All that there are, in the order of their addresses.
    ///
    /// # Errors
    /// If one cannot be used.
    pub fn all() -> Result<Vec<Self>> {
        let mut folders = Vec::new();
        for entry in fs::read_dir("/sys/bus/pci/devices")? {
            let folder = entry?.path();
            let id = |name| fs::read_to_string(folder.join(name));
            if id("vendor")?.trim() == "0x1234" && id("device")?.trim() == "0x11e8" {
                folders.push(folder);
            }
        }
        folders.sort();
        folders.iter().map(|folder| Self::open(folder)).collect()
    }

    fn open(folder: &Path) -> Result<Self> {
        use std::os::unix::fs::FileExt as _;
        let config = open(&folder.join("config"))?;
        let mut command = [0; 2];
        config.read_exact_at(&mut command, 4)?;
        // Memory Space Enable and Bus Master Enable (PCI, 6.2.2).
        command[0] |= 0b110;
        config.write_all_at(&command, 4)?;
        let registers =
            Mapping::of_device(&open(&folder.join("resource0"))?, 0, REGISTERS / PAGE_SIZE)?;
        let edu = Self { registers };
        let identity = edu.registers.load32(0);
        ensure!(
            identity & 0xffff == MAGIC,
            "{}: {identity:#x} is no edu",
            folder.display()
        );
        Ok(edu)
    }

    /// Whether a transfer is under way.
    pub fn is_busy(&self) -> bool {
        self.registers.load64(COMMAND) & START != 0
    }

    /// Begins to move `bytes`, at most a page, between the device's start and an address of the bus.
    pub fn start(&self, direction: Direction, address: u64, bytes: usize) {
        let (source, target, way) = match direction {
            Direction::Read => (address, INSIDE, 0),
            Direction::Write => (INSIDE, address, TO_MEMORY),
        };
        self.registers.store64(SOURCE, source);
        self.registers.store64(TARGET, target);
        self.registers.store64(COUNT, bytes as u64);
        self.registers.store64(COMMAND, START | way);
    }

    /// Moves `bytes`, and waits for them.
    pub fn transfer(&self, direction: Direction, address: u64, bytes: usize) {
        self.start(direction, address, bytes);
        while self.is_busy() {
            std::thread::yield_now();
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().read(true).write(true).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

/// A page of the program's own, and where devices find it.
pub struct DmaPage {
    page: Mapping,
    address: u64,
}

impl DmaPage {
    /// A page with a byte all over. Without swap and with all pages of one size, it stays where it is.
    ///
    /// # Errors
    /// If the kernel does not say where it is.
    pub fn filled(byte: u8) -> Result<Self> {
        use std::os::unix::fs::FileExt as _;
        /// Present, and the bits of the frame (Linux, admin-guide/mm/pagemap).
        const PRESENT: u64 = 1 << 63;
        const FRAME: u64 = (1 << 55) - 1;
        let page = Mapping::with_guard(1)?;
        page.write(0, &[byte; PAGE_SIZE]);
        let mut entry = [0; 8];
        let index = page.address() / PAGE_SIZE as u64;
        File::open("/proc/self/pagemap")?.read_exact_at(&mut entry, index * 8)?;
        let entry = u64::from_le_bytes(entry);
        ensure!(
            entry & PRESENT != 0 && entry & FRAME != 0,
            "no frame in {entry:#x}"
        );
        let address = (entry & FRAME) * PAGE_SIZE as u64;
        Ok(Self { page, address })
    }

    /// Where devices find it.
    pub fn address(&self) -> u64 {
        self.address
    }

    /// What it holds.
    pub fn bytes(&self) -> Vec<u8> {
        self.page.read(0, PAGE_SIZE)
    }

    /// Gives it other bytes.
    pub fn write(&self, bytes: &[u8]) {
        self.page.write(0, bytes);
    }
}
