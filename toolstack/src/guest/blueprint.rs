//! What can be known of a guest before there is a domain.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::image::{ImageError, Kernel};
use super::memory::Memory;
use super::place::{NoPlace, Placement};
use crate::config::GuestConfig;
use crate::pci::{self, CoherenceError};

/// Bytes that are kept for a device tree: 128 processors take 20 KiB.
const TREE_ROOM: u64 = 128 << 10;

/// Why a configuration makes no guest.
#[derive(Debug, Error)]
pub enum BlueprintError {
    /// It asks for what there is not.
    #[error("{}", .0.join("\n"))]
    NotAvailable(Vec<String>),
    /// The kernel is none.
    #[error(transparent)]
    Kernel(#[from] ImageError),
    /// The ramdisk cannot be read.
    #[error("cannot read {path}: {error}", path = path.display())]
    Ramdisk {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// There is no room for so much memory.
    #[error("{0} MiB of memory do not fit a guest's address space")]
    Memory(u64),
    /// The pieces do not fit.
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    /// Its devices do not go together, or it is not known whether they do.
    #[error(transparent)]
    Coherence(#[from] CoherenceError),
}

/// A guest that can be made.
#[derive(Debug)]
pub struct Blueprint {
    /// What it is to be.
    pub config: GuestConfig,
    /// Its kernel.
    pub kernel: Kernel,
    /// Its ramdisk, and how many bytes that has.
    pub ramdisk: Option<(File, u64)>,
    /// Its memory.
    pub memory: Memory,
    /// Where the pieces go.
    pub place: Placement,
    /// Whether its devices see the CPUs' caches.
    pub coherent: bool,
}

impl Blueprint {
    /// Checks that a configuration makes a guest: opens its files and places them.
    ///
    /// # Errors
    /// [`BlueprintError`].
    pub fn new(config: GuestConfig) -> Result<Self, BlueprintError> {
        let lines = config.not_available();
        if !lines.is_empty() {
            return Err(BlueprintError::NotAvailable(lines));
        }
        let kernel = Kernel::open(&config.kernel)?;
        let ramdisk = match &config.ramdisk {
            None => None,
            Some(path) => Some(open(path.clone())?),
        };
        let memory = Memory::new(config.memory).ok_or(BlueprintError::Memory(config.memory))?;
        let ramdisk_size = ramdisk.as_ref().map_or(0, |(_, size)| *size);
        let place = Placement::new(memory.first_bank(), kernel.header, ramdisk_size, TREE_ROOM)?;
        let coherent = config.has_devices() && pci::is_coherent(Path::new(pci::TREE), &config.pci)?;
        Ok(Self {
            config,
            kernel,
            ramdisk,
            memory,
            place,
            coherent,
        })
    }
}

fn open(path: PathBuf) -> Result<(File, u64), BlueprintError> {
    let opened = File::open(&path).and_then(|file| {
        let metadata = file.metadata()?;
        match metadata.is_file() {
            true => Ok((file, metadata.len())),
            false => Err(io::Error::other("it is no plain file")),
        }
    });
    opened.map_err(|error| BlueprintError::Ramdisk { path, error })
}
