//! The nodes that Dom0's tree has instead of the host's, or beside them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTreeNode, DeviceTreeProperty};
use xen_types::{GpaRange, IntId, Interrupt};

use super::cells::Cells;
use super::error::Dom0Error;
use super::fate::Fates;
use super::index::{Id, Index};
use super::plan::{Dom0Plan, GuestGic, GuestIts, GuestV2m};
use crate::address::BusRange;
use crate::error::Path;
use crate::node::Status;
use crate::property::Property;
use crate::{CellSizes, Host};

/// The first cell of a private interrupt's specifier.
const PRIVATE: u32 = 1;
/// The third cell of Xen's virtual interrupts: a level that is active low, on processors 0 to 3 (of
/// a GICv2; Linux ignores the processors).
pub(crate) const LEVEL_LOW: u32 = 0xf08;
/// The cells of a specifier without an affinity of private interrupts.
const SPECIFIER_CELLS: usize = 3;
/// Phandles from here on mean no node (DTSpec 2.3.3 and 5.4: all ones is reserved).
const NO_PHANDLE: u32 = u32::MAX;
/// How many virtual processors share affinity level 1: what an SGI can reach at once.
const CLUSTER_SHIFT: u32 = 4;

/// What is needed to make nodes.
pub(super) struct Made<'t, 'a> {
    index: &'t Index<'a>,
    gic: Id,
    host: &'t Host,
    plan: &'t Dom0Plan<'t>,
    /// The extended regions.
    regions: Vec<GpaRange>,
    /// The phandle of Dom0's interrupt controller.
    gic_phandle: u32,
}

impl<'t, 'a> Made<'t, 'a> {
    pub(super) fn new(
        index: &'t Index<'a>,
        fates: &Fates,
        host: &'t Host,
        plan: &'t Dom0Plan<'t>,
        regions: Vec<GpaRange>,
    ) -> Result<Self, Dom0Error> {
        let unused = || index.max_phandle().checked_add(1);
        let phandle = index.node(fates.gic).phandle().or_else(unused);
        Ok(Self {
            index,
            gic: fates.gic,
            host,
            plan,
            regions,
            gic_phandle: phandle
                .filter(|&phandle| phandle != NO_PHANDLE)
                .ok_or(Dom0Error::NoPhandle)?,
        })
    }

