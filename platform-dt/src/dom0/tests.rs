//! Dom0's tree, rule by rule and over the trees of real boards.

mod corpus;
mod devices;
mod nodes;
mod plans;

use std::string::String;
use std::vec::Vec;

use xen_types::{Gpa, GpaRange, Hpa, HpaRange, IntId, Ppi};

use super::*;
use crate::tests::fixtures::Fixture;
use crate::{BootInfo, Dtb, Gic, Host, HostTree, Node};

/// Dom0's tree and resources.
pub(super) struct Built {
    pub blob: Vec<u8>,
    pub resources: Dom0Resources,
}

impl Built {
    pub fn dtb(&self) -> Dtb<'_> {
        Dtb::parse(&self.blob).unwrap()
    }

    /// The node of that very path.
    pub fn find(&self, path: &str) -> Option<Node<'_>> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        fn child<'a>(node: Node<'a>, name: &str) -> Option<Node<'a>> {
            node.children().find(|child| child.name() == name)
        }
        parts.try_fold(self.dtb().root(), child)
    }

    pub fn node(&self, path: &str) -> Node<'_> {
        self.find(path).unwrap_or_else(|| panic!("no {path}"))
    }

    pub fn cells(&self, path: &str, property: &str) -> Vec<u32> {
        let property = self.node(path).property(property);
        let property = property.unwrap_or_else(|| panic!("{path}: no such property"));
        property.cells().collect()
    }

    pub fn strings(&self, path: &str, property: &str) -> Vec<String> {
        let property = self.node(path).property(property).unwrap();
        property.strings().map(String::from).collect()
    }

    pub fn maps(&self, address: u64) -> bool {
        let mut ranges = self.resources.mmio.iter();
        ranges.any(|range| range.contains(Hpa::new(address)))
    }

    /// The numbers of the interrupts that Dom0 gets.
    pub fn spis(&self) -> Vec<u32> {
        let interrupts = self.resources.interrupts.iter();
        interrupts
            .map(|interrupt| match interrupt.id {
                IntId::Spi(spi) => spi.number().into(),
                other => panic!("{other} is not shared"),
            })
            .collect()
    }

    pub fn withheld(&self) -> Vec<String> {
        let withheld = self.resources.withheld.iter();
        withheld.map(|node| std::format!("{node}")).collect()
    }
}

pub(super) fn gpa(start: u64, size: u64) -> GpaRange {
    GpaRange::new(Gpa::new(start), size).unwrap()
}

/// The host's frames at the host's addresses.
fn identical(range: HpaRange) -> GpaRange {
    gpa(range.start().get(), range.size())
}

/// Dom0's tree for a blob, with two processors, memory from the first bank on, the host's kind of
/// interrupt controller without message frames, that console, those extended regions, and what `change` makes of that plan.
pub(super) fn build_blob(
    blob: &[u8],
    console: Option<&str>,
    regions: &[GpaRange],
    change: impl FnOnce(&mut Dom0Plan<'_>),
) -> Result<Built, Dom0Error> {
    let dtb = Dtb::parse(blob).unwrap();
    let tree = HostTree::reencode(&dtb).unwrap();
    let host = Host::read(&tree).unwrap();
    let ram = BootInfo::read(&dtb, &[]).map(|info| info.ram[0].start().get());
    // Boards whose boot loader adds the memory: high up, or where one cell reaches.
    let elsewhere = match dtb.root().cell_sizes().address {
        1 => 0x4000_0000,
        _ => 1 << 44,
    };
    let memory = [gpa(ram.unwrap_or(elsewhere), 0x400_0000)];
    let redistributors: Vec<GpaRange> = match &host.gic {
        Gic::V2(_) => Vec::new(),
        Gic::V3(gic) => gic.redistributors.iter().copied().map(identical).collect(),
    };
    let mut plan = Dom0Plan {
        memory: &memory,
        vcpus: 2,
        command_line: Some("console=hvc0"),
        ramdisk: None,
        hypervisor: HypervisorNode {
            grant_window: gpa(memory[0].start().get() + 0x800_0000, 0x4_0000),
            extended_regions: regions,
            extended_space: None,
            event_ppi: Ppi::new(15).unwrap(),
        },
        gic: match &host.gic {
            Gic::V2(gic) => GuestGic::V2 {
                distributor: identical(gic.distributor),
                cpu_interface: identical(gic.cpu_interface),
                v2m_frames: &[],
            },
            Gic::V3(gic) => GuestGic::V3 {
                distributor: identical(gic.distributor),
                redistributors: &redistributors,
                stride: gic.stride,
                its: &[],
            },
        },
        console,
        hidden: &[],
        passthrough: &[],
        bridges: &[],
        keeps_pci: false,
    };
    change(&mut plan);
    let (blob, resources) = build(&tree, &host, &plan)?;
    Ok(Built { blob, resources })
}

pub(super) fn try_build(
    fixture: &Fixture,
    change: impl FnOnce(&mut Dom0Plan<'_>),
) -> Result<Built, Dom0Error> {
    build_blob(&fixture.blob(), None, &[], change)
}

pub(super) fn build_with(fixture: &Fixture, change: impl FnOnce(&mut Dom0Plan<'_>)) -> Built {
    try_build(fixture, change).unwrap()
}

pub(super) fn build_plain(fixture: &Fixture) -> Built {
    build_with(fixture, |_| {})
}

pub(super) fn build_with_regions(
    fixture: &Fixture,
    regions: &[GpaRange],
) -> Result<Built, Dom0Error> {
    build_blob(&fixture.blob(), None, regions, |_| {})
}
