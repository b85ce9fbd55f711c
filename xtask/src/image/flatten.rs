//! From the linked ELF file to the bytes that lie in memory when the image starts.

use anyhow::{Context as _, Result, ensure};
use object::{Object, ObjectSegment, ObjectSymbol, SymbolKind};

/// A function of the image: bytes from its start, bytes that it takes, and its name, demangled and
/// without the compiler's hash.
pub type Function = (u32, u32, String);

/// No image is anywhere near this; more means that the link went wrong.
const ABSURD_SIZE: u64 = 64 << 20;

/// The load segments as they lie in memory, zeros included.
pub fn segments(elf: &[u8]) -> Result<Vec<u8>> {
    let elf = object::File::parse(elf).context("the linked image is not an ELF file")?;
    let base = base(&elf)?;
    let mut flat = Vec::new();
    for segment in elf.segments() {
        let start = segment.address() - base;
        let end = start
            .checked_add(segment.size())
            .filter(|end| *end <= ABSURD_SIZE);
        let end = end.with_context(|| format!("a segment at {start:#x} is too large"))?;
        let (start, end) = (usize::try_from(start)?, usize::try_from(end)?);
        if flat.len() < end {
            flat.resize(end, 0);
        }
        let data = segment.data()?;
        ensure!(
            data.len() <= end - start,
            "a segment has more bytes in the file than in memory"
        );
        flat[start..start + data.len()].copy_from_slice(data);
    }
    Ok(flat)
}

/// All functions, in any order.
pub fn functions(elf: &[u8]) -> Result<Vec<Function>> {
    let elf = object::File::parse(elf).context("the linked image is not an ELF file")?;
    let base = base(&elf)?;
    elf.symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.is_definition())
        .map(|symbol| {
            let offset = u32::try_from(symbol.address() - base)?;
            Ok((
                offset,
                u32::try_from(symbol.size())?,
                demangle(symbol.name()?),
            ))
        })
        .collect()
}

fn base(elf: &object::File) -> Result<u64> {
    elf.segments()
        .map(|segment| segment.address())
        .min()
        .context("the linked image has no load segment")
}

fn demangle(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little-endian arm64 ELF file with two load segments: 4 bytes at 0x1000, and 2 bytes of
    /// 8 at 0x1010.
    fn elf() -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        file.extend([3, 0, 183, 0, 1, 0, 0, 0]);
        for word in [0x1000_u64, 64, 0] {
            file.extend(word.to_le_bytes());
        }
        for half in [0_u16, 0, 64, 56, 2, 64, 0, 0] {
            file.extend(half.to_le_bytes());
        }
        for (offset, address, in_file, in_memory) in
            [(176_u64, 0x1000_u64, 4, 4), (180, 0x1010, 2, 8)]
        {
            file.extend([1, 0, 0, 0, 7, 0, 0, 0]);
            for word in [offset, address, address, in_file, in_memory, 16_u64] {
                file.extend(word.to_le_bytes());
            }
        }
        file.extend(*b"abcdef");
        file
    }

    #[test]
    fn segments_lie_where_they_are_loaded_and_bss_is_zero() {
        let flat = segments(&elf()).unwrap();
        assert_eq!(flat.len(), 0x18);
        assert_eq!(&flat[..4], b"abcd");
        assert_eq!(&flat[4..0x10], [0; 12]);
        assert_eq!(&flat[0x10..0x12], b"ef");
        assert_eq!(&flat[0x12..], [0; 6]);
    }

    #[test]
    fn what_is_no_elf_file_is_refused() {
        assert!(segments(b"MZ").is_err());
        assert!(functions(b"").is_err());
    }

    #[test]
    fn names_are_plain() {
        assert_eq!(
            demangle("_ZN4core9panicking5panic17h0123456789abcdefE"),
            "core::panicking::panic"
        );
        assert_eq!(demangle("_RNvCs1234_7mycrate3foo"), "mycrate::foo");
        assert_eq!(demangle("memcpy"), "memcpy");
    }
}