    /// The interrupt controller (devicetree bindings interrupt-controller/arm,gic.yaml and
    /// arm,gic-v3.yaml), in the place of the host's.
    pub(super) fn gic(&self) -> Result<DeviceTreeNode, Dom0Error> {
        let host = self.index.node(self.gic);
        let mut node = DeviceTreeNode::new_unchecked(host.name());
        let is_kept = |property: &Property<'_>| {
            matches!(
                property.name,
                "#address-cells" | "#size-cells" | "#interrupt-cells" | "ranges"
            )
        };
        for Property { name, value } in host.properties().filter(is_kept) {
            set(&mut node, name, value);
        }
        set(&mut node, "interrupt-controller", [0_u8; 0]);
        set(&mut node, "phandle", self.gic_phandle);
        // Its own parent, as the root of the interrupts: an ancestor may name another.
        set(&mut node, "interrupt-parent", self.gic_phandle);
        match self.plan.gic {
            GuestGic::V2 {
                distributor,
                cpu_interface,
                v2m_frames,
            } => {
                set(&mut node, "compatible", "arm,cortex-a15-gic");
                node.add_property(self.reg(self.gic, &[distributor, cpu_interface])?);
                let frames = v2m_frames.iter().filter_map(|frame| self.v2m(frame));
                frames.for_each(|frame| node.add_child(frame));
            }
            GuestGic::V3 {
                distributor,
                redistributors,
                stride,
                its,
            } => {
                set(&mut node, "compatible", "arm,gic-v3");
                set(
                    &mut node,
                    "#redistributor-regions",
                    redistributors.len() as u32,
                );
                if let Some(stride) = stride {
                    set(&mut node, "redistributor-stride", stride);
                }
                let frames: Vec<_> = [distributor]
                    .iter()
                    .chain(redistributors)
                    .copied()
                    .collect();
                node.add_property(self.reg(self.gic, &frames)?);
                for its in its {
                    if let Some(its) = self.its(its)? {
                        node.add_child(its);
                    }
                }
            }
        }
        Ok(node)
    }

    fn v2m(&self, frame: &GuestV2m<'_>) -> Option<DeviceTreeNode> {
        let (id, mut node) = self.gic_child(frame.path)?;
        set(&mut node, "compatible", "arm,gic-v2m-frame");
        set(&mut node, "msi-controller", [0_u8; 0]);
        set(&mut node, "arm,msi-base-spi", frame.base.intid());
        set(&mut node, "arm,msi-num-spis", u32::from(frame.count));
        let reg = self.index.node(id).property("reg")?;
        set(&mut node, "reg", reg.value);
        Some(node)
    }

    fn its(&self, its: &GuestIts<'_>) -> Result<Option<DeviceTreeNode>, Dom0Error> {
        let Some((id, mut node)) = self.gic_child(its.path) else {
            return Ok(None);
        };
        set(&mut node, "compatible", "arm,gic-v3-its");
        set(&mut node, "msi-controller", [0_u8; 0]);
        set(&mut node, "#msi-cells", 1_u32);
        node.add_property(self.reg(id, &[its.registers])?);
        Ok(Some(node))
    }

    /// The node of that path below the host's interrupt controller, and a new one with its name and
    /// phandle.
    fn gic_child(&self, path: &str) -> Option<(Id, DeviceTreeNode)> {
        let id = self.index.child(self.gic, path.rsplit('/').next()?)?;
        let host = self.index.node(id);
        let mut node = DeviceTreeNode::new_unchecked(host.name());
        if let Some(phandle) = host.phandle() {
            set(&mut node, "phandle", phandle);
        }
        Some((id, node))
    }

    /// A `reg` for Dom0's `ranges` on the bus of the host's node `id`.
    fn reg(&self, id: Id, ranges: &[GpaRange]) -> Result<DeviceTreeProperty, Dom0Error> {
        let node = self.index.node(id);
        let (path, bus) = (node.to_string(), node.bus());
        let mut cells = Cells::new(&path, "reg");
        for &range in ranges {
            let address = u128::from(range.start().get());
            let size = range.size();
            let on_bus = self.index.translate_back(id, BusRange { address, size });
            let address = on_bus.and_then(|range| u64::try_from(range.address).ok());
            let address = address.ok_or_else(|| Dom0Error::NotOnBus {
                node: Path::new(&path),
                range,
            })?;
            cells.number(address, bus.address)?;
            cells.number(size, bus.size)?;
        }
        Ok(cells.finish())
    }

    /// The architected timer (devicetree binding timer/arm,arch_timer.yaml).
    pub(super) fn timer(&self) -> DeviceTreeNode {
        let timer = &self.host.timer;
        let mut node = DeviceTreeNode::new_unchecked("timer");
        set(&mut node, "compatible", "arm,armv8-timer");
        let interrupts = [
            ("sec-phys", timer.secure),
            ("phys", Some(timer.non_secure)),
            ("virt", Some(timer.virt)),
        ];
        let known = || {
            let interrupts = interrupts.iter();
            interrupts.filter_map(|&(name, interrupt)| Some((name, interrupt?)))
        };
        let specifiers: Vec<u32> = known()
            .flat_map(|(_, interrupt)| self.specifier(number(interrupt)))
            .collect();
        self.set_interrupts(&mut node, &specifiers);
        let names: Vec<&str> = known().map(|(name, _)| name).collect();
        set(&mut node, "interrupt-names", names.as_slice());
        // A virtual timer needs no processor to be awake.
        set(&mut node, "always-on", [0_u8; 0]);
        if let Some(frequency) = timer.clock_frequency {
            set(&mut node, "clock-frequency", frequency);
        }
        if let Some(phandle) = self.host_timer_phandle() {
            set(&mut node, "phandle", phandle);
        }
        node
    }

    fn host_timer_phandle(&self) -> Option<u32> {
        let mut nodes = self.index.ids().map(|id| self.index.node(id));
        let is_timer = |node: &crate::Node<'_>| {
            node.is_compatible(&["arm,armv8-timer"]) && node.status() == Status::Okay
        };
        nodes.find(is_timer)?.phandle()
    }

    /// The specifier of private interrupt `number`, in the cells of the host's controller.
    fn specifier(&self, number: u32) -> Vec<u32> {
        let count = self.index.node(self.gic).interrupt_cells();
        let mut specifier = alloc::vec![PRIVATE, number, LEVEL_LOW];
        specifier.resize(count.unwrap_or(SPECIFIER_CELLS).max(SPECIFIER_CELLS), 0);
        specifier
    }

    fn set_interrupts(&self, node: &mut DeviceTreeNode, specifiers: &[u32]) {
        set(node, "interrupt-parent", self.gic_phandle);
        set(node, "interrupts", specifiers);
    }

    /// The `hypervisor` node (devicetree binding arm/xen.txt).
    pub(super) fn hypervisor(&self, bus: CellSizes) -> Result<DeviceTreeNode, Dom0Error> {
        let hypervisor = &self.plan.hypervisor;
        let mut node = DeviceTreeNode::new_unchecked("hypervisor");
        let kinds: &[&str] = &["xen,xen-4.20", "xen,xen"];
        set(&mut node, "compatible", kinds);
        let mut reg = Cells::new("/hypervisor", "reg");
        reg.range(hypervisor.grant_window, bus)?;
        for &region in &self.regions {
            reg.range(region, bus)?;
        }
        node.add_property(reg.finish());
        let specifier = self.specifier(hypervisor.event_ppi.number().into());
        self.set_interrupts(&mut node, &specifier);
        Ok(node)
    }

    /// The processors, numbered as their virtual `MPIDR_EL1` numbers them.
    pub(super) fn cpus(&self) -> DeviceTreeNode {
        let mut cpus = DeviceTreeNode::new_unchecked("cpus");
        set(&mut cpus, "#address-cells", 1_u32);
        set(&mut cpus, "#size-cells", 0_u32);
        let first = self.host.cpus.first();
        let kind = first.map_or("", |cpu| cpu.compatible.as_str());
        let kind = if kind.is_empty() { "arm,armv8" } else { kind };
        let frequency = first.and_then(|cpu| self.clock_frequency(&cpu.path));
        for vcpu in 0..self.plan.vcpus {
            let affinity = virtual_affinity(vcpu);
            let mut cpu = DeviceTreeNode::new_unchecked(format!("cpu@{affinity:x}"));
            set(&mut cpu, "device_type", "cpu");
            set(&mut cpu, "compatible", kind);
            set(&mut cpu, "reg", affinity);
            set(&mut cpu, "enable-method", "psci");
            if let Some(frequency) = frequency {
                set(&mut cpu, "clock-frequency", frequency);
            }
            cpus.add_child(cpu);
        }
        cpus
    }

    /// The `clock-frequency` of a processor of the host.
    fn clock_frequency(&self, path: &str) -> Option<&'a [u8]> {
        let cpus = self.index.child(self.index.root(), "cpus")?;
        let cpu = self.index.child(cpus, path.rsplit('/').next()?)?;
        let frequency = self.index.node(cpu).property("clock-frequency")?;
        frequency.u64().map(|_| frequency.value)
    }

    /// Memory nodes: Dom0's own banks, and then `reserved`, which Linux must know as memory before
    /// it can reserve and use it.
    pub(super) fn memory(
        &self,
        reserved: &[GpaRange],
        bus: CellSizes,
    ) -> Result<Vec<DeviceTreeNode>, Dom0Error> {
        let lists = [self.plan.memory, reserved];
        let lists = lists.into_iter().filter(|ranges| !ranges.is_empty());
        lists.map(|ranges| memory(ranges, bus)).collect()
    }

    /// Adds what the plan says to `/chosen`.
    pub(super) fn complete_chosen(&self, chosen: &mut DeviceTreeNode) {
        if let Some(line) = self.plan.command_line {
            set(chosen, "bootargs", line);
        }
        if let Some(ramdisk) = self.plan.ramdisk {
            set(chosen, "linux,initrd-start", ramdisk.start().get());
            set(chosen, "linux,initrd-end", ramdisk.end().get());
        }
    }
}

