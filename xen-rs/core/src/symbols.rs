//! The names of functions by address, for backtraces: the table that the build appends to the
//! image.
//!
//! Little-endian: magic, number of functions, bytes of names, checksum of all that follows; then
//! for each function its offset from the start of the image, its size and where its name ends; then
//! all names, in order.

/// First bytes of a table; the last one is the version.
const MAGIC: &[u8; 8] = b"XRSSYMS\x02";
const HEADER: usize = 20;
const ENTRY: usize = 12;

/// A table that was checked.
#[derive(Clone, Copy, Debug)]
pub struct SymbolTable<'a> {
    entries: &'a [u8],
    names: &'a [u8],
}

/// What an address is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Symbol<'a> {
    /// The function.
    pub name: &'a str,
    /// How far into it.
    pub offset: u32,
}

/// Bytes that are no symbol table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SymbolError {
    /// Something else.
    #[error("not a symbol table of this version")]
    Magic,
    /// Shorter than it says.
    #[error("the symbol table is cut off")]
    Truncated,
    /// Overwritten since the build.
    #[error("the symbol table is corrupt")]
    Checksum,
}

struct Entry {
    start: u32,
    size: u32,
    name_end: u32,
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    let bytes = bytes.get(offset..offset.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// FNV-1a: tells a table that was overwritten, one multiplication a byte.
fn checksum<'b>(bytes: impl IntoIterator<Item = &'b u8>) -> u32 {
    bytes.into_iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

impl<'a> SymbolTable<'a> {
    /// Checks that `bytes` start with a table, whole and as the build wrote it. What follows it is
    /// ignored.
    ///
    /// # Errors
    /// [`SymbolError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, SymbolError> {
        if bytes.get(..MAGIC.len()) != Some(MAGIC) {
            return Err(SymbolError::Magic);
        }
        let (table, expected) = Self::split(bytes).ok_or(SymbolError::Truncated)?;
        if checksum(table.entries.iter().chain(table.names)) != expected {
            return Err(SymbolError::Checksum);
        }
        Ok(table)
    }

    /// The parts that the header tells of, and their checksum.
    fn split(bytes: &'a [u8]) -> Option<(Self, u32)> {
        let count = word(bytes, 8)? as usize;
        let names_len = word(bytes, 12)? as usize;
        let names_start = count.checked_mul(ENTRY)?.checked_add(HEADER)?;
        let table = Self {
            entries: bytes.get(HEADER..names_start)?,
            names: bytes.get(names_start..names_start.checked_add(names_len)?)?,
        };
        Some((table, word(bytes, 16)?))
    }

    /// The function that holds the byte `offset` from the start of the image.
    pub fn lookup(&self, offset: u32) -> Option<Symbol<'a>> {
        let (mut low, mut high) = (0, self.entries.len() / ENTRY);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.entry(middle)?.start <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let number = low.checked_sub(1)?;
        let entry = self.entry(number)?;
        let inside = offset.checked_sub(entry.start)?;
        if inside >= entry.size {
            return None;
        }
        let name_start = match number.checked_sub(1) {
            Some(before) => self.entry(before)?.name_end,
            None => 0,
        };
        let name = self
            .names
            .get(name_start as usize..entry.name_end as usize)?;
        Some(Symbol {
            name: core::str::from_utf8(name).ok()?,
            offset: inside,
        })
    }

    fn entry(&self, number: usize) -> Option<Entry> {
        let at = number.checked_mul(ENTRY)?;
        Some(Entry {
            start: word(self.entries, at)?,
            size: word(self.entries, at + 4)?,
            name_end: word(self.entries, at + 8)?,
        })
    }
}

#[cfg(any(test, feature = "encode"))]
pub use encode::encode;

#[cfg(any(test, feature = "encode"))]
mod encode {
    extern crate alloc;
    use alloc::vec::Vec;

    use super::{MAGIC, checksum};

