//! Dom0's RAM while it is being made.

use alloc::vec::Vec;

use xen_abi::DomId;
use xen_core::memory::buddy::MAX_ORDER;
use xen_core::paging::Unreachable;
use xen_types::{Hpa, HpaRange, PAGE_SIZE};

use crate::arch::cache;
use crate::domain::memory::before_start;
use crate::memory::frames::{self, OutOfFrames};

/// First addresses that a 32-bit DMA master cannot reach.
const BELOW_4_GIB: u64 = 1 << 32;

/// Zeroed blocks of RAM by address, which go back to the allocator unless they are kept.
pub struct Banks(Vec<Unreachable<HpaRange>>);

impl Banks {
    /// Takes RAM for a domain in blocks, the largest first, the first one below 4 GiB.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn allocate(size: u64, owner: DomId) -> Result<Self, OutOfFrames> {
        let low = HpaRange::new(Hpa::new(0), BELOW_4_GIB).expect("a range");
        let mut banks = Self(Vec::new());
        let mut rest = (size / PAGE_SIZE).max(1);
        let mut largest = MAX_ORDER;
        while rest > 0 {
            let order = (rest.ilog2() as u8).min(largest);
            let within = banks.0.is_empty().then_some(low);
            match frames::allocate_for_domain(order, within, owner) {
                Ok(bank) => {
                    // SAFETY: the allocator has just given the block to this domain, which does not
                    // run.
                    cache::zero_pages(unsafe { before_start(*bank.held()) });
                    rest -= 1 << order;
                    banks.0.push(bank);
                }
                Err(error) if order == 0 => return Err(error),
                Err(_) => largest = order - 1,
            }
        }
        banks.0.sort_by_key(|bank| bank.held().start());
        Ok(banks)
    }

    /// The blocks.
    pub fn iter(&self) -> impl Iterator<Item = &HpaRange> {
        self.0.iter().map(Unreachable::held)
    }

    /// They are the domain's for as long as it lives.
    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Banks {
    fn drop(&mut self) {
        self.0.drain(..).for_each(frames::free_for_domain);
    }
}
