//! Properties and the forms that their values have (DTSpec 2.2.4).

use core::str;

/// A property of a node: a name and bytes whose meaning the name gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Property<'a> {
    /// The name: printable ASCII, never empty.
    pub name: &'a str,
    /// The value; may be empty.
    pub value: &'a [u8],
}

impl<'a> Property<'a> {
    /// The value as one 32-bit number, if it is 4 bytes.
    pub fn u32(self) -> Option<u32> {
        Some(u32::from_be_bytes(self.value.try_into().ok()?))
    }

    /// The value as one number of 4 or 8 bytes.
    pub fn u64(self) -> Option<u64> {
        match self.value.len() {
            4 => self.u32().map(u64::from),
            8 => Some(u64::from_be_bytes(self.value.try_into().ok()?)),
            _ => None,
        }
    }

    /// The value as one string: UTF-8 up to the first NUL, which must exist.
    pub fn string(self) -> Option<&'a str> {
        let length = self.value.iter().position(|&byte| byte == 0)?;
        str::from_utf8(self.value.get(..length)?).ok()
    }

    /// The strings of a list, each ended by a NUL; nothing where the value is no such list.
    pub fn strings(self) -> impl Iterator<Item = &'a str> {
        let list = self.value.strip_suffix(&[0]);
        list.into_iter()
            .flat_map(|list| list.split(|&byte| byte == 0))
            .filter_map(|string| str::from_utf8(string).ok())
    }

    /// Whether the value is a list of one or more strings in UTF-8, each ended by a NUL.
    pub fn is_string_list(self) -> bool {
        self.value.ends_with(&[0]) && str::from_utf8(self.value).is_ok()
    }

    /// The value as 32-bit cells; bytes beyond the last whole cell are left out.
    pub fn cells(self) -> impl Iterator<Item = u32> + Clone + 'a {
        let (cells, _) = self.value.as_chunks();
        cells.iter().map(|&cell| u32::from_be_bytes(cell))
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    fn property(value: &[u8]) -> Property<'_> {
        Property { name: "p", value }
    }

    #[test]
    fn numbers_have_their_exact_length() {
        assert_eq!(property(&[0, 0, 1, 2]).u32(), Some(0x102));
        assert_eq!(property(&[0, 0, 1]).u32(), None);
        assert_eq!(property(&[0, 0, 1, 2]).u64(), Some(0x102));
        assert_eq!(
            property(&[0, 0, 0, 1, 0, 0, 0, 2]).u64(),
            Some(0x1_0000_0002)
        );
        assert_eq!(property(&[0; 12]).u64(), None);
    }

    #[test]
    fn strings_end_in_nul() {
        assert_eq!(property(b"okay\0").string(), Some("okay"));
        assert_eq!(property(b"okay").string(), None);
        assert_eq!(property(b"").string(), None);
        assert_eq!(property(b"\xff\0").string(), None);
    }

    #[test]
    fn a_list_holds_every_string() {
        let strings: Vec<_> = property(b"a\0bc\0").strings().collect();
        assert_eq!(strings, ["a", "bc"]);
        assert_eq!(property(b"a\0bc").strings().count(), 0);
        assert!(property(b"a\0bc\0").is_string_list());
        assert!(!property(b"a\0bc").is_string_list());
        assert!(!property(b"").is_string_list());
    }
}
