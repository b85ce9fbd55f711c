//! The header of a device tree blob and where it says that the blocks are (DTSpec 5.2, 5.3).

use core::ops::Range;

use crate::TreeError;

/// The first word of every blob.
pub(crate) const MAGIC: u32 = 0xd00d_feed;
/// The largest blob that the arm64 boot protocol allows.
pub(crate) const MAX_SIZE: usize = 2 << 20;
/// Bytes of a version 17 header.
pub(crate) const HEADER_SIZE: usize = 40;
/// The first version whose header tells the size of the structure block.
const VERSION_WITH_STRUCTURE_SIZE: u32 = 17;
/// The oldest version that is read, and the newest that a blob may demand.
const VERSIONS: core::ops::RangeInclusive<u32> = 16..=17;
/// Bytes of an entry in the memory reservation block.
const RESERVATION_SIZE: usize = 16;

/// The header's words, in order.
struct Header {
    total_size: usize,
    structure_offset: usize,
    strings_offset: usize,
    reservations_offset: usize,
    version: u32,
    strings_size: usize,
    structure_size: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, TreeError> {
        let word = |index: usize| big_endian(bytes, index * 4).unwrap_or(0);
        let size = |index: usize| word(index) as usize;
        if bytes.len() < HEADER_SIZE {
            return Err(TreeError::Truncated {
                size: bytes.len(),
                needed: HEADER_SIZE,
            });
        }
        if word(0) != MAGIC {
            return Err(TreeError::Magic { found: word(0) });
        }
        let (version, last_compatible) = (word(5), word(6));
        if version < *VERSIONS.start() || last_compatible > *VERSIONS.end() {
            return Err(TreeError::Version {
                version,
                last_compatible,
            });
        }
        let total_size = size(1);
        if !(HEADER_SIZE..=MAX_SIZE).contains(&total_size) {
            return Err(TreeError::Size { size: total_size });
        }
        Ok(Self {
            total_size,
            structure_offset: size(2),
            strings_offset: size(3),
            reservations_offset: size(4),
            version,
            strings_size: size(8),
            structure_size: size(9),
        })
    }

    /// The structure block; before version 17 it ends where the strings or the blob do.
    fn structure(&self) -> Range<usize> {
        let start = self.structure_offset;
        if self.version >= VERSION_WITH_STRUCTURE_SIZE {
            start..start.saturating_add(self.structure_size)
        } else if self.strings_offset > start {
            start..self.strings_offset
        } else {
            start..self.total_size
        }
    }

    fn strings(&self) -> Range<usize> {
        self.strings_offset..self.strings_offset.saturating_add(self.strings_size)
    }
}

/// A blob cut into its blocks, each inside it.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a> {
    /// The blob, without what may follow it.
    pub blob: &'a [u8],
    /// The structure block.
    pub structure: &'a [u8],
    /// The strings block.
    pub strings: &'a [u8],
    /// The memory reservation block, without its terminator.
    pub reservations: &'a [u8],
}

impl<'a> Blocks<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, TreeError> {
        let header = Header::read(bytes)?;
        let blob = bytes.get(..header.total_size).ok_or(TreeError::Truncated {
            size: bytes.len(),
            needed: header.total_size,
        })?;
        let block = |range: Range<usize>, block: &'static str| {
            let outside = TreeError::Block {
                block,
                fault: "lies outside the blob",
            };
            blob.get(range).ok_or(outside)
        };
        let structure = block(header.structure(), "structure block")?;
        let strings = block(header.strings(), "strings block")?;
        let reservations = block(
            header.reservations_offset..header.total_size,
            "memory reservation block",
        )?;
        if header.structure_offset % 4 != 0 {
            return Err(TreeError::Block {
                block: "structure block",
                fault: "is not aligned to 4 bytes",
            });
        }
        Ok(Self {
            blob,
            structure,
            strings,
            reservations: until_terminator(reservations)?,
        })
    }
}

/// The size of a blob, from its first 40 bytes.
pub(crate) fn total_size(header: &[u8]) -> Result<usize, TreeError> {
    Ok(Header::read(header)?.total_size)
}

/// The 32-bit number at `offset`.
pub(crate) fn big_endian(bytes: &[u8], offset: usize) -> Option<u32> {
    let word = bytes.get(offset..)?.first_chunk()?;
    Some(u32::from_be_bytes(*word))
}

/// The entries up to the first that is all zero.
fn until_terminator(block: &[u8]) -> Result<&[u8], TreeError> {
    block
        .chunks_exact(RESERVATION_SIZE)
        .position(|entry| entry.iter().all(|&byte| byte == 0))
        .and_then(|entries| block.get(..entries * RESERVATION_SIZE))
        .ok_or(TreeError::Block {
            block: "memory reservation block",
            fault: "has no end",
        })
}
