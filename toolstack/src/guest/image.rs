//! Kernels: arm64 Images (Linux, Documentation/arch/arm64/booting.rst), plain or packed with gzip.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use thiserror::Error;

/// Bytes of an Image header.
const HEADER: usize = 64;
/// Where the header has its magic number, and what it is.
const MAGIC_AT: usize = 56;
const MAGIC: &[u8] = b"ARM\x64";
/// What gzip files begin with.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// Kernels are placed relative to boundaries of this.
pub const ALIGNMENT: u64 = 2 << 20;
/// A kernel larger than this is none.
const MAX_IMAGE: u64 = 1 << 30;
/// Bytes that are read at once from a packed file.
const READ_AHEAD: usize = 256 << 10;

/// Why a file is no kernel.
#[derive(Debug, Error)]
pub enum ImageError {
    /// It cannot be read.
    #[error("cannot read {path}: {error}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// It is something else.
    #[error("{path} is no arm64 Image and no gzip of one: {what}", path = path.display())]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: String,
    },
}

/// What the header of an Image says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImageHeader {
    /// Offset from a 2 MiB boundary that the kernel wants.
    pub text_offset: u64,
    /// Bytes of memory from there that are the kernel's, at least those of the file.
    pub image_size: u64,
}

impl ImageHeader {
    /// Reads a header; `length` is that of the whole Image.
    ///
    /// # Errors
    /// What makes it none.
    pub fn parse(header: &[u8; HEADER], length: u64) -> Result<Self, String> {
        if !header[MAGIC_AT..].starts_with(MAGIC) {
            let known: [(&[u8], &str); 3] = [
                (
                    b"\x7fELF",
                    "it is an ELF file, as vmlinux is; take the Image",
                ),
                (b"\xd0\x0d\xfe\xed", "it is a device tree"),
                (b"070701", "it is a cpio archive, as ramdisks are"),
            ];
            let what = known.iter().find(|(magic, _)| header.starts_with(magic));
            return Err(what
                .map_or("it has no such header", |(_, what)| *what)
                .to_string());
        }
        let number = |at: usize| {
            let bytes = header.get(at..at + 8).unwrap_or_default();
            bytes
                .iter()
                .rev()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let (text_offset, image_size) = (number(8), number(16));
        if image_size == 0 {
            return Err(
                "its header does not say how much memory it takes (Linux before 3.17)".into(),
            );
        }
        if text_offset >= ALIGNMENT || image_size > MAX_IMAGE || length > image_size {
            return Err(format!(
                "its header makes no sense: offset {text_offset:#x}, {image_size:#x} bytes of memory, {length:#x} in the file"
            ));
        }
        Ok(Self {
            text_offset,
            image_size,
        })
    }
}

/// A kernel whose header makes sense.
#[derive(Debug)]
pub struct Kernel {
    path: PathBuf,
    file: File,
    packed: bool,
    /// What its header says.
    pub header: ImageHeader,
    /// Bytes of the Image.
    pub length: u64,
}

impl Kernel {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let failed = |error| ImageError::Read {
            path: path.to_path_buf(),
            error,
        };
        let not_an_image = |what: String| ImageError::NotAnImage {
            path: path.to_path_buf(),
            what,
        };
        let mut file = File::open(path).map_err(failed)?;
        let mut size = file.metadata().map_err(failed)?.len();
        let mut header = [0; HEADER];
        if size < HEADER as u64 {
            return Err(not_an_image(format!("it has {size} bytes")));
        }
        file.read_exact(&mut header).map_err(failed)?;
        let packed = header.starts_with(&GZIP);
        if packed {
            // What is packed ends with how long it is.
            let mut length = [0; 4];
            file.seek(SeekFrom::End(-4)).map_err(failed)?;
            file.read_exact(&mut length).map_err(failed)?;
            size = u32::from_le_bytes(length).into();
            file.rewind().map_err(failed)?;
            GzDecoder::new(BufReader::new(&file))
                .read_exact(&mut header)
                .map_err(|error| not_an_image(format!("it cannot be unpacked: {error}")))?;
        }
        Ok(Self {
            path: path.to_path_buf(),
            header: ImageHeader::parse(&header, size).map_err(not_an_image)?,
            file,
            packed,
            length: size,
        })
    }

    /// Reads the Image from its beginning, [`Kernel::length`] bytes.
    ///
    /// # Errors
    /// The system's.
    pub fn reader(&self) -> io::Result<Box<dyn Read + '_>> {
        let mut file = &self.file;
        file.rewind()?;
        Ok(match self.packed {
            false => Box::new(file),
            true => Box::new(GzDecoder::new(BufReader::with_capacity(READ_AHEAD, file))),
        })
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn image(length: usize, image_size: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length).map(|at| at as u8).collect();
        bytes[8..16].copy_from_slice(&0x8_0000_u64.to_le_bytes());
        bytes[16..24].copy_from_slice(&image_size.to_le_bytes());
        bytes[56..60].copy_from_slice(MAGIC);
        bytes
    }

    fn opened(bytes: &[u8]) -> Result<(ImageHeader, Vec<u8>), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("Image");
        std::fs::write(&path, bytes).unwrap();
        let kernel = Kernel::open(&path).map_err(|error| error.to_string())?;
        let mut content = Vec::new();
        let mut reader = kernel.reader().unwrap();
        reader.read_to_end(&mut content).unwrap();
        assert_eq!(content.len() as u64, kernel.length);
        Ok((kernel.header, content))
    }

    #[test]
    fn images_plain_and_packed() {
        let bytes = image(100_000, 0x10_0000);
        let header = ImageHeader {
            text_offset: 0x8_0000,
            image_size: 0x10_0000,
        };
        assert_eq!(opened(&bytes), Ok((header, bytes.clone())));
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(&bytes).unwrap();
        assert_eq!(opened(&packer.finish().unwrap()), Ok((header, bytes)));
    }

    #[test]
    fn other_files_are_told_apart() {
        let error = |bytes: &[u8]| opened(bytes).unwrap_err();
        assert!(error(&[]).contains("it has 0 bytes"));
        let mut elf = [0; 100];
        elf[..4].copy_from_slice(b"\x7fELF");
        assert!(error(&elf).contains("take the Image"));
        assert!(error(&image(1000, 0)).contains("before 3.17"));
        assert!(error(&image(1000, 999)).contains("makes no sense"));
        assert!(error(&image(1000, u64::MAX)).contains("makes no sense"));
        let mut broken = [0xff; 100];
        broken[..2].copy_from_slice(&GZIP);
        assert!(error(&broken).contains("cannot be unpacked"));
    }
}
