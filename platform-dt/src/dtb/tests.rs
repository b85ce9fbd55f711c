use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::*;
use crate::tests::fixtures::{Fixture, bytes, cells, node, qemu_gicv2, rcar_h3, strings, text};

fn refused(blob: &[u8]) -> String {
    Dtb::parse(blob).err().unwrap().to_string()
}

/// The blob with the header's word `index` replaced.
fn with_header(index: usize, word: u32) -> Vec<u8> {
    let mut blob = qemu_gicv2().blob();
    blob[4 * index..][..4].copy_from_slice(&word.to_be_bytes());
    blob
}

/// A blob of these tokens, with "p" as the only property name.
fn of_tokens(tokens: &[u32]) -> Vec<u8> {
    let structure = 4 * tokens.len() as u32;
    let header = [
        0xd00d_feed,
        58 + structure,
        56,
        56 + structure,
        40,
        17,
        16,
        0,
        2,
        structure,
    ];
    let words = header.iter().chain(&[0; 4]).chain(tokens);
    let mut blob: Vec<u8> = words.flat_map(|word| word.to_be_bytes()).collect();
    blob.extend(b"p\0");
    blob
}

const BEGIN: u32 = 1;
const END: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;
const FINISH: u32 = 9;
/// The name "a".
const A: u32 = 0x6100_0000;

#[test]
fn the_size_comes_from_the_header_alone() {
    let blob = qemu_gicv2().blob();
    assert_eq!(Dtb::total_size(&blob[..40]), Ok(blob.len()));
    assert_eq!(
        Dtb::total_size(&blob[..39]).unwrap_err().to_string(),
        "device tree: truncated: 39 of 40 bytes"
    );
}

#[test]
fn a_header_that_is_wrong_says_so() {
    assert_eq!(
        refused(&with_header(0, 0x4d5a_9000)),
        "device tree: it begins with 0x4d5a9000, not with the magic number 0xd00dfeed"
    );
    assert_eq!(
        refused(&with_header(5, 2)),
        "device tree: version 2, compatible back to 16: versions 16 and 17 are supported"
    );
    assert_eq!(
        refused(&with_header(1, 3 << 20)),
        "device tree: a size of 3145728 bytes: it must be 40 to 2097152"
    );
    assert_eq!(
        refused(&with_header(2, 0x10_0000)),
        "device tree: the structure block lies outside the blob"
    );
    assert_eq!(
        refused(&with_header(2, 58)),
        "device tree: the structure block is not aligned to 4 bytes"
    );
    assert_eq!(
        refused(&with_header(3, u32::MAX)),
        "device tree: the strings block lies outside the blob"
    );
}

#[test]
fn every_truncation_is_refused() {
    let blob = qemu_gicv2().blob();
    for size in 0..blob.len() {
        let needed = if size < 40 { 40 } else { blob.len() };
        let error = Dtb::parse(&blob[..size]).err();
        assert_eq!(error, Some(TreeError::Truncated { size, needed }));
    }
}

#[test]
fn bytes_after_the_blob_are_ignored() {
    let mut blob = qemu_gicv2().blob();
    let size = blob.len();
    blob.extend([0xff; 64]);
    assert_eq!(Dtb::parse(&blob).unwrap().blob().len(), size);
}

#[test]
fn version_16_has_no_structure_size() {
    let mut blob = with_header(5, 16);
    blob[36..40].fill(0xff);
    let nodes = |blob: &[u8]| Dtb::parse(blob).unwrap().nodes().count();
    assert_eq!(nodes(&blob), nodes(&qemu_gicv2().blob()));
}

#[test]
fn nops_may_stand_anywhere() {
    let blob = of_tokens(&[
        NOP, BEGIN, 0, NOP, PROPERTY, 0, 0, NOP, BEGIN, A, NOP, END, NOP, END, NOP, FINISH,
    ]);
    let dtb = Dtb::parse(&blob).unwrap();
    assert!(dtb.root().property("p").is_some());
    assert_eq!(dtb.node("/a").unwrap().to_string(), "/a");
    assert_eq!(dtb.nodes().count(), 2);
}

