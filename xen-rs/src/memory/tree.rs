//! The device tree blob where the boot loader left it.

use platform_dt::{Dtb, TreeError};
use xen_types::{Hpa, HpaRange, PAGE_SIZE};

use super::ram;
use super::space::{self, MapError};
use crate::arch::probe;

/// Bytes of a blob's header (DTSpec 5.2).
const HEADER: u64 = 40;

/// Why there is no blob to read.
#[derive(Debug, thiserror::Error)]
pub enum TreeAccessError {
    /// The boot loader passed none.
    #[error("no device tree: x0 was 0 at entry")]
    None,
    /// Not where the boot protocol allows it.
    #[error("device tree at {0}: not 8-byte aligned")]
    Misaligned(Hpa),
    /// Nothing answers at the address.
    #[error("device tree at {0}: there is no memory at {1}")]
    NoMemory(Hpa, Hpa),
    /// The address cannot be mapped.
    #[error("device tree at {0}: {1}")]
    Map(Hpa, MapError),
    /// What is there is no device tree.
    #[error("{1} (at {0})")]
    Header(Hpa, TreeError),
}

/// Maps the blob at `at` read-only, for ever, once its header makes sense.
pub fn read(at: Hpa) -> Result<(&'static [u8], HpaRange), TreeAccessError> {
    if at == Hpa::new(0) {
        return Err(TreeAccessError::None);
    }
    if !at.is_aligned(8) {
        return Err(TreeAccessError::Misaligned(at));
    }
    let header = map_part(at, HEADER)?;
    let size = Dtb::total_size(ram::read_only(header))
        .map_err(|error| TreeAccessError::Header(at, error))?;
    let whole = map_part(at, size as u64)?;
    Ok((ram::read_only(whole), whole))
}

fn map_part(at: Hpa, size: u64) -> Result<HpaRange, TreeAccessError> {
    let beyond = TreeAccessError::NoMemory(at, at);
    let range = HpaRange::new(at, size).ok_or(beyond)?;
    space::map_read_only(range).map_err(|error| TreeAccessError::Map(at, error))?;
    let first = at.get() & !(PAGE_SIZE - 1);
    for page in (first..range.end().get()).step_by(PAGE_SIZE as usize) {
        if !probe::readable(page) {
            return Err(TreeAccessError::NoMemory(at, Hpa::new(page)));
        }
    }
    Ok(range)
}

/// The blob at `at` with the MMU off, if its header makes sense.
pub fn without_mmu(at: Hpa) -> Option<&'static [u8]> {
    if at == Hpa::new(0) || !at.is_aligned(8) {
        return None;
    }
    let header = HpaRange::new(at, HEADER)?;
    let size = Dtb::total_size(ram::read_only(header)).ok()?;
    HpaRange::new(at, size as u64).map(ram::read_only)
}
