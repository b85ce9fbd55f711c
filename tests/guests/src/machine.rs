//! What the device tree says that a guest needs to know.

use fdt::Fdt;
use fdt::node::FdtNode;

use crate::gic::Gic;
use crate::mmu;

/// The machine that the hypervisor shows.
pub struct Machine {
    /// Its interrupt controller.
    pub gic: Gic,
    /// The registers of its first ITS.
    pub its: Option<u64>,
    /// The config space of its PCI host bridge.
    pub ecam: Option<u64>,
    /// The registers of its serial port, if it has one of its own.
    pub uart: Option<u64>,
    /// Where the bank of RAM ends that the guest is in.
    pub ram_end: u64,
    arguments: &'static str,
}

impl Machine {
    /// Reads the device tree.
    ///
    /// # Safety
    /// There must be a complete tree at the address, to which nobody writes.
    pub unsafe fn from_tree(tree: *const u8) -> Self {
        // SAFETY: as the caller says.
        let tree: Fdt<'static> = unsafe { Fdt::from_ptr(tree) }.expect("a device tree in x0");
        Self {
            gic: gic(&tree).expect("an interrupt controller in the device tree"),
            its: its(&tree),
            ecam: ecam(&tree),
            uart: uart(&tree),
            ram_end: ram_end(&tree).expect("memory in the device tree"),
            arguments: tree.chosen().bootargs().unwrap_or_default(),
        }
    }

    /// The words of the command line.
    pub fn words(&self) -> impl Iterator<Item = &'static str> {
        self.arguments.split_ascii_whitespace()
    }

    /// The number that a word `name=NUMBER` of the command line gives.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.words()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .and_then(|text| text.parse().ok())
    }

    /// Whether the command line has a word.
    pub fn has(&self, wanted: &str) -> bool {
        self.words().any(|word| word == wanted)
    }
}

fn gic(tree: &Fdt<'_>) -> Option<Gic> {
    if let Some(node) = tree.find_compatible(&["arm,gic-v3"]) {
        let [distributor, redistributors] = registers(node)?;
        return Some(Gic::V3 {
            distributor,
            redistributors,
        });
    }
    let node = tree.find_compatible(&["arm,gic-400", "arm,cortex-a15-gic"])?;
    let [distributor, cpu_interface] = registers(node)?;
    Some(Gic::V2 {
        distributor,
        cpu_interface,
    })
}

fn its(tree: &Fdt<'_>) -> Option<u64> {
    let node = tree.find_compatible(&["arm,gic-v3-its"])?;
    Some(node.reg()?.next()?.starting_address as u64)
}

fn ecam(tree: &Fdt<'_>) -> Option<u64> {
    let node = tree.find_compatible(&["pci-host-ecam-generic"])?;
    Some(node.reg()?.next()?.starting_address as u64)
}

/// The port that a hypervisor gives a guest; the host's, which a control domain may see, is another.
fn uart(tree: &Fdt<'_>) -> Option<u64> {
    let node = tree.find_compatible(&["arm,sbsa-uart"])?;
    Some(node.reg()?.next()?.starting_address as u64)
}

fn ram_end(tree: &Fdt<'_>) -> Option<u64> {
    let own = mmu::image().start;
    tree.memory().regions().find_map(|bank| {
        let start = bank.starting_address as u64;
        let end = start + bank.size? as u64;
        (start..end).contains(&own).then_some(end)
    })
}

/// The addresses of a node's first two ranges of registers.
fn registers(node: FdtNode<'_, '_>) -> Option<[u64; 2]> {
    let mut ranges = node.reg()?.map(|range| range.starting_address as u64);
    Some([ranges.next()?, ranges.next()?])
}