#[test]
fn tokens_that_make_no_tree_are_refused() {
    let cases: &[(&[u32], &str)] = &[
        (
            &[],
            "after the header, at offset 0x0 of the structure block: the block ends too early",
        ),
        (
            &[FINISH],
            "after the header, at offset 0x0 of the structure block: the tree ends inside a node",
        ),
        (
            &[END, FINISH],
            "after the header, at offset 0x0 of the structure block: a node ends that did not begin",
        ),
        (
            &[BEGIN, A, END, FINISH],
            "after the header, at offset 0x0 of the structure block: the root must have no name and all others one",
        ),
        (
            &[BEGIN, 0, BEGIN, 0, END, END, FINISH],
            "after /, at offset 0x8 of the structure block: the root must have no name and all others one",
        ),
        (
            &[BEGIN, 0, END, BEGIN, 0, END, FINISH],
            "after /, at offset 0xc of the structure block: a second root",
        ),
        (
            &[BEGIN, 0, BEGIN, A, END, PROPERTY, 0, 0, END, FINISH],
            "after /a, at offset 0x14 of the structure block: a property outside a node or after a child",
        ),
        (
            &[BEGIN, 0, PROPERTY, 99, 0, END, FINISH],
            "after /, at offset 0x14 of the structure block: a value reaches beyond the block",
        ),
        (
            &[BEGIN, 0, PROPERTY, 0, 9, END, FINISH],
            "after /, at offset 0xc of the structure block: a property's name is malformed",
        ),
        (
            &[BEGIN, 0, BEGIN, 0x612f_6200, END, END, FINISH],
            "after /, at offset 0xc of the structure block: a node's name is malformed",
        ),
        (
            &[BEGIN, 0, 7],
            "after /, at offset 0x8 of the structure block: unknown token",
        ),
    ];
    for (tokens, message) in cases {
        assert_eq!(
            refused(&of_tokens(tokens)),
            format!("device tree: {message}")
        );
    }
}

/// A tree whose nodes "n" are nested so that the deepest is at `depth`, the root being at 1.
fn nested(depth: usize) -> Vec<u8> {
    let mut innermost = node("n", [], []);
    for _ in 2..depth {
        innermost = node("n", [], [innermost]);
    }
    Fixture::new(node("", [], [innermost])).blob()
}

#[test]
fn depth_is_limited() {
    assert_eq!(Dtb::parse(&nested(15)).unwrap().nodes().count(), 15);
    assert_eq!(
        refused(&nested(16)),
        "/n/n/n/n/n/n/n/n/n/n/n/n/n/n: has children: nodes may be nested at most 15 deep"
    );
    let mut bomb = of_tokens(&[[BEGIN, A]; 1000].concat());
    bomb[60..64].fill(0);
    assert!(refused(&bomb).ends_with("nodes may be nested at most 15 deep"));
}

#[test]
fn properties_that_reading_depends_on_have_their_form() {
    let cases = [
        (
            cells("#address-cells", &[5]),
            "/soc: #address-cells is 0x5: it must be at most 4",
        ),
        (
            cells("#size-cells", &[0, 1]),
            "/soc: #size-cells must be 4 bytes long",
        ),
        (
            bytes("#interrupt-cells", &[3]),
            "/soc: #interrupt-cells must be 4 bytes long",
        ),
        (bytes("phandle", &[]), "/soc: phandle must be 4 bytes long"),
        (
            cells("interrupt-parent", &[1, 2]),
            "/soc: interrupt-parent must be 4 bytes long",
        ),
        (
            bytes("compatible", b"simple-bus"),
            "/soc: compatible must be text in UTF-8 that ends in a NUL",
        ),
        (
            bytes("status", b"\xff\0"),
            "/soc: status must be text in UTF-8 that ends in a NUL",
        ),
    ];
    for (property, message) in cases {
        let blob = rcar_h3().set("/soc", property).blob();
        assert_eq!(refused(&blob), message);
    }
}

#[test]
fn names_are_longer_than_the_specification_allows() {
    let name = "a-property-name-of-far-more-than-thirty-one-letters";
    let tree = rcar_h3().set("/soc", text(name, "x"));
    let blob = tree
        .with(
            "/soc",
            node("a-node-name-of-far-more-than-thirty-one@1", [], []),
        )
        .blob();
    let dtb = Dtb::parse(&blob).unwrap();
    assert!(dtb.node("/soc").unwrap().property(name).is_some());
    assert!(
        dtb.node("/soc/a-node-name-of-far-more-than-thirty-one")
            .is_some()
    );
}

#[test]
fn a_long_path_is_cut_in_an_error() {
    let name = "x".repeat(200);
    let child = node(&name, [bytes("phandle", &[])], []);
    let message = refused(&Fixture::new(node("", [], [child])).blob());
    let path = format!("/{}…", "x".repeat(124));
    assert_eq!(message, format!("{path}: phandle must be 4 bytes long"));
}

#[test]
fn paths_find_nodes() {
    let blob = rcar_h3().blob();
    let dtb = Dtb::parse(&blob).unwrap();
    for node in dtb.nodes() {
        assert_eq!(dtb.node(&node.to_string()), Some(node));
    }
    let uart = dtb.node("/soc/serial").unwrap();
    assert_eq!(uart.to_string(), "/soc/serial@e6e88000");
    assert_eq!(uart.parent(), dtb.node("/soc"));
    assert_eq!(dtb.node("/soc/serial@0"), None);
    assert_eq!(dtb.node("soc"), None);
    assert_eq!(dtb.root().parent(), None);
}

