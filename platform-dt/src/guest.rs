//! The device tree of a guest: processors, memory, interrupt controller, timer, power calls and the
//! `hypervisor` node, all of them virtual, and a PCI bus if it may have devices. What is in it follows
//! libxl's of Xen 4.20; Xen gives guests on Arm no PCI bus.

mod pci;

use alloc::format;
use alloc::vec::Vec;

use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use thiserror::Error;
use xen_types::{Gpa, GpaRange};

pub use self::pci::{GuestMessages, GuestPci};
use crate::Dtb;
use crate::dom0::{LEVEL_LOW, psci, set, virtual_affinity};

#[cfg(test)]
mod tests;

/// The phandle of the interrupt controller (libxl's: trees of users keep clear of it).
const GIC_PHANDLE: u32 = 65000;
/// The first cell of a specifier: shared and private interrupts.
const SHARED: u32 = 0;
const PRIVATE: u32 = 1;
/// The third cell of a level that is active high.
const LEVEL_HIGH: u32 = 4;
/// Numbers of the first private and the first shared interrupt.
const FIRST_PPI: u32 = 16;
const FIRST_SPI: u32 = 32;
/// Vendor and speed of the UART (devicetree binding serial/arm_sbsa_uart.txt).
const BAUD: u32 = 115_200;

/// What the tree says.
#[derive(Clone, Copy, Debug)]
pub struct GuestPlan<'a> {
    /// RAM; not empty, ascending.
    pub memory: &'a [GpaRange],
    /// How many processors.
    pub vcpus: u32,
    /// The interrupt controller.
    pub gic: GuestController,
    /// The kernel's command line.
    pub command_line: &'a str,
    /// Where the ramdisk is; not rounded to pages.
    pub ramdisk: Option<GpaRange>,
    /// Random bytes for the kernel; may be empty.
    pub seed: &'a [u8],
    /// The timer's private interrupts: secure, non-secure, virtual.
    pub timer: [u32; 3],
    /// The timer's frequency in Hz, if the register does not have it.
    pub clock_frequency: Option<u32>,
    /// What it is told of the hypervisor; without that, it does not know that there is one.
    pub hypervisor: Option<GuestHypervisor<'a>>,
    /// The virtual UART and its shared interrupt.
    pub uart: Option<(GpaRange, u32)>,
    /// Its PCI bus.
    pub pci: Option<GuestPci>,
}

/// What a guest is told of the hypervisor.
#[derive(Clone, Copy, Debug)]
pub struct GuestHypervisor<'a> {
    /// Addresses where it can map its grant table.
    pub grant_window: GpaRange,
    /// Addresses where nothing is mapped, for pages of others; ascending.
    pub extended_regions: &'a [GpaRange],
    /// The private interrupt that says that an event is pending.
    pub event_interrupt: u32,
}

/// The interrupt controller that a guest sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestController {
    /// A GICv2.
    V2 {
        /// GICD.
        distributor: GpaRange,
        /// GICC.
        cpu_interface: GpaRange,
    },
    /// A GICv3.
    V3 {
        /// GICD.
        distributor: GpaRange,
        /// All redistributors.
        redistributors: GpaRange,
    },
}

/// Why a guest's tree cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum GuestTreeError {
    /// There is no memory or no processor.
    #[error("a guest has memory and at least one processor")]
    Nothing,
    /// An interrupt has not the kind that it must have.
    #[error("{0} is no such interrupt")]
    Interrupt(u32),
    /// It is larger than kernels take.
    #[error("the device tree has {0} bytes, and kernels take {max}", max = Dtb::MAX_SIZE)]
    TooLarge(usize),
}

/// Makes the tree.
///
/// # Errors
/// [`GuestTreeError`].
pub fn build(plan: &GuestPlan<'_>) -> Result<Vec<u8>, GuestTreeError> {
    if plan.memory.is_empty() || plan.vcpus == 0 {
        return Err(GuestTreeError::Nothing);
    }
    let mut tree = DeviceTree::new();
    let root = &mut tree.root;
    set(root, "model", "XENVM-4.20");
    let kinds: &[&str] = &["xen,xenvm-4.20", "xen,xenvm"];
    set(root, "compatible", kinds);
    set(root, "#address-cells", 2_u32);
    set(root, "#size-cells", 2_u32);
    set(root, "interrupt-parent", GIC_PHANDLE);
    root.add_child(chosen(plan));
    root.add_child(cpus(plan.vcpus));
    for &bank in plan.memory {
        root.add_child(memory(bank));
    }
    root.add_child(psci());
    let messages = plan.pci.map_or(GuestMessages::None, |pci| pci.messages);
    root.add_child(gic(plan.gic, messages));
    root.add_child(timer(plan)?);
    if let Some(told) = &plan.hypervisor {
        root.add_child(hypervisor(told)?);
    }
    if let Some((registers, interrupt)) = plan.uart {
        root.add_child(uart(registers, interrupt)?);
    }
    if let Some(pci) = &plan.pci {
        root.add_child(pci::bridge(pci)?);
    }
    let blob = tree.to_dtb();
    match blob.len() > Dtb::MAX_SIZE {
        true => Err(GuestTreeError::TooLarge(blob.len())),
        false => Ok(blob),
    }
}

/// Ranges as addresses and sizes of two cells each.
fn reg(ranges: impl IntoIterator<Item = GpaRange>) -> Vec<u32> {
    let numbers = ranges
        .into_iter()
        .flat_map(|range| [range.start().get(), range.size()]);
    let cells = numbers.flat_map(|number| [(number >> 32) as u32, number as u32]);
    cells.collect()
}

