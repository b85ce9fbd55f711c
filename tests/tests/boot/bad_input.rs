//! What cannot be booted ends in one line that names the node and the fault.

use anyhow::{Context as _, Result, ensure};
use dtoolkit::model::DeviceTree;
use tests::case::{Case, IMAGE_ADDRESS, TREE_ADDRESS};
use tests::dtb;
use xtask::qemu::{Machine, Memory};

use super::Test;

/// How a tree is spoilt.
type Edit = fn(&mut DeviceTree) -> Result<()>;

/// Name, edit, and what the line has to name.
const TREES: [(&str, Edit, &str); 6] = [
    ("overlapping-memory", overlapping_memory, "/memory@48000000"),
    ("no-memory", no_memory, "memory"),
    ("empty-memory", empty_memory, "memory"),
    (
        "module-outside-ram",
        module_outside_ram,
        "/chosen/module@900000000",
    ),
    ("modules-overlap", modules_overlap, "/chosen/module@4a0"),
    (
        "module-over-image",
        module_over_image,
        "/chosen/module@44000000",
    ),
];

pub fn tests() -> Vec<Test> {
    let mut tests: Vec<_> = TREES
        .into_iter()
        .map(|(name, edit, named)| {
            Test::new(format!("bad-input::{name}"), move |case| {
                refuses_tree(case, edit, named)
            })
        })
        .collect();
    tests.push(Test::new("bad-input::no-tree", |case| refuses_x0(case, 0)));
    tests.push(Test::new("bad-input::wrong-magic", |case| {
        refuses_x0(case, TREE_ADDRESS)
    }));
    tests.push(Test::new("bad-input::unaligned-tree", |case| {
        refuses_x0(case, TREE_ADDRESS + 1)
    }));
    tests.push(Test::new("bad-input::truncated-tree", truncated));
    tests.push(Test::new("bad-input::huge-tree", huge));
    tests
}

fn machine(case: &Case) -> Machine {
    Machine {
        cpus: 1,
        memory: Memory::gib(1),
        ..case.virt()
    }
}

fn refuses_tree(case: &Case, edit: Edit, named: &str) -> Result<()> {
    let mut tree = dtb::dump(&machine(case))?;
    edit(&mut tree)?;
    let fault = case.refuses(&case.with_tree(&machine(case), &tree.to_dtb())?)?;
    ensure!(fault.contains(named), "`{fault}` does not name {named}");
    Ok(())
}

/// Memory at `x0` is not a device tree.
fn refuses_x0(case: &Case, x0: u64) -> Result<()> {
    let fault = case.refuses(&case.entered_with(&machine(case), x0)?)?;
    ensure!(fault.contains("device tree"), "{fault}");
    Ok(())
}

/// The second half of the tree never arrived in memory.
fn truncated(case: &Case) -> Result<()> {
    let tree = dtb::dump(&machine(case))?.to_dtb();
    let half = tree.get(..tree.len() / 2).context("an empty tree")?;
    case.refuses(&case.with_tree(&machine(case), half)?)
        .map(drop)
}

/// The tree says that it is larger than any tree.
fn huge(case: &Case) -> Result<()> {
    let mut tree = dtb::dump(&machine(case))?.to_dtb();
    tree.get_mut(4..8)
        .context("an empty tree")?
        .copy_from_slice(&u32::MAX.to_be_bytes());
    case.refuses(&case.with_tree(&machine(case), &tree)?)
        .map(drop)
}

fn overlapping_memory(tree: &mut DeviceTree) -> Result<()> {
    let second = dtb::new_node(
        "memory@48000000",
        &[
            ("device_type", b"memory\0"),
            ("reg", &dtb::reg(0x4800_0000, 0x1000_0000)),
        ],
    );
    tree.root.add_child(second);
    Ok(())
}

fn no_memory(tree: &mut DeviceTree) -> Result<()> {
    tree.root
        .remove_child("memory@40000000")
        .map(drop)
        .context("no memory node")
}

fn empty_memory(tree: &mut DeviceTree) -> Result<()> {
    dtb::set(
        dtb::node(tree, "/memory@40000000")?,
        "reg",
        &dtb::reg(0x4000_0000, 0),
    );
    Ok(())
}

fn module_outside_ram(tree: &mut DeviceTree) -> Result<()> {
    dtb::add_module(tree, "multiboot,kernel", 0x9_0000_0000, 0x1000)
}

fn modules_overlap(tree: &mut DeviceTree) -> Result<()> {
    dtb::add_module(tree, "multiboot,kernel", 0x4a00_0000, 0x2000)?;
    dtb::add_module(tree, "multiboot,ramdisk", 0x4a00_1000, 0x2000)
}

fn module_over_image(tree: &mut DeviceTree) -> Result<()> {
    dtb::add_module(tree, "multiboot,kernel", IMAGE_ADDRESS, 0x1000)
}
