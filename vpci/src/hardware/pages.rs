//! Pages that hold registers of several functions of the hardware domain.
//!
//! A base address register may ask for less than a page. As long as one of those in a page is mapped,
//! the page is.

use alloc::collections::BTreeMap;

use xen_types::PAGE_SIZE;

use crate::effect::Piece;

/// How many registers each mapped page holds that are smaller than it or fill it: no more than there
/// are registers.
#[derive(Debug, Default)]
pub struct SharedPages(BTreeMap<u64, u32>);

impl SharedPages {
    /// None.
    pub const fn new() -> Self {
        Self(BTreeMap::new())
    }

    /// A piece is to be mapped. Returns whether it is not yet.
    pub fn map(&mut self, piece: &Piece) -> bool {
        let Some(page) = page(piece) else {
            return true;
        };
        let count = self.0.entry(page).or_insert(0);
        *count = count.saturating_add(1);
        *count == 1
    }

    /// A piece is to be unmapped. Returns whether nobody else needs it.
    pub fn unmap(&mut self, piece: &Piece) -> bool {
        let Some(page) = page(piece) else {
            return true;
        };
        let Some(count) = self.0.get_mut(&page) else {
            return true;
        };
        *count = count.saturating_sub(1);
        let last = *count == 0;
        if last {
            self.0.remove(&page);
        }
        last
    }
}

/// The number of the page, if it is just one.
fn page(piece: &Piece) -> Option<u64> {
    (piece.guest.size() <= PAGE_SIZE).then(|| piece.guest.start().get() / PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use xen_types::{Gpa, GpaRange, Hpa, HpaRange};

    use super::*;

    fn piece(start: u64, pages: u64) -> Piece {
        Piece {
            bar: 0,
            guest: GpaRange::new(Gpa::new(start), pages * PAGE_SIZE).unwrap(),
            host: HpaRange::new(Hpa::new(start), pages * PAGE_SIZE).unwrap(),
            prefetchable: false,
        }
    }

    #[test]
    fn a_page_is_mapped_with_the_first_and_unmapped_with_the_last() {
        let mut pages = SharedPages::new();
        let page = piece(0x1000_0000, 1);
        assert!(pages.map(&page));
        assert!(!pages.map(&page));
        assert!(pages.map(&piece(0x1000_1000, 1)));
        assert!(!pages.unmap(&page));
        assert!(pages.unmap(&page));
        assert!(pages.map(&page));
    }

    #[test]
    fn what_is_larger_is_not_shared() {
        let mut pages = SharedPages::new();
        let large = piece(0x1000_0000, 2);
        assert!(pages.map(&large) && pages.map(&large));
        assert!(pages.unmap(&large) && pages.unmap(&large));
    }
}