#[test]
fn aliases_find_nodes() {
    let tree = rcar_h3().set("/aliases", text("soc0", "/soc"));
    let blob = tree.blob();
    let dtb = Dtb::parse(&blob).unwrap();
    let uart = dtb.node("/soc/serial@e6e88000").unwrap();
    assert_eq!(dtb.resolve("x", "serial0"), Ok(uart));
    assert_eq!(dtb.resolve("x", "soc0/serial@e6e88000"), Ok(uart));
    assert_eq!(
        dtb.resolve("dtuart=", "serial1").unwrap_err().to_string(),
        "dtuart=: serial1 names no node; did you mean serial0?"
    );
    assert_eq!(
        dtb.resolve("dtuart=", "/soc/serial@e6e88001")
            .unwrap_err()
            .to_string(),
        "dtuart=: /soc/serial@e6e88001 names no node; did you mean serial@e6e88000?"
    );
}

#[test]
fn addresses_pass_every_bus() {
    // Three cells below two below one; the middle bus leaves addresses as they are.
    let device = node(
        "dev@0",
        [cells("reg", &[0x0200_0000, 0, 0x4000, 0x1000])],
        [],
    );
    let inner_ranges = [0x0200_0000, 0, 0, 0, 0x1000_0000, 0x1_0000];
    let inner = node(
        "inner",
        [
            cells("#address-cells", &[3]),
            cells("#size-cells", &[1]),
            cells("ranges", &inner_ranges),
        ],
        [device],
    );
    let middle = node("middle", [bytes("ranges", &[])], [inner]);
    let outer_ranges = [0, 0, 0xc000_0000, 0x2000_0000];
    let outer = node(
        "outer",
        [
            cells("#address-cells", &[2]),
            cells("#size-cells", &[1]),
            cells("ranges", &outer_ranges),
        ],
        [middle],
    );
    let root = [cells("#address-cells", &[1]), cells("#size-cells", &[1])];
    let tree = Fixture::new(node("", root, [outer]));
    let registers = |blob: &[u8]| {
        let dtb = Dtb::parse(blob).unwrap();
        let node = dtb.node("/outer/middle/inner/dev@0").unwrap();
        node.registers(0)
            .map(|range| range.unwrap().to_string())
            .map_err(|error| error.to_string())
    };
    assert_eq!(registers(&tree.blob()), Ok("0xd0004000-0xd0004fff".into()));

    let bus = "/outer/middle/inner";
    let too_short = tree.set(
        bus,
        cells("ranges", &[0x0200_0000, 0, 0, 0, 0x1000_0000, 0x4800]),
    );
    assert_eq!(
        registers(&too_short.blob()),
        Err(
            "/outer/middle/inner/dev@0: its address 0x20000000000000000004000 cannot be reached: \
             /outer/middle/inner has no ranges for it"
                .into()
        )
    );
    let none = too_short.without(bus, "ranges");
    assert!(
        registers(&none.blob())
            .unwrap_err()
            .ends_with("/outer/middle/inner has no ranges for it")
    );
    let uneven = none.set(bus, cells("ranges", &[1, 2, 3]));
    assert_eq!(
        registers(&uneven.blob()),
        Err("/outer/middle/inner: ranges is 12 bytes long: it must be a multiple of 24".into())
    );
}

#[test]
fn interrupts_reach_the_gic() {
    let extended = [1, 0, 7, 1, 2, 5, 1, 1, 13, 0xf08];
    let tree = rcar_h3()
        .with(
            "/soc",
            node(
                "pin",
                [cells("#interrupt-cells", &[1]), cells("phandle", &[2])],
                [],
            ),
        )
        .with(
            "/soc",
            node("dev@1", [cells("interrupts-extended", &extended)], []),
        )
        .with(
            "/soc",
            node(
                "dev@2",
                [cells("interrupts", &[5]), cells("interrupt-parent", &[2])],
                [],
            ),
        )
        .with("/soc", node("dev@3", [strings("interrupts", &["x"])], []));
    let blob = tree.blob();
    let dtb = Dtb::parse(&blob).unwrap();
    let interrupt = |path: &str, index| {
        let interrupt = dtb.node(path).unwrap().interrupt(index)?;
        Some(format!("{} {:?}", interrupt.id, interrupt.trigger))
    };
    assert_eq!(interrupt("/soc/serial", 0), Some("SPI 164 Level".into()));
    assert_eq!(interrupt("/soc/serial", 1), None);
    assert_eq!(interrupt("/soc/dev@1", 0), Some("SPI 7 Edge".into()));
    assert_eq!(interrupt("/soc/dev@1", 1), None);
    assert_eq!(interrupt("/soc/dev@1", 2), Some("PPI 13 Level".into()));
    assert_eq!(interrupt("/soc/dev@2", 0), None);
    assert_eq!(interrupt("/soc/dev@3", 0), None);
    assert_eq!(interrupt("/cpus", 0), None);
}
