//! Forgetting: what was unmapped is free only once no CPU and no IOMMU can reach it.
//!
//! Whoever gives frames, tables or VMIDs to somebody else has had [`forget()`] succeed before.

use crate::{Invalidation, Iommu, IommuError, Vmid};

/// All that translates for one domain.
pub trait Translators {
    /// Makes all CPUs forget; complete when it returns (for stage 2, Arm ARM D8.17).
    fn invalidate_cpus(&mut self, vmid: Vmid, what: Invalidation);

    /// Calls `visit` for each IOMMU that may remember translations of the domain, those included
    /// from which its last device was taken without an invalidation.
    ///
    /// # Errors
    /// That of the first `visit` that fails.
    fn each_iommu(
        &mut self,
        visit: &mut dyn FnMut(&mut dyn Iommu) -> Result<(), IommuError>,
    ) -> Result<(), IommuError>;
}

/// Makes CPUs and IOMMUs forget what they remember of a domain's translations, and waits until they
/// have.
///
/// # Errors
/// An IOMMU did not do it: it may still reach where the domain's addresses led.
pub fn forget(
    translators: &mut impl Translators,
    vmid: Vmid,
    what: Invalidation,
) -> Result<(), IommuError> {
    translators.invalidate_cpus(vmid, what);
    // All begin before the first is waited for.
    translators.each_iommu(&mut |iommu| iommu.invalidate(vmid, what))?;
    translators.each_iommu(&mut |iommu| iommu.sync())
}

#[cfg(test)]
mod tests;
