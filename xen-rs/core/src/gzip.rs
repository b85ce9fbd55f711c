//! Files that are packed with gzip (RFC 1952): Debian ships some kernels so.
//!
//! The inflating is the `miniz_oxide` crate's; here are the frame around it and the bounds: what is
//! unpacked never is more than the room that the caller gives.

extern crate alloc;

use alloc::boxed::Box;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// What a gzip file begins with, and its only method (RFC 1952 2.3.1).
const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// Bytes of the header without what its flags add.
const HEADER: usize = 10;
/// Flags of the header.
const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;
const RESERVED: u8 = 7 << 5;

/// Why a file cannot be unpacked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GzipError {
    /// The header does not end, or has flags that do not exist.
    #[error("gzip: the header makes no sense")]
    Header,
    /// The file ends before its content does.
    #[error("gzip: the file is cut short")]
    Truncated,
    /// It is no deflate stream.
    #[error("gzip: the content is damaged")]
    Damaged,
    /// There is more in it than there may be.
    #[error("gzip: the content is more than {0} bytes")]
    TooLarge(usize),
    /// It is not what was packed.
    #[error("gzip: the content's checksum is {found:#010x}, not {expected:#010x}")]
    Checksum {
        /// Of what was unpacked.
        found: u32,
        /// What the file says.
        expected: u32,
    },
    /// It is not as long as what was packed.
    #[error("gzip: the content has {found} bytes, not {expected}")]
    Length {
        /// Bytes that were unpacked.
        found: usize,
        /// What the file says, modulo 2^32.
        expected: u32,
    },
}

/// A gzip file whose header makes sense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gzip<'a> {
    /// The deflate stream and what follows it.
    body: &'a [u8],
}

impl<'a> Gzip<'a> {
    /// Whether a file says that it is one.
    pub fn is_gzip(file: &[u8]) -> bool {
        file.starts_with(&MAGIC)
    }

    /// Reads the header of a file.
    ///
    /// # Errors
    /// [`GzipError::Header`].
    pub fn parse(file: &'a [u8]) -> Result<Self, GzipError> {
        let body = Self::is_gzip(file).then(|| behind_header(file)).flatten();
        body.map(|body| Self { body }).ok_or(GzipError::Header)
    }

    /// Unpacks the start of the content, as much as there is room for.
    ///
    /// # Errors
    /// [`GzipError::Truncated`] also if there is less than that, [`GzipError::Damaged`].
    pub fn unpack_start(&self, into: &mut [u8]) -> Result<(), GzipError> {
        let room = into.len();
        match inflate(self.body, into) {
            (TINFLStatus::HasMoreOutput | TINFLStatus::Done, _, made) if made == room => Ok(()),
            (status, _, _) => Err(failure(status)),
        }
    }