    /// The table of these functions: (offset from the start of the image, size, name), in any
    /// order. Of several names for one place the shortest stays. Functions without a size are left
    /// out, since no address is in them.
    pub fn encode<N: AsRef<str>>(functions: impl IntoIterator<Item = (u32, u32, N)>) -> Vec<u8> {
        let mut functions: Vec<_> = functions
            .into_iter()
            .filter(|(_, size, _)| *size > 0)
            .collect();
        functions.sort_by(|(a, _, x), (b, _, y)| {
            let (x, y) = (x.as_ref(), y.as_ref());
            (a, x.len(), x).cmp(&(b, y.len(), y))
        });
        functions.dedup_by_key(|(offset, ..)| *offset);
        assemble(&functions)
    }

    fn assemble<N: AsRef<str>>(functions: &[(u32, u32, N)]) -> Vec<u8> {
        let (mut entries, mut names) = (Vec::new(), Vec::new());
        for (offset, size, name) in functions {
            names.extend(name.as_ref().as_bytes());
            for value in [*offset, *size, names.len() as u32] {
                entries.extend(value.to_le_bytes());
            }
        }
        let sum = checksum(entries.iter().chain(&names));
        let mut table = Vec::from(*MAGIC);
        for value in [functions.len() as u32, names.len() as u32, sum] {
            table.extend(value.to_le_bytes());
        }
        table.extend(entries);
        table.extend(names);
        table
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::String;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn sample() -> Vec<u8> {
        encode([
            (0x200, 0x10, "beta"),
            (0x100, 0x80, "alpha"),
            (0x100, 0x80, "alpha_with_a_longer_name"),
            (0x300, 0, "label"),
        ])
    }

    #[test]
    fn an_address_finds_the_function_that_holds_it() {
        let bytes = sample();
        let table = SymbolTable::parse(&bytes).unwrap();
        let found = |offset| table.lookup(offset).map(|found| (found.name, found.offset));
        assert_eq!(found(0xff), None);
        assert_eq!(found(0x100), Some(("alpha", 0)));
        assert_eq!(found(0x17f), Some(("alpha", 0x7f)));
        assert_eq!(found(0x180), None);
        assert_eq!(found(0x20f), Some(("beta", 0xf)));
        assert_eq!(found(0x210), None);
        assert_eq!(found(0x300), None);
        assert_eq!(found(u32::MAX), None);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let bytes = sample();
        for len in 0..bytes.len() {
            assert!(SymbolTable::parse(&bytes[..len]).is_err(), "{len}");
        }
        assert_eq!(
            SymbolTable::parse(&[0; 64]).unwrap_err(),
            SymbolError::Magic
        );
    }

    #[test]
    fn what_was_overwritten_is_refused_and_what_follows_is_not_looked_at() {
        let mut bytes = sample();
        bytes.push(0xff);
        assert!(SymbolTable::parse(&bytes).is_ok());
        for place in 0..bytes.len() - 1 {
            let mut corrupt = bytes.clone();
            corrupt[place] ^= 0x10;
            assert!(SymbolTable::parse(&corrupt).is_err(), "{place}");
        }
    }

    #[test]
    fn no_function_is_a_table_too() {
        let bytes = encode::<&str>([]);
        assert_eq!(SymbolTable::parse(&bytes).unwrap().lookup(0), None);
    }

    proptest! {
        #[test]
        fn every_function_is_found_again(sizes in proptest::collection::vec((1u32..50, 0u32..50), 1..50)) {
            let mut start = 0;
            let functions: Vec<(u32, u32, String)> = sizes
                .iter()
                .map(|(size, gap)| {
                    let function = (start, *size, std::format!("f{start}"));
                    start += size + gap;
                    function
                })
                .collect();
            let bytes = encode(functions.clone());
            let table = SymbolTable::parse(&bytes).unwrap();
            for (offset, size, name) in &functions {
                let last = table.lookup(offset + size - 1).unwrap();
                prop_assert_eq!((last.name, last.offset), (name.as_str(), size - 1));
            }
        }

        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 20..200), offset in any::<u32>()) {
            // What has the right form reaches the lookup even if its checksum is wrong.
            bytes[..8].copy_from_slice(MAGIC);
            bytes[8] %= 20;
            bytes[9..12].fill(0);
            bytes[13..16].fill(0);
            let _ = SymbolTable::parse(&bytes);
            if let Some((table, _)) = SymbolTable::split(&bytes) {
                let _ = table.lookup(offset);
            }
        }
    }
}
