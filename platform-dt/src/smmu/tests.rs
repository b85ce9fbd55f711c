use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use dtoolkit::model::DeviceTreeNode;
use xen_types::{Hpa, Spi, Trigger};

use super::*;
use crate::tests::corpus;
use crate::tests::fixtures::{Fixture, cells, flag, node, qemu_gicv3, strings, text};

const PHANDLE: u32 = 0x10;
const PATH: &str = "/smmuv3@9050000";

/// As QEMU describes it.
fn smmu() -> DeviceTreeNode {
    let properties = [
        text("compatible", "arm,smmu-v3"),
        cells("reg", &[0, 0x905_0000, 0, 0x2_0000]),
        cells("interrupts", &[0, 74, 1, 0, 75, 1, 0, 76, 1, 0, 77, 1]),
        strings(
            "interrupt-names",
            &["eventq", "priq", "cmdq-sync", "gerror"],
        ),
        flag("dma-coherent"),
        cells("#iommu-cells", &[1]),
        cells("phandle", &[PHANDLE]),
    ];
    node("smmuv3@9050000", properties, [])
}

fn tree() -> Fixture {
    let map = cells("iommu-map", &[0, PHANDLE, 0, 0x1_0000]);
    qemu_gicv3()
        .with("/", smmu())
        .with("/", node("pcie@10000000", [map], []))
}

fn with<T>(tree: &Fixture, read: impl Fn(&Dtb<'_>) -> T) -> T {
    let blob = tree.blob();
    read(&Dtb::parse(&blob).unwrap())
}

fn all(tree: &Fixture) -> Result<Vec<SmmuV3>, String> {
    with(tree, SmmuV3::all).map_err(|error| error.to_string())
}

fn bits(tree: &Fixture) -> Result<u32, String> {
    let smmu = all(tree).unwrap().remove(0);
    with(tree, |dtb| smmu.stream_bits(dtb)).map_err(|error| error.to_string())
}

fn edge(spi: u32) -> Option<Interrupt> {
    let id = Spi::new(spi).unwrap().into();
    let trigger = Trigger::Edge;
    Some(Interrupt { id, trigger })
}

#[test]
fn qemus_smmu_is_found() {
    let expected = SmmuV3 {
        path: PATH.into(),
        registers: HpaRange::new(Hpa::new(0x905_0000), 0x2_0000).unwrap(),
        phandle: Some(PHANDLE),
        coherent: true,
        events: edge(74),
        errors: edge(77),
    };
    assert_eq!(all(&tree()), Ok(vec![expected]));
    assert_eq!(bits(&tree()), Ok(16));
}

#[test]
fn one_interrupt_may_stand_for_all() {
    let tree = tree()
        .set(PATH, cells("interrupts", &[0, 9, 1]))
        .set(PATH, strings("interrupt-names", &["combined"]))
        .without(PATH, "dma-coherent");
    let smmu = all(&tree).unwrap().remove(0);
    assert_eq!((smmu.events, smmu.errors), (edge(9), edge(9)));
    assert!(!smmu.coherent);
    let tree = tree.without(PATH, "interrupts");
    assert_eq!(all(&tree).unwrap()[0].events, None);
}

#[test]
fn what_is_not_usable_is_left_out() {
    assert_eq!(all(&qemu_gicv3()), Ok(vec![]));
    let tree = tree().set(PATH, text("status", "disabled"));
    assert_eq!(all(&tree), Ok(vec![]));
}

#[test]
fn half_an_smmu_is_refused() {
    let small = tree().set(PATH, cells("reg", &[0, 0x905_0000, 0, 0x1_0000]));
    assert_eq!(
        all(&small).unwrap_err(),
        "/smmuv3@9050000: reg is 0x10000: it must be at least 0x20000 bytes, two register pages"
    );
    let none = tree().without(PATH, "reg");
    assert_eq!(all(&none).unwrap_err(), "/smmuv3@9050000: has no reg");
}

#[test]
fn devices_name_their_streams() {
    let iommus = cells("iommus", &[PHANDLE, 0x1_2345, PHANDLE, 7]);
    let tree = tree().with("/", node("ethernet", [iommus], []));
    let read = |tree: &Fixture| {
        with(tree, |dtb| {
            let node = dtb.nodes().find(|node| node.name() == "ethernet").unwrap();
            IommuReference::of(node).map_err(|error| error.to_string())
        })
    };
    let streams: Vec<_> = read(&tree)
        .unwrap()
        .iter()
        .map(IommuReference::stream)
        .collect();
    assert_eq!(streams, [Some(0x1_2345), Some(7)]);
    assert_eq!(bits(&tree), Ok(17));
    let malformed = "/ethernet: iommus must be phandles of IOMMUs, each with the cells that its \
                     #iommu-cells wants";
    for broken in [&[PHANDLE][..], &[0x99, 1], &[PHANDLE, 1, 1, 2]] {
        let tree = tree_with(broken);
        assert_eq!(read(&tree).unwrap_err(), malformed);
        assert_eq!(bits(&tree).unwrap_err(), malformed);
    }
    // An SMMUv2 has a mask, too: no SMMUv3's stream.
    let tree = tree_with(&[PHANDLE, 1, 2]).set(PATH, cells("#iommu-cells", &[2]));
    assert_eq!(read(&tree).unwrap()[0].cells, [1, 2]);
    assert_eq!(read(&tree).unwrap()[0].stream(), None);
}

fn tree_with(iommus: &[u32]) -> Fixture {
    tree().with("/", node("ethernet", [cells("iommus", iommus)], []))
}

#[test]
fn the_streams_of_real_boards_are_read() {
    let Some(directory) = std::env::var_os(corpus::DIRECTORY) else {
        std::eprintln!("SKIPPED: no corpus: `cargo xtask test` fetches one");
        return;
    };
    let (mut smmus, mut refused) = (0, Vec::new());
    for path in corpus::trees_below(directory.as_ref()) {
        let blob = std::fs::read(&path).unwrap();
        let dtb = Dtb::parse(&blob).unwrap();
        let name = path.file_name().unwrap().to_string_lossy();
        smmus += SmmuV3::all(&dtb).unwrap().len();
        for node in dtb.nodes() {
            let references = IommuReference::of(node).map(|_| ());
            let map = RequesterMap::iommu(node).map(|_| ());
            let messages = RequesterMap::msi(node).map(|_| ());
            let errors = [references, map, messages]
                .into_iter()
                .filter_map(Result::err);
            refused.extend(errors.map(|error| std::format!("{name}: {error}")));
        }
    }
    assert!(smmus > 0);
    assert_eq!(refused, Vec::<String>::new());
}