    /// Unpacks all of the content, and checks it. Returns how many bytes it has.
    ///
    /// # Errors
    /// [`GzipError`]; `into` may have been written.
    pub fn unpack(&self, into: &mut [u8]) -> Result<usize, GzipError> {
        let (status, used, made) = inflate(self.body, into);
        match status {
            TINFLStatus::Done => {}
            TINFLStatus::HasMoreOutput => return Err(GzipError::TooLarge(into.len())),
            status => return Err(failure(status)),
        }
        let word = |at: usize| {
            let bytes = self.body.get(used..)?.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let expected = word(0).ok_or(GzipError::Truncated)?;
        let length = word(4).ok_or(GzipError::Truncated)?;
        if made as u32 != length {
            return Err(GzipError::Length {
                found: made,
                expected: length,
            });
        }
        let found = crc32(into.get(..made).unwrap_or_default());
        if found != expected {
            return Err(GzipError::Checksum { found, expected });
        }
        Ok(made)
    }
}

fn inflate(from: &[u8], into: &mut [u8]) -> (TINFLStatus, usize, usize) {
    let mut state = Box::<DecompressorOxide>::default();
    let flags = TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    decompress(&mut state, from, into, 0, flags)
}

fn failure(status: TINFLStatus) -> GzipError {
    match status {
        TINFLStatus::FailedCannotMakeProgress | TINFLStatus::NeedsMoreInput | TINFLStatus::Done => {
            GzipError::Truncated
        }
        _ => GzipError::Damaged,
    }
}

/// What follows the header; `None` if that does not end.
fn behind_header(file: &[u8]) -> Option<&[u8]> {
    let flags = *file.get(3)?;
    let mut rest = file.get(HEADER..)?;
    if flags & RESERVED != 0 {
        return None;
    }
    if flags & EXTRA != 0 {
        let (length, more) = rest.split_first_chunk()?;
        rest = more.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|byte| *byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

/// The polynomial of CRC-32, low bit first (RFC 1952 8).
const POLYNOMIAL: u32 = 0xedb8_8320;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut number = 0;
    while number < 256 {
        let mut value = number as u32;
        let mut bit = 0;
        while bit < 8 {
            value = value >> 1 ^ if value & 1 == 0 { 0 } else { POLYNOMIAL };
            bit += 1;
        }
        table[number] = value;
        number += 1;
    }
    table
};

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        let place = usize::from(crc as u8 ^ byte);
        crc >> 8 ^ TABLE.get(place).copied().unwrap_or(0)
    })
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::vec;
    use std::vec::Vec;

    use miniz_oxide::deflate::compress_to_vec;
    use proptest::prelude::*;

    use super::*;

    fn packed(content: &[u8]) -> Vec<u8> {
        let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
        file.extend(compress_to_vec(content, 6));
        file.extend(crc32(content).to_le_bytes());
        file.extend((content.len() as u32).to_le_bytes());
        file
    }

    fn unpacked(file: &[u8], room: usize) -> Result<Vec<u8>, GzipError> {
        let mut content = vec![0; room];
        let length = Gzip::parse(file)?.unpack(&mut content)?;
        content.truncate(length);
        Ok(content)
    }

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn a_file_of_gzip_is_read() {
        // printf 'xen-rs\n' | gzip -n
        let file = [
            0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x03, 0xab, 0x48, 0xcd, 0xd3,
            0x2d, 0x2a, 0xe6, 0x02, 0x00,
        ];
        let content = b"xen-rs\n";
        let mut whole = file.to_vec();
        whole.extend(crc32(content).to_le_bytes());
        whole.extend(7_u32.to_le_bytes());
        assert_eq!(unpacked(&whole, 100).unwrap(), content);
    }

    #[test]
    fn what_the_flags_add_to_the_header_is_skipped() {
        let plain = packed(b"content");
        let mut file = plain[..10].to_vec();
        file[3] = HEADER_CRC | EXTRA | NAME | COMMENT;
        file.extend([3, 0, 1, 2, 3]);
        file.extend(b"name\0comment\0");
        file.extend([9, 9]);
        file.extend(&plain[10..]);
        assert_eq!(unpacked(&file, 100).unwrap(), b"content");
        for length in 0..30 {
            assert_eq!(Gzip::parse(&file[..length]), Err(GzipError::Header));
        }
        file[3] |= 1 << 6;
        assert_eq!(Gzip::parse(&file), Err(GzipError::Header));
    }

    #[test]
    fn more_than_there_is_room_for_is_refused() {
        let file = packed(&[7; 100_000]);
        assert_eq!(unpacked(&file, 99_999), Err(GzipError::TooLarge(99_999)));
        assert_eq!(unpacked(&file, 0), Err(GzipError::TooLarge(0)));
        assert_eq!(unpacked(&file, 100_000).unwrap().len(), 100_000);
        let mut start = [0; 64];
        Gzip::parse(&file)
            .unwrap()
            .unpack_start(&mut start)
            .unwrap();
        assert_eq!(start, [7; 64]);
    }

    #[test]
    fn damage_is_told() {
        let file = packed(b"some content that is long enough to be packed");
        let end = file.len();
        for length in 10..end {
            assert_eq!(unpacked(&file[..length], 100), Err(GzipError::Truncated));
        }
        let mut wrong = file.clone();
        wrong[end - 8] ^= 1;
        let checksum = unpacked(&wrong, 100);
        assert!(
            matches!(checksum, Err(GzipError::Checksum { .. })),
            "{checksum:?}"
        );
        let mut wrong = file;
        wrong[end - 1] ^= 1;
        let length = unpacked(&wrong, 100);
        assert!(
            matches!(length, Err(GzipError::Length { .. })),
            "{length:?}"
        );
    }

    proptest! {
        #[test]
        fn what_was_packed_comes_out(content in prop::collection::vec(any::<u8>(), 0..2000)) {
            let file = packed(&content);
            prop_assert_eq!(unpacked(&file, content.len()).unwrap(), content);
        }

        #[test]
        fn a_changed_file_never_unpacks_to_something_else(
            content in prop::collection::vec(0..4u8, 1..500), place: usize, bit in 0..8u32
        ) {
            let mut file = packed(&content);
            let place = 10 + place % (file.len() - 10);
            file[place] ^= 1 << bit;
            if let Ok(unpacked) = unpacked(&file, 10_000) {
                prop_assert_eq!(unpacked, content);
            }
        }
    }
}
