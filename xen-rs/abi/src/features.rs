//! Feature bits (`features.h`).

/// How many words of feature bits there are (`XENFEAT_NR_SUBMAPS`).
pub const SUBMAPS: u32 = 1;

numbers! {
    /// A feature that arm64 guests look at; its number is its bit (`XENFEAT_…`).
    pub enum Feature: u32 {
        /// The guest writes its own page tables.
        WritablePageTables = 0,
        /// The guest's frame numbers are translated for it.
        AutoTranslatedPhysmap = 2,
        /// The guest is the initial domain, and privileged.
        Dom0 = 11,
        /// Memory calls take virtual NUMA nodes.
        MemoryOpVnodeSupported = 13,
        /// SMCCC calls are answered.
        ArmSmcccSupported = 14,
        /// Guest frames are not machine frames; devices need an IOMMU.
        NotDirectMapped = 16,
        /// Guest frames are machine frames with the same numbers.
        DirectMapped = 17,
        /// Run state areas can be registered by physical address.
        RunstatePhysArea = 18,
    }
}

impl Feature {
    /// Its bit in submap 0.
    pub const fn bit(self) -> u32 {
        1 << self.number()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_make_the_words_that_xen_reports() {
        let domu = [
            Feature::WritablePageTables,
            Feature::AutoTranslatedPhysmap,
            Feature::MemoryOpVnodeSupported,
            Feature::ArmSmcccSupported,
            Feature::NotDirectMapped,
        ];
        let word = |features: &[Feature]| features.iter().fold(0, |word, f| word | f.bit());
        assert_eq!(word(&domu), 0x16005);
        assert_eq!(word(&domu) | Feature::Dom0.bit(), 0x16805);
        assert_eq!(word(&domu) | Feature::RunstatePhysArea.bit(), 0x56005);
    }
}