fn set_reg(node: &mut DeviceTreeNode, ranges: impl IntoIterator<Item = GpaRange>) {
    set(node, "reg", reg(ranges).as_slice());
}

/// A node named after its first address.
fn node_at(name: &str, address: Gpa) -> DeviceTreeNode {
    DeviceTreeNode::new_unchecked(format!("{name}@{:x}", address.get()))
}

fn chosen(plan: &GuestPlan<'_>) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked("chosen");
    set(&mut node, "bootargs", plan.command_line);
    if let Some(ramdisk) = plan.ramdisk {
        set(&mut node, "linux,initrd-start", ramdisk.start().get());
        set(&mut node, "linux,initrd-end", ramdisk.end().get());
    }
    if !plan.seed.is_empty() {
        set(&mut node, "rng-seed", plan.seed);
    }
    node
}

fn cpus(vcpus: u32) -> DeviceTreeNode {
    let mut cpus = DeviceTreeNode::new_unchecked("cpus");
    set(&mut cpus, "#address-cells", 1_u32);
    set(&mut cpus, "#size-cells", 0_u32);
    for vcpu in 0..vcpus {
        let affinity = virtual_affinity(vcpu);
        let mut cpu = DeviceTreeNode::new_unchecked(format!("cpu@{affinity:x}"));
        set(&mut cpu, "device_type", "cpu");
        set(&mut cpu, "compatible", "arm,armv8");
        set(&mut cpu, "enable-method", "psci");
        set(&mut cpu, "reg", affinity);
        cpus.add_child(cpu);
    }
    cpus
}

fn memory(bank: GpaRange) -> DeviceTreeNode {
    let mut node = node_at("memory", bank.start());
    set(&mut node, "device_type", "memory");
    set_reg(&mut node, [bank]);
    node
}

/// Devicetree bindings interrupt-controller/arm,gic.yaml and arm,gic-v3.yaml.
fn gic(gic: GuestController, messages: GuestMessages) -> DeviceTreeNode {
    let (distributor, cpus, kinds): (_, _, &[&str]) = match gic {
        GuestController::V2 {
            distributor,
            cpu_interface,
        } => (
            distributor,
            cpu_interface,
            &["arm,cortex-a15-gic", "arm,cortex-a9-gic"],
        ),
        GuestController::V3 {
            distributor,
            redistributors,
        } => (distributor, redistributors, &["arm,gic-v3"]),
    };
    let mut node = node_at("interrupt-controller", distributor.start());
    set(&mut node, "compatible", kinds);
    set(&mut node, "#interrupt-cells", 3_u32);
    set(&mut node, "interrupt-controller", [0_u8; 0]);
    if let GuestController::V3 { .. } = gic {
        set(&mut node, "#redistributor-regions", 1_u32);
    }
    set_reg(&mut node, [distributor, cpus]);
    set(&mut node, "phandle", GIC_PHANDLE);
    pci::add_messages(&mut node, messages);
    node
}

/// The specifier of a private interrupt of Xen's: a level that is active low.
fn private(interrupt: u32) -> Result<[u32; 3], GuestTreeError> {
    match interrupt {
        FIRST_PPI..FIRST_SPI => Ok([PRIVATE, interrupt - FIRST_PPI, LEVEL_LOW]),
        _ => Err(GuestTreeError::Interrupt(interrupt)),
    }
}

/// Devicetree binding timer/arm,arch_timer.yaml.
fn timer(plan: &GuestPlan<'_>) -> Result<DeviceTreeNode, GuestTreeError> {
    let mut node = DeviceTreeNode::new_unchecked("timer");
    set(&mut node, "compatible", "arm,armv8-timer");
    let mut specifiers = Vec::new();
    for interrupt in plan.timer {
        specifiers.extend(private(interrupt)?);
    }
    set(&mut node, "interrupts", specifiers.as_slice());
    if let Some(frequency) = plan.clock_frequency {
        set(&mut node, "clock-frequency", frequency);
    }
    Ok(node)
}

/// Devicetree binding arm/xen.txt.
fn hypervisor(told: &GuestHypervisor<'_>) -> Result<DeviceTreeNode, GuestTreeError> {
    let mut node = DeviceTreeNode::new_unchecked("hypervisor");
    let kinds: &[&str] = &["xen,xen-4.20", "xen,xen"];
    set(&mut node, "compatible", kinds);
    let regions = told.extended_regions.iter().copied();
    set_reg(&mut node, [told.grant_window].into_iter().chain(regions));
    let specifier = private(told.event_interrupt)?;
    set(&mut node, "interrupts", specifier.as_slice());
    Ok(node)
}

/// Devicetree binding serial/arm_sbsa_uart.txt.
fn uart(registers: GpaRange, interrupt: u32) -> Result<DeviceTreeNode, GuestTreeError> {
    let number = interrupt
        .checked_sub(FIRST_SPI)
        .ok_or(GuestTreeError::Interrupt(interrupt))?;
    let mut node = node_at("sbsa-pl011", registers.start());
    set(&mut node, "compatible", "arm,sbsa-uart");
    set_reg(&mut node, [registers]);
    let specifier: &[u32] = &[SHARED, number, LEVEL_HIGH];
    set(&mut node, "interrupts", specifier);
    set(&mut node, "current-speed", BAUD);
    Ok(node)
}
