use std::string::{String, ToString};
use std::vec::Vec;

use super::*;
use crate::tests::fixtures::{self, qemu_gicv2, rcar_h3, text};

/// A node's path and properties.
type Contents = (String, Vec<(String, Vec<u8>)>);

/// All nodes of a tree.
fn contents(dtb: &Dtb<'_>) -> Vec<Contents> {
    let properties = |node: Node<'_>| {
        let own = |p: Property<'_>| (p.name.to_string(), p.value.to_vec());
        node.properties().map(own).collect()
    };
    dtb.nodes()
        .map(|node| (node.to_string(), properties(node)))
        .collect()
}

#[test]
fn a_copy_says_the_same() {
    for (name, tree) in fixtures::all() {
        let blob = tree.blob();
        let original = Dtb::parse(&blob).unwrap();
        let copy = HostTree::reencode(&original).unwrap();
        assert_eq!(contents(&copy.dtb()), contents(&original), "{name}");
        assert_eq!(
            copy.fdt().all_nodes().count(),
            original.nodes().count(),
            "{name}"
        );
    }
}

#[test]
fn reservations_are_kept() {
    let mut tree = qemu_gicv2();
    let entries = [(0x4000_0000, 0x1000), (0x1234, 0), (1 << 40, 5)];
    let reservations = entries.map(|(address, size)| MemoryReservation::new(address, size));
    tree.0.memory_reservations.extend(reservations);
    let blob = tree.blob();
    let copy = HostTree::reencode(&Dtb::parse(&blob).unwrap()).unwrap();
    assert_eq!(copy.dtb().raw_reservations().collect::<Vec<_>>(), entries);
}

#[test]
fn nops_are_gone() {
    let mut blob = rcar_h3().blob();
    let original = Dtb::parse(&blob).unwrap().nodes().count();
    // /aliases is the first child of the root, after its properties.
    let begin = blob
        .windows(8)
        .position(|bytes| bytes == b"aliases\0")
        .unwrap()
        - 4;
    let end = blob[begin..]
        .windows(4)
        .position(|bytes| bytes == [0, 0, 0, 2])
        .unwrap();
    for word in blob[begin..begin + end + 4].chunks_exact_mut(4) {
        word.copy_from_slice(&[0, 0, 0, 4]);
    }
    let dtb = Dtb::parse(&blob).unwrap();
    assert_eq!(dtb.nodes().count(), original - 1);
    let copy = HostTree::reencode(&dtb).unwrap();
    assert!(copy.blob().len() < blob.len());
    assert_eq!(contents(&copy.dtb()), contents(&dtb));
}

#[test]
fn nothing_may_occur_twice() {
    // Renames what was written under another name of the same length.
    let twice = |other: &[u8], name: &[u8]| {
        let tree = rcar_h3()
            .set("/soc", text("first", ""))
            .set("/soc", text("other", ""));
        let mut blob = tree.blob();
        let place = blob
            .windows(other.len())
            .position(|bytes| bytes == other)
            .unwrap();
        blob[place..place + name.len()].copy_from_slice(name);
        let dtb = Dtb::parse(&blob).unwrap();
        HostTree::reencode(&dtb).err().unwrap().to_string()
    };
    assert_eq!(
        twice(b"memory@600000000\0", b"memory@500000000\0"),
        "/: memory@500000000 occurs twice"
    );
    assert_eq!(twice(b"other\0", b"first\0"), "/soc: first occurs twice");
}
