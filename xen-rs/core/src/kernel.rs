//! The kernel of a domain: an arm64 `Image`, and where it, its device tree and its ramdisk go
//! (Linux, Documentation/arch/arm64/booting.rst).

use xen_types::{Gpa, GpaRange};

use crate::gzip::{Gzip, GzipError};

/// Bytes of an Image header.
pub const HEADER: usize = 64;
/// Kernels and what goes with them are placed on 2 MiB boundaries.
const ALIGNMENT: u64 = 2 << 20;
/// A device tree may have this many bytes.
const MAX_TREE: u64 = 2 << 20;
/// Where the device tree and ramdisk go if the bank is large enough: clear of the kernel.
const BESIDE_KERNEL: u64 = 128 << 20;

/// What the header of an Image says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageHeader {
    /// Offset from a 2 MiB boundary that the kernel wants.
    pub text_offset: u64,
    /// Bytes of memory from there that are the kernel's, more than the file has.
    pub image_size: u64,
}

/// A kernel as the boot loader left it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelFile<'a> {
    /// An Image.
    Plain(&'a [u8]),
    /// An Image that is packed.
    Gzip(Gzip<'a>),
}

impl<'a> KernelFile<'a> {
    /// Reads what the file begins with.
    ///
    /// # Errors
    /// [`KernelError::Gzip`] if it says that it is packed and is not.
    pub fn parse(file: &'a [u8]) -> Result<Self, KernelError> {
        if Gzip::is_gzip(file) {
            Ok(Self::Gzip(Gzip::parse(file)?))
        } else {
            Ok(Self::Plain(file))
        }
    }

    /// The header of the Image.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn header(&self) -> Result<ImageHeader, KernelError> {
        match self {
            Self::Plain(file) => ImageHeader::parse(file, file.len() as u64),
            Self::Gzip(gzip) => {
                let mut start = [0; HEADER];
                gzip.unpack_start(&mut start)?;
                // How long the whole is turns out when it is unpacked, into the memory that this
                // header asks for and no more.
                ImageHeader::parse(&start, HEADER as u64)
            }
        }
    }

    /// Copies the Image to its place, which has the size that its header asks for. Returns how many
    /// bytes it has. `copy` copies between slices of the same size: tens of MiB, which a machine can
    /// do faster than the compiler.
    ///
    /// # Errors
    /// [`KernelError::Gzip`], [`KernelError::NoRoom`].
    pub fn load(
        &self,
        into: &mut [u8],
        copy: impl FnOnce(&mut [u8], &[u8]),
    ) -> Result<usize, KernelError> {
        match self {
            Self::Plain(file) => {
                let no_room = KernelError::NoRoom {
                    needed: file.len() as u64,
                    bank: into.len() as u64,
                };
                let place = into.get_mut(..file.len());
                copy(place.ok_or(no_room)?, file);
                Ok(file.len())
            }
            Self::Gzip(gzip) => Ok(gzip.unpack(into)?),
        }
    }
}

/// Why a module is not a kernel that can be started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KernelError {
    /// It is packed, and cannot be unpacked.
    #[error("{0}")]
    Gzip(#[from] GzipError),
    /// Another format.
    #[error("not an arm64 Image: no \"ARM\\x64\" at offset 56")]
    NotAnImage,
    /// Too short.
    #[error("{0} bytes are too short for an Image header")]
    Truncated(usize),
    /// Old kernels did not say how much memory they need.
    #[error("an Image without image_size: kernels before Linux 3.17 are not supported")]
    NoSize,
    /// The header says what cannot be.
    #[error(
        "the Image says {image_size:#x} bytes at offset {text_offset:#x}: not a kernel of {file} bytes"
    )]
    Nonsense {
        /// From the header.
        image_size: u64,
        /// From the header.
        text_offset: u64,
        /// Bytes of the module.
        file: u64,
    },
    /// The domain's first bank of RAM cannot hold all.
    #[error(
        "{needed:#x} bytes for the kernel, its device tree and its ramdisk do not fit the {bank:#x} bytes of the first bank of RAM"
    )]
    NoRoom {
        /// What would be needed.
        needed: u64,
        /// What there is.
        bank: u64,
    },
}

impl ImageHeader {
    /// Reads the header of a file of `file` bytes that begins with `bytes`.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn parse(bytes: &[u8], file: u64) -> Result<Self, KernelError> {
        let header = bytes
            .get(..HEADER)
            .ok_or(KernelError::Truncated(bytes.len()))?;
        if header.get(56..60) != Some(b"ARM\x64") {
            return Err(KernelError::NotAnImage);
        }
        let word = |offset: usize| {
            let bytes = header
                .get(offset..offset + 8)
                .and_then(|b| b.try_into().ok());
            bytes.map_or(0, u64::from_le_bytes)
        };
        let (text_offset, image_size) = (word(8), word(16));
        if image_size == 0 {
            return Err(KernelError::NoSize);
        }
        if image_size < file || image_size > 1 << 32 || text_offset >= ALIGNMENT {
            return Err(KernelError::Nonsense {
                image_size,
                text_offset,
                file,
            });
        }
        Ok(Self {
            text_offset,
            image_size,
        })
    }
}

