//! Device trees: QEMU's own, and edits of it.

use anyhow::{Context as _, Result, anyhow};
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use xtask::qemu::{Console, Machine};

/// The device tree that QEMU makes for a machine.
///
/// # Errors
/// If QEMU does not start, or its tree is none.
pub fn dump(machine: &Machine) -> Result<DeviceTree> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("machine.dtb");
    let output = machine
        .command(Console::Pipe)
        .arg("-machine")
        .arg(format!("dumpdtb={}", file.display()))
        .output()
        .context("cannot start qemu-system-aarch64")?;
    let blob = std::fs::read(&file)
        .with_context(|| format!("QEMU: {}", String::from_utf8_lossy(&output.stderr)))?;
    let fdt = Fdt::new(&blob).map_err(|error| anyhow!("QEMU's device tree: {error}"))?;
    Ok(DeviceTree::from_fdt(&fdt))
}

/// A node of the tree.
///
/// # Errors
/// If there is none at that path.
pub fn node<'a>(tree: &'a mut DeviceTree, path: &str) -> Result<&'a mut DeviceTreeNode> {
    tree.find_node_mut(path)
        .with_context(|| format!("no node {path}"))
}

/// Adds a boot module that claims to be `size` bytes at `address`.
///
/// # Errors
/// If the tree has no `/chosen`.
pub fn add_module(tree: &mut DeviceTree, kind: &str, address: u64, size: u64) -> Result<()> {
    let chosen = node(tree, "/chosen")?;
    set(chosen, "#address-cells", &2_u32.to_be_bytes());
    set(chosen, "#size-cells", &2_u32.to_be_bytes());
    chosen.add_child(module(kind, address, size));
    Ok(())
}

/// The node of a boot module of `size` bytes at `address`.
#[must_use]
pub fn module(kind: &str, address: u64, size: u64) -> DeviceTreeNode {
    new_node(
        &format!("module@{address:x}"),
        &[
            ("compatible", &compatible(&[kind, "multiboot,module"])),
            ("reg", &reg(address, size)),
        ],
    )
}

/// A node with these properties.
#[must_use]
pub fn new_node(name: &str, properties: &[(&str, &[u8])]) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    for (name, value) in properties {
        set(&mut node, name, value);
    }
    node
}

/// Gives a property its value, whether or not it was there.
pub fn set(node: &mut DeviceTreeNode, name: &str, value: &[u8]) {
    node.remove_property(name);
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

/// A range with two cells each for address and size.
#[must_use]
pub fn reg(address: u64, size: u64) -> Vec<u8> {
    [address.to_be_bytes(), size.to_be_bytes()].concat()
}

fn compatible(names: &[&str]) -> Vec<u8> {
    names
        .iter()
        .flat_map(|name| name.bytes().chain([0]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use dtoolkit::{Node, Property};

    #[test]
    fn a_module_is_what_a_boot_loader_writes() {
        let mut tree = DeviceTree::new();
        tree.root.add_child(DeviceTreeNode::new_unchecked("chosen"));
        add_module(&mut tree, "multiboot,kernel", 0x4900_0000, 0x1000).unwrap();
        let blob = tree.to_dtb();
        let tree = DeviceTree::from_fdt(&Fdt::new(&blob).unwrap());
        let module = tree.find_node("/chosen/module@49000000").unwrap();
        let value = |name: &str| module.property(name).unwrap().value().to_vec();
        assert_eq!(value("compatible"), b"multiboot,kernel\0multiboot,module\0");
        assert_eq!(
            value("reg"),
            [0, 0, 0, 0, 0x49, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0]
        );
    }
}
