//! Pages of the hypervisor's own that others see: guests share them.

use xen_abi::DomId;
use xen_types::{Hpa, HpaRange};

use super::frames::{self, OutOfFrames};
use super::ram;
use crate::arch::cache;

/// A page that was zeroed once and that a domain shares. It is freed when it is gone and when nobody
/// who has mapped it, the domain itself or another, refers to it any more.
#[derive(Debug)]
pub struct Page {
    frame: HpaRange,
    owner: DomId,
}

impl Page {
    /// A new one that a domain shares.
    ///
    /// # Errors
    /// [`OutOfFrames`].
    pub fn shared_by(owner: DomId) -> Result<Self, OutOfFrames> {
        let frame = frames::allocate_shared(owner)?;
        // SAFETY: the allocator has just given the frame to the caller alone.
        cache::zero_pages(unsafe { ram::exclusive(frame) });
        Ok(Self { frame, owner })
    }

    /// Where it starts.
    pub fn start(&self) -> Hpa {
        self.frame.start()
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        frames::give_up_shared(self.frame.start().frame(), self.owner);
    }
}