/// Where the pieces of a domain go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    /// First byte of the kernel, which is its entry.
    pub kernel: Gpa,
    /// Room for the device tree.
    pub tree: GpaRange,
    /// The ramdisk.
    pub ramdisk: Option<GpaRange>,
}

impl Placement {
    /// Places all in the first bank of the domain's RAM: the kernel at its start, the device tree and
    /// the ramdisk behind it, 128 MiB up if there is room.
    ///
    /// # Errors
    /// [`KernelError::NoRoom`].
    pub fn within(
        bank: GpaRange,
        kernel: ImageHeader,
        ramdisk_size: u64,
    ) -> Result<Self, KernelError> {
        let needed = kernel
            .image_size
            .saturating_add(2 * ALIGNMENT + MAX_TREE)
            .saturating_add(ramdisk_size);
        let no_room = KernelError::NoRoom {
            needed,
            bank: bank.size(),
        };
        let place = || {
            let base = bank.start().get().checked_next_multiple_of(ALIGNMENT)?;
            let kernel_start = base.checked_add(kernel.text_offset)?;
            let kernel_end = kernel_start.checked_add(kernel.image_size)?;
            let behind = kernel_end.checked_next_multiple_of(ALIGNMENT)?;
            let beside = base.checked_add(BESIDE_KERNEL)?.max(behind);
            [beside, behind].into_iter().find_map(|start| {
                let tree = GpaRange::new(Gpa::new(start), MAX_TREE)?;
                let ramdisk = GpaRange::new(tree.end(), ramdisk_size);
                let end = ramdisk.map_or(tree.end(), GpaRange::end);
                (end <= bank.end()).then_some(Self {
                    kernel: Gpa::new(kernel_start),
                    tree,
                    ramdisk,
                })
            })
        };
        place().ok_or(no_room)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use proptest::prelude::*;

    use super::*;

    fn header(text_offset: u64, image_size: u64) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[8..16].copy_from_slice(&text_offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
        bytes[56..60].copy_from_slice(b"ARM\x64");
        bytes
    }

    #[test]
    fn a_header_says_offset_and_size() {
        let parsed = ImageHeader::parse(&header(0x8_0000, 0x200_0000), 0x100_0000).unwrap();
        assert_eq!(parsed.text_offset, 0x8_0000);
        assert_eq!(parsed.image_size, 0x200_0000);
    }

    #[test]
    fn xsa_95_sizes_of_an_image_are_not_believed() {
        let parse = |offset, size, file| ImageHeader::parse(&header(offset, size), file);
        assert_eq!(parse(0, 0, 64), Err(KernelError::NoSize));
        for (offset, size, file) in [(0, 0x1000, 0x2000), (0, u64::MAX, 64), (u64::MAX, 64, 64)] {
            assert!(matches!(
                parse(offset, size, file),
                Err(KernelError::Nonsense { .. })
            ));
        }
        assert_eq!(
            ImageHeader::parse(&[0; 64], 64),
            Err(KernelError::NotAnImage)
        );
        assert_eq!(
            ImageHeader::parse(&[0; 63], 63),
            Err(KernelError::Truncated(63))
        );
    }

    proptest! {
        #[test]
        fn pieces_lie_in_the_bank_and_never_overlap(
            start in 0u64..1 << 40,
            size in 1u64..1 << 34,
            image_size in 1u64..1 << 27,
            text_offset in 0u64..ALIGNMENT,
            ramdisk in 0u64..1 << 28,
        ) {
            let bank = GpaRange::new(Gpa::new(start & !0xfff), size).unwrap();
            let kernel = ImageHeader { text_offset, image_size };
            if let Ok(place) = Placement::within(bank, kernel, ramdisk) {
                let kernel = GpaRange::new(place.kernel, image_size).unwrap();
                prop_assert!(bank.contains_range(kernel));
                prop_assert!(bank.contains_range(place.tree));
                prop_assert!(!kernel.overlaps(place.tree));
                prop_assert!(place.tree.start().is_aligned(ALIGNMENT));
                if let Some(ramdisk) = place.ramdisk {
                    prop_assert!(bank.contains_range(ramdisk));
                    prop_assert!(!ramdisk.overlaps(kernel) && !ramdisk.overlaps(place.tree));
                }
                prop_assert_eq!(place.ramdisk.is_some(), ramdisk > 0);
            } else {
                prop_assert!(size < image_size + 3 * ALIGNMENT + MAX_TREE + ramdisk);
            }
        }
    }
}
