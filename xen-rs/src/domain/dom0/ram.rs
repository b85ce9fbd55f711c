//! How Dom0 sees its RAM: where it is, or anywhere.
//!
//! What a device of a direct-mapped Dom0 does without an IOMMU is no different from what Dom0 means. A
//! Dom0 that sees its RAM elsewhere needs every device that masters the bus to be behind an IOMMU. Those
//! that cannot be, as far as the device tree tells, it does not get.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use log::{info, warn};
use platform_dt::{HostTree, Node};
use xen_core::memory::layout::{self, Bank};
use xen_core::memory::map::free_ranges;
use xen_types::HpaRange;

use super::Ingredients;
use super::banks::Banks;
use crate::iommu::NotGuarded;
use crate::{image, iommu};

/// Dom0's RAM.
pub struct Ram {
    /// Its banks, that with its kernel first.
    pub banks: Vec<Bank>,
    /// Whether it sees all where it is.
    pub is_direct: bool,
}

/// Why Dom0 does not see its RAM elsewhere.
#[derive(Debug, thiserror::Error)]
enum Direct {
    #[error("{0}")]
    NotGuarded(#[from] NotGuarded),
    #[error("its RAM has no room at other addresses")]
    NoRoom,
}

impl Ram {
    /// As the command line wants it, if that can be.
    pub fn of(from: &Ingredients<'_>, blocks: &Banks) -> Self {
        if from.options.dom0.direct_map {
            return Self::direct(blocks);
        }
        match elsewhere(from, blocks) {
            Ok(banks) => Self {
                banks,
                is_direct: false,
            },
            Err(reason) => {
                warn!("dom0: it is direct-mapped in spite of dom0=no-direct-map: {reason}");
                Self::direct(blocks)
            }
        }
    }

    fn direct(blocks: &Banks) -> Self {
        Self {
            banks: blocks.iter().copied().filter_map(Bank::direct).collect(),
            is_direct: true,
        }
    }

    /// Bytes of it.
    pub fn size(&self) -> u64 {
        self.banks.iter().map(|bank| bank.host().size()).sum()
    }
}

fn elsewhere(from: &Ingredients<'_>, blocks: &Banks) -> Result<Vec<Bank>, Direct> {
    iommu::check_all_guarded()?;
    let info = from.info;
    let ram: Vec<HpaRange> = info.ram.iter().copied().collect();
    let reserved = info.reserved.iter().map(|reserved| reserved.range);
    // Where the image is, Dom0 has the window for its grant table.
    let taken: Vec<HpaRange> = reserved.chain([image::range()]).collect();
    // Addresses of RAM are those of nothing else.
    let room: Vec<HpaRange> = free_ranges(&ram, &taken)
        .filter_map(layout::usable)
        .collect();
    let blocks: Vec<HpaRange> = blocks.iter().copied().collect();
    let banks = layout::lay_out(&blocks, &room).ok_or(Direct::NoRoom)?;
    for bank in &banks {
        info!("dom0: RAM at {}, which is {}", bank.guest(), bank.host());
    }
    Ok(banks)
}

/// The paths of devices that read and write memory past all IOMMUs, as far as the tree tells: it says
/// that they themselves see caches, and of no IOMMU. Of a bus, and of the whole board, that says what
/// holds for devices below.
pub fn unguarded_masters(tree: &HostTree) -> Vec<String> {
    let tree = tree.dtb();
    let is_master = |node: &Node<'_>| {
        let has = |name| node.property(name).is_some();
        let is_device = has("reg") && !has("ranges") && !has("#iommu-cells");
        is_device && has("dma-coherent") && !has("iommus") && !has("iommu-map")
    };
    tree.nodes()
        .filter(is_master)
        .map(|node| node.to_string())
        .collect()
}
