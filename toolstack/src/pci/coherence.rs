//! Whether devices see the CPUs' caches.
//!
//! The hypervisor does not tell. The control domain's device tree does, which has the machine's host
//! bridges with the segments that the hypervisor numbers them by. A machine without a tree describes
//! itself by ACPI, and there PCI is coherent (Arm's Base System Architecture wants it).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use platform_dt::{Dtb, PciBridge};
use thiserror::Error;

use crate::config::PciFunction;

/// The tree that Linux was started with.
pub const TREE: &str = "/sys/firmware/fdt";

/// Why it is not known.
#[derive(Debug, Error)]
pub enum CoherenceError {
    /// The tree cannot be read.
    #[error("cannot read {TREE}: {0}")]
    Read(#[from] io::Error),
    /// It is none.
    #[error("{TREE}: {0}")]
    Tree(String),
    /// A guest has one bus, which is of one kind.
    #[error(
        "{coherent} and {other} are host bridges of which one sees the CPUs' caches and the other does \
         not: a guest cannot have functions of both"
    )]
    Mixed {
        /// The one.
        coherent: String,
        /// The other.
        other: String,
    },
}

/// Whether the host bridges of these functions are coherent; all host bridges, if there are no
/// functions.
///
/// # Errors
/// [`CoherenceError`].
pub fn is_coherent(tree: &Path, functions: &[PciFunction]) -> Result<bool, CoherenceError> {
    match fs::read(tree) {
        Ok(blob) => in_tree(&blob, &functions.iter().map(|of| of.device.0).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn in_tree(blob: &[u8], segments: &BTreeSet<u16>) -> Result<bool, CoherenceError> {
    let dtb = Dtb::parse(blob).map_err(|error| CoherenceError::Tree(error.to_string()))?;
    // One that makes no sense is none that the hypervisor drives.
    let bridges = PciBridge::all(&dtb).into_iter().filter_map(Result::ok);
    let concerned = |bridge: &PciBridge| {
        let of = |segment| segments.contains(&segment);
        segments.is_empty() || bridge.domain.is_some_and(of)
    };
    let (coherent, others): (Vec<_>, Vec<_>) = bridges
        .filter(concerned)
        .partition(|bridge| bridge.coherent);
    match (coherent.first(), others.first()) {
        (Some(coherent), Some(other)) => Err(CoherenceError::Mixed {
            coherent: coherent.path.clone(),
            other: other.path.clone(),
        }),
        (_, other) => Ok(other.is_none()),
    }
}

#[cfg(test)]
mod tests {
    use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

    use super::*;

    /// Host bridges of segments 0, 1 and so on: coherent or not.
    fn tree(bridges: &[bool]) -> Vec<u8> {
        let mut tree = DeviceTree::new();
        for (segment, coherent) in bridges.iter().enumerate() {
            let mut node = DeviceTreeNode::new(format!("pcie@{segment}")).unwrap();
            let mut set = |name: &str, value: Vec<u8>| {
                node.add_property(DeviceTreeProperty::new(name, value.as_slice()).unwrap());
            };
            set("device_type", b"pci\0".into());
            set("compatible", b"pci-host-ecam-generic\0".into());
            set("reg", vec![0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0x10, 0, 0]);
            set("#address-cells", 3_u32.to_be_bytes().into());
            set("#size-cells", 2_u32.to_be_bytes().into());
            set("linux,pci-domain", (segment as u32).to_be_bytes().into());
            if *coherent {
                set("dma-coherent", Vec::new());
            }
            tree.root.add_child(node);
        }
        tree.to_dtb()
    }

    #[test]
    fn the_host_bridges_of_the_functions_count() {
        let of = |bridges: &[bool], segments: &[u16]| {
            in_tree(&tree(bridges), &segments.iter().copied().collect())
        };
        assert!(of(&[true, true], &[]).unwrap());
        assert!(!of(&[false], &[]).unwrap());
        assert!(of(&[false, true], &[1]).unwrap());
        assert!(!of(&[false, true], &[0]).unwrap());
        let error = of(&[false, true], &[0, 1]).unwrap_err().to_string();
        assert!(error.starts_with("/pcie@1 and /pcie@0 are"), "{error}");
        assert!(in_tree(b"no tree", &BTreeSet::new()).is_err());
    }

    #[test]
    fn without_a_tree_pci_is_coherent() {
        assert!(is_coherent(Path::new("/there/is/none"), &[]).unwrap());
    }
}
