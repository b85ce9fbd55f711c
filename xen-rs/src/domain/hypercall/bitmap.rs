//! Sets of CPUs as toolstacks pass them (`xenctl_bitmap`).

use xen_abi::Errno;
use xen_abi::domctl::Bitmap;
use xen_core::sched::{CpuSet, MAX_CPUS};

use crate::domain::Domain;
use crate::domain::memory::{BadAddress, copy_from, copy_to};

const BYTES: usize = MAX_CPUS / 8;

/// Bytes of a bitmap that are looked at: it may be longer.
fn bytes_of(bitmap: &Bitmap) -> usize {
    (bitmap.bits.div_ceil(8) as usize).min(BYTES)
}

/// Reads a set; what lies beyond all CPUs that there can be does not count.
pub fn read(caller: &Domain, bitmap: &Bitmap) -> Result<CpuSet, Errno> {
    let mut bytes = [0; BYTES];
    let part = bytes.get_mut(..bytes_of(bitmap)).unwrap_or_default();
    copy_from(caller, bitmap.bytes.get(), part)?;
    let is_set = |cpu: &usize| {
        let byte = bytes.get(*cpu / 8).copied().unwrap_or(0);
        *cpu < bitmap.bits as usize && byte >> (*cpu % 8) & 1 != 0
    };
    Ok((0..MAX_CPUS).filter(is_set).collect())
}

/// Writes a set, as far as there is room.
pub fn write(caller: &Domain, bitmap: &Bitmap, set: &CpuSet) -> Result<(), BadAddress> {
    let mut bytes = [0u8; BYTES];
    for cpu in set.iter().take_while(|cpu| *cpu < bitmap.bits as usize) {
        if let Some(byte) = bytes.get_mut(cpu / 8) {
            *byte |= 1 << (cpu % 8);
        }
    }
    let part = bytes.get(..bytes_of(bitmap)).unwrap_or_default();
    copy_to(caller, bitmap.bytes.get(), part)
}
