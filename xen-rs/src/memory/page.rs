//! Pages of the hypervisor's own that others see: guests share them.

use xen_types::{Hpa, HpaRange, PAGE_SIZE};

use super::frames::{self, OutOfFrames};
use super::ram;
use crate::arch::cache;

/// A page that was zeroed once and is freed when it goes. Who lets others reach it sees to it that
/// they do not any more by then.
#[derive(Debug)]
pub struct Page(HpaRange);

impl Page {
    /// A new one.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn zeroed() -> Result<Self, OutOfFrames> {
        let page = frames::allocate_for_hypervisor(PAGE_SIZE as usize)?;
        // SAFETY: the allocator has just given the frame to the caller alone.
        cache::zero_pages(unsafe { ram::exclusive(page) });
        Ok(Self(page))
    }

    /// Where it starts.
    pub fn start(&self) -> Hpa {
        self.0.start()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        frames::free_for_hypervisor(self.0);
    }
}
