//! What of the host is not Dom0's: addresses and interrupts, each with its owner.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use xen_types::{Hpa, HpaRange, IntId, Spi};

use super::fate::{Fate, Fates, is_iommu};
use super::index::{Id, Index};
use super::interrupts::Interrupts;
use super::plan::Dom0Plan;
use super::ranges::merged;
use super::registers::registers;
use super::reserved::ReservedMemory;
use crate::TreeError;
use crate::host::is_gic;
use crate::node::Status;

/// Whose something is.
#[derive(Clone, Copy)]
pub(super) enum Owner {
    /// It belongs to this node of the host's tree.
    Node(Id),
    /// The hypervisor answers there itself.
    GuestGic,
}

impl Owner {
    /// The path of the node, or words for what has none.
    pub(super) fn name(self, index: &Index<'_>) -> String {
        match self {
            Self::Node(id) => index.node(id).to_string(),
            Self::GuestGic => "Dom0's interrupt controller".into(),
        }
    }
}

/// A range that is not Dom0's.
#[derive(Clone, Copy)]
pub(super) struct OwnedRange {
    /// The bytes.
    pub range: HpaRange,
    /// The whole pages that hold them.
    pub pages: HpaRange,
    pub owner: Owner,
}

/// Everything that is not Dom0's.
pub(super) struct Owned {
    pub ranges: Vec<OwnedRange>,
    /// The pages of all `ranges`, sorted and apart.
    pub pages: Vec<HpaRange>,
    /// The same without RAM.
    pub pages_but_ram: Vec<HpaRange>,
    /// The host's RAM.
    pub ram: Vec<HpaRange>,
    pub interrupts: BTreeMap<Spi, Owner>,
}

impl Owned {
    pub(super) fn collect(
        index: &Index<'_>,
        fates: &Fates,
        reserved: &ReservedMemory,
        plan: &Dom0Plan<'_>,
    ) -> Result<Self, TreeError> {
        let mut owned = Self {
            ranges: Vec::new(),
            pages: Vec::new(),
            pages_but_ram: Vec::new(),
            ram: Vec::new(),
            interrupts: BTreeMap::new(),
        };
        for id in index.ids().filter(|&id| is_kept_back(index, fates, id)) {
            owned.add_device(index, fates, id);
        }
        for &(id, range) in &reserved.no_map {
            owned.add(range, Owner::Node(id));
        }
        for frame in plan.gic.frames() {
            // Guest and host count these addresses alike: what is mapped is mapped 1:1.
            let start = Hpa::new(frame.start().get());
            let range = HpaRange::new(start, frame.size());
            range
                .into_iter()
                .for_each(|range| owned.add(range, Owner::GuestGic));
        }
        owned.pages_but_ram = owned.merged_pages();
        owned.add_ram(index)?;
        owned.pages = owned.merged_pages();
        Ok(owned)
    }

    fn add_device(&mut self, index: &Index<'_>, fates: &Fates, id: Id) {
        let owner = Owner::Node(id);
        for range in registers(index, id) {
            self.add(range, owner);
        }
        let is_used = fates.of(id) == Fate::Assigned || index.node(id).status() == Status::Okay;
        if !is_used {
            return;
        }
        let gic = fates.gic;
        for interrupt in (Interrupts { index, gic }).of(id) {
            if let IntId::Spi(spi) = interrupt.id {
                self.interrupts.entry(spi).or_insert(owner);
            }
        }
    }

    fn add_ram(&mut self, index: &Index<'_>) -> Result<(), TreeError> {
        for id in index.children(index.root()) {
            let node = index.node(id);
            if !node.has_type("memory") || node.status() != Status::Okay {
                continue;
            }
            for range in node.memory_ranges()? {
                let range = range?;
                self.ram.push(range);
                self.add(range, Owner::Node(id));
            }
        }
        Ok(())
    }

    fn add(&mut self, range: HpaRange, owner: Owner) {
        // A range in the last page of 64 bits is one that no processor addresses.
        let pages = range.page_aligned_outwards().into_iter();
        self.ranges.extend(pages.map(|pages| OwnedRange {
            range,
            pages,
            owner,
        }));
    }

    fn merged_pages(&self) -> Vec<HpaRange> {
        merged(self.ranges.iter().map(|owned| owned.pages).collect())
    }
}

/// Whether a node's device is one that the hypervisor keeps for itself or for a guest.
fn is_kept_back(index: &Index<'_>, fates: &Fates, id: Id) -> bool {
    let node = index.node(id);
    is_gic(node)
        || index.is_in(id, fates.gic)
        || is_iommu(node)
        || fates.of(id) == Fate::Assigned
        || fates.hidden.iter().any(|&top| index.is_in(id, top))
}
