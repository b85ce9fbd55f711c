//! The TLB rule as types: what was unmapped is free only once no CPU and no IOMMU can reach it.
//!
//! [`Unmapped`] holds what nothing maps any more but something may still remember. Only
//! [`Unmapped::invalidate`] turns it into [`Invalidated`], and only that gives back what it holds.
//! What frees frames, tables or VMIDs takes an [`Invalidated`]; there is no other way to make one.
//! Dropping either loses what it holds, which is safe.
//!
//! What is unmapped cannot be freed by itself, nor twice:
//!
//! ```compile_fail
//! # use smmu::{Unmapped, Vmid};
//! let frame = Unmapped::all(1, Vmid::new(1)).release();
//! ```
//!
//! ```compile_fail
//! # use smmu::{Translators, Unmapped, Vmid};
//! fn free_twice(translators: &mut impl Translators) {
//!     let unmapped = Unmapped::all(1, Vmid::new(1));
//!     let copy = unmapped.clone();
//! }
//! ```
//!
//! ```compile_fail
//! # use smmu::Invalidated;
//! let made_up = Invalidated { held: 1 };
//! ```

use xen_types::GpaRange;

use crate::{Invalidation, Iommu, IommuError, Vmid};

/// All that translates for one domain.
pub trait Translators {
    /// Makes all CPUs forget; complete when it returns (for stage 2, Arm ARM D8.17).
    fn invalidate_cpus(&mut self, vmid: Vmid, what: Invalidation);

    /// Calls `visit` for each IOMMU that may remember translations of the domain, those included
    /// from which its last device was taken without an invalidation. Ends with the first error.
    ///
    /// # Errors
    /// That of `visit`.
    fn each_iommu(
        &mut self,
        visit: &mut dyn FnMut(&mut dyn Iommu) -> Result<(), IommuError>,
    ) -> Result<(), IommuError>;
}

/// Something that no descriptor leads to any more, but TLBs may.
#[must_use = "what is unmapped is lost unless it is invalidated and freed"]
#[derive(Debug)]
pub struct Unmapped<T> {
    held: T,
    vmid: Vmid,
    what: Invalidation,
}

/// Something that nothing can reach any more.
#[must_use = "what is not freed is lost"]
#[derive(Debug)]
pub struct Invalidated<T> {
    held: T,
}

impl<T> Unmapped<T> {
    /// `held`, to which `range` of a domain led until the last descriptor on the way was cleared.
    pub const fn range(held: T, vmid: Vmid, range: GpaRange) -> Self {
        let what = Invalidation::Range(range);
        Self { held, vmid, what }
    }

    /// `held`, to which anything of a domain may have led: its root, its VMID.
    pub const fn all(held: T, vmid: Vmid) -> Self {
        let what = Invalidation::All;
        Self { held, vmid, what }
    }

    /// Makes CPUs and IOMMUs forget, and waits until they have.
    ///
    /// # Errors
    /// An IOMMU did not answer: the token comes back, to be tried again or to be kept for ever.
    pub fn invalidate(
        self,
        translators: &mut impl Translators,
    ) -> Result<Invalidated<T>, (Self, IommuError)> {
        let Self { vmid, what, .. } = self;
        translators.invalidate_cpus(vmid, what);
        // All begin before the first is waited for.
        let begun = translators.each_iommu(&mut |iommu| iommu.invalidate(vmid, what));
        let done = begun.and_then(|()| translators.each_iommu(&mut |iommu| iommu.sync()));
        match done {
            Ok(()) => Ok(Invalidated { held: self.held }),
            Err(error) => Err((self, error)),
        }
    }
}

impl<T> Invalidated<T> {
    /// Gives back what may now be used for something else.
    pub fn release(self) -> T {
        self.held
    }
}

#[cfg(test)]
mod tests;