/// The power calls of the hypervisor (devicetree binding arm/psci.yaml).
pub(crate) fn psci() -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked("psci");
    let kinds: &[&str] = &["arm,psci-1.0", "arm,psci-0.2", "arm,psci"];
    set(&mut node, "compatible", kinds);
    set(&mut node, "method", "hvc");
    // What a kernel goes by that knows version 0.1 only.
    set(&mut node, "cpu_off", 1_u32);
    set(&mut node, "cpu_on", 2_u32);
    node
}

fn memory(ranges: &[GpaRange], bus: CellSizes) -> Result<DeviceTreeNode, Dom0Error> {
    let mut banks: Vec<GpaRange> = ranges.to_vec();
    banks.sort_unstable_by_key(|bank| bank.start());
    let start = banks.first().map_or(0, |bank| bank.start().get());
    let name: String = format!("memory@{start:x}");
    let path = format!("/{name}");
    let mut reg = Cells::new(&path, "reg");
    for bank in banks {
        reg.range(bank, bus)?;
    }
    let mut node = DeviceTreeNode::new_unchecked(name);
    set(&mut node, "device_type", "memory");
    node.add_property(reg.finish());
    Ok(node)
}

/// The affinity fields of virtual processor `vcpu`.
pub(crate) fn virtual_affinity(vcpu: u32) -> u32 {
    let level_0 = vcpu & ((1 << CLUSTER_SHIFT) - 1);
    (vcpu >> CLUSTER_SHIFT) << 8 | level_0
}

/// The number of a private interrupt; the timer has no other.
fn number(interrupt: Interrupt) -> u32 {
    match interrupt.id {
        IntId::Ppi(ppi) => ppi.number().into(),
        IntId::Sgi(sgi) => sgi.number().into(),
        IntId::Spi(spi) => spi.number().into(),
        IntId::Lpi(lpi) => lpi.number(),
    }
}

pub(crate) fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}
