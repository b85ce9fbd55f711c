use std::string::{String, ToString};
use std::vec::Vec;

use dtoolkit::model::DeviceTreeProperty;

use super::*;
use crate::Dtb;
use crate::tests::fixtures::{Fixture, cells, flag, node, qemu_gicv3, text};

const SMMU: u32 = 0x10;
const OTHER: u32 = 0x11;

/// QEMU's virt with two IOMMUs and a host bridge that has these properties.
fn tree(bridge: impl IntoIterator<Item = DeviceTreeProperty>) -> Fixture {
    let iommu = |name, phandle| {
        let properties = [cells("#iommu-cells", &[1]), cells("phandle", &[phandle])];
        node(name, properties, [])
    };
    qemu_gicv3()
        .with("/", iommu("smmuv3@9050000", SMMU))
        .with("/", iommu("smmuv3@9150000", OTHER))
        .with("/", node("pcie@10000000", bridge, []))
        .set("/intc@8000000/its@8080000", flag("msi-controller"))
}

fn read(
    tree: &Fixture,
    map: impl Fn(Node<'_>) -> Result<Option<RequesterMap>, TreeError>,
) -> Result<Option<RequesterMap>, String> {
    let blob = tree.blob();
    let dtb = Dtb::parse(&blob).unwrap();
    let bridge = dtb.nodes().find(|node| node.name() == "pcie@10000000");
    map(bridge.unwrap()).map_err(|error| error.to_string())
}

fn iommu_map(entries: &[[u32; 4]], mask: Option<u32>) -> Result<RequesterMap, String> {
    let map = cells("iommu-map", entries.as_flattened());
    let mask = mask.map(|mask| cells("iommu-map-mask", &[mask]));
    read(&tree([map].into_iter().chain(mask)), RequesterMap::iommu).map(Option::unwrap)
}

/// What the binding says, word by word.
fn reference(entries: &[[u32; 4]], mask: u32, requester: u16) -> Option<MappedId> {
    let requester = u64::from(u32::from(requester) & mask);
    let has = |entry: &&[u32; 4]| {
        let first = u64::from(entry[0]);
        (first..first + u64::from(entry[3])).contains(&requester)
    };
    entries.iter().find(has).map(|entry| MappedId {
        controller: entry[1],
        id: (u64::from(entry[2]) + requester - u64::from(entry[0])) as u32,
    })
}

#[test]
fn xsa_33_every_requester_has_its_stream() {
    for (entries, mask) in [
        // QEMU virt.
        (std::vec![[0, SMMU, 0, 0x1_0000]], None),
        // The binding's own examples: a displaced map, a mask without functions, two IOMMUs.
        (std::vec![[0, SMMU, 0x1_0000, 0x1_0000]], None),
        (std::vec![[0, SMMU, 0, 0x1_0000]], Some(0xfff8)),
        (
            std::vec![[0, SMMU, 0, 0x8000], [0x8000, OTHER, 0x7_0000, 0x8000]],
            None,
        ),
        // Holes, one after another, the first of two that overlap.
        (
            std::vec![
                [0x100, SMMU, 0x40, 1],
                [0x101, SMMU, 0x80, 7],
                [0x100, OTHER, 0, 0x100]
            ],
            None,
        ),
        (std::vec![[0, SMMU, 5, 1]], Some(0)),
        (std::vec![[0x1_0000, SMMU, 0, 0x1_0000]], None),
    ] {
        let map = iommu_map(&entries, mask).unwrap();
        let mut largest = None;
        for requester in 0..=u16::MAX {
            let found = map.find(requester);
            assert_eq!(
                found,
                reference(&entries, mask.unwrap_or(u32::MAX), requester)
            );
            let id = found.filter(|found| found.controller == SMMU);
            largest = largest.max(id.map(|found| found.id));
        }
        // For maps without overlaps it is exact, and never too small.
        assert!(map.largest_id(SMMU) >= largest);
    }
    let map = iommu_map(&[[0, SMMU, 0, 0x1_0000]], Some(0xfff8)).unwrap();
    assert_eq!(map.largest_id(SMMU), Some(0xfff8));
    assert_eq!(map.largest_id(OTHER), None);
}

#[test]
fn a_bridge_without_a_map_has_none() {
    assert_eq!(read(&tree([]), RequesterMap::iommu), Ok(None));
    assert_eq!(read(&tree([]), RequesterMap::msi), Ok(None));
}

#[test]
fn what_the_boot_loader_has_not_filled_in_maps_nothing() {
    let map = iommu_map(&[[0, SMMU, 0, 0]], None).unwrap();
    assert_eq!((map.find(0), map.largest_id(SMMU)), (None, None));
}

#[test]
fn messages_have_a_map_of_their_own() {
    let map = cells("msi-map", &[0, 2, 0x100, 0x1_0000]);
    let map = read(&tree([map]), RequesterMap::msi).unwrap().unwrap();
    let (controller, id) = (2, 0x108);
    assert_eq!(map.find(8), Some(MappedId { controller, id }));
}

#[test]
fn broken_maps_are_refused() {
    let malformed = "/pcie@10000000: iommu-map must be entries of a first requester id, a \
                     controller's phandle, a first id and a count";
    for entry in [
        [u32::MAX, SMMU, 0, 2],
        [0, SMMU, u32::MAX, 2],
        // No node, and no IOMMU.
        [0, 0x99, 0, 1],
        [0, 1, 0, 1],
    ] {
        assert_eq!(iommu_map(&[entry], None), Err(malformed.into()));
    }
    assert!(iommu_map(&[[u32::MAX, SMMU, u32::MAX, 1]], None).is_ok());
    let short = cells("iommu-map", &[0, SMMU, 0]);
    assert_eq!(
        read(&tree([short]), RequesterMap::iommu),
        Err("/pcie@10000000: iommu-map is 12 bytes long: it must be a multiple of 16".into())
    );
    let map = cells("iommu-map", &[0, SMMU, 0, 1]);
    let mask = text("iommu-map-mask", "every");
    let error = read(&tree([map, mask]), RequesterMap::iommu).unwrap_err();
    assert_eq!(error, "/pcie@10000000: iommu-map-mask must be one cell");
}

#[test]
fn nothing_in_an_entry_overflows() {
    let extremes: Vec<u32> = std::vec![0, 1, 0x7fff_ffff, 0xffff, 0x1_0000, u32::MAX];
    for &first in &extremes {
        for &base in &extremes {
            for &count in &extremes {
                let entries = [[first, SMMU, base, count]];
                let Ok(map) = iommu_map(&entries, None) else {
                    continue;
                };
                for requester in [0, 1, 0xffff] {
                    let expected = reference(&entries, u32::MAX, requester);
                    assert_eq!(map.find(requester), expected);
                }
                let _ = map.largest_id(SMMU);
            }
        }
    }
}
