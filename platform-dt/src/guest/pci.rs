//! A guest's PCI bus: one host bridge with one bus, as ECAM (devicetree bindings
//! pci/host-generic-pci.yaml, pci/pci-msi.txt), and the controllers of its message interrupts
//! (interrupt-controller/arm,gic-v3.yaml and arm,gic.yaml).

use alloc::vec::Vec;

use dtoolkit::model::DeviceTreeNode;
use xen_types::GpaRange;

use super::{FIRST_SPI, GIC_PHANDLE, GuestTreeError, LEVEL_HIGH, SHARED, node_at, reg, set_reg};
use crate::dom0::set;

/// The phandle of what message interrupts go to.
const MESSAGES_PHANDLE: u32 = GIC_PHANDLE + 1;
/// Requester ids of a segment.
const REQUESTERS: u32 = 0x1_0000;
/// `phys.hi`: memory of 32 and of 64 bits, and that reading it has no side effects.
const MEMORY_32: u32 = 2 << 24;
const MEMORY_64: u32 = 3 << 24;
const PREFETCHABLE: u32 = 1 << 30;
/// INTA to INTD.
const PINS: u32 = 4;

/// A guest's PCI bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GuestPci {
    /// Config space of the one bus.
    pub config: GpaRange,
    /// Addresses for memory, below 4 GiB.
    pub memory: GpaRange,
    /// Addresses for memory that can be read ahead.
    pub prefetchable: GpaRange,
    /// Where message interrupts go.
    pub messages: GuestMessages,
    /// The shared interrupt of INTA, if there are any; INTB, INTC and INTD follow.
    pub lines: Option<u32>,
    /// Whether DMA sees the CPUs' caches.
    pub coherent: bool,
}

/// Where message interrupts of a guest's devices go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GuestMessages {
    /// There are none.
    None,
    /// To an ITS.
    Its {
        /// Its registers.
        registers: GpaRange,
    },
    /// To a GICv2m frame.
    Frame {
        /// Its registers.
        registers: GpaRange,
        /// Its first interrupt.
        first: u32,
        /// How many it has.
        count: u32,
    },
}

/// The host bridge.
pub(super) fn bridge(pci: &GuestPci) -> Result<DeviceTreeNode, GuestTreeError> {
    let mut node = node_at("pcie", pci.config.start());
    set(&mut node, "compatible", "pci-host-ecam-generic");
    set(&mut node, "device_type", "pci");
    set(&mut node, "#address-cells", 3_u32);
    set(&mut node, "#size-cells", 2_u32);
    set(&mut node, "linux,pci-domain", 0_u32);
    let buses: &[u32] = &[0, 0];
    set(&mut node, "bus-range", buses);
    set_reg(&mut node, [pci.config]);
    let windows = [
        (MEMORY_32, pci.memory),
        (MEMORY_64 | PREFETCHABLE, pci.prefetchable),
    ];
    let mut ranges = Vec::new();
    for (space, window) in windows {
        let [high, low, size_high, size_low] = reg([window])[..] else {
            continue;
        };
        ranges.extend([space, high, low, high, low, size_high, size_low]);
    }
    set(&mut node, "ranges", ranges.as_slice());
    if pci.coherent {
        set(&mut node, "dma-coherent", [0_u8; 0]);
    }
    match pci.messages {
        GuestMessages::None => {}
        GuestMessages::Its { .. } => {
            let map: &[u32] = &[0, MESSAGES_PHANDLE, 0, REQUESTERS];
            set(&mut node, "msi-map", map);
        }
        GuestMessages::Frame { .. } => set(&mut node, "msi-parent", MESSAGES_PHANDLE),
    }
    if let Some(first) = pci.lines {
        lines(&mut node, first, pci.messages)?;
    }
    Ok(node)
}

/// A pin has the same line whatever the slot.
fn lines(
    node: &mut DeviceTreeNode,
    first: u32,
    messages: GuestMessages,
) -> Result<(), GuestTreeError> {
    let number = first
        .checked_sub(FIRST_SPI)
        .ok_or(GuestTreeError::Interrupt(first))?;
    // An interrupt parent with addresses has one in each entry, which means nothing.
    let address: &[u32] = match messages {
        GuestMessages::None => &[],
        GuestMessages::Its { .. } | GuestMessages::Frame { .. } => &[0, 0],
    };
    let mut map = Vec::new();
    for pin in 0..PINS {
        map.extend([0, 0, 0, pin + 1, GIC_PHANDLE]);
        map.extend(address);
        map.extend([SHARED, number.wrapping_add(pin), LEVEL_HIGH]);
    }
    set(node, "#interrupt-cells", 1_u32);
    let mask: &[u32] = &[0, 0, 0, 7];
    set(node, "interrupt-map-mask", mask);
    set(node, "interrupt-map", map.as_slice());
    Ok(())
}

/// What message interrupts go to: a child of the interrupt controller, whose addresses are the root's.
pub(super) fn add_messages(controller: &mut DeviceTreeNode, messages: GuestMessages) {
    let mut node = match messages {
        GuestMessages::None => return set(controller, "#address-cells", 0_u32),
        GuestMessages::Its { registers } => {
            let mut node = node_at("msi-controller", registers.start());
            set(&mut node, "compatible", "arm,gic-v3-its");
            set(&mut node, "#msi-cells", 1_u32);
            set_reg(&mut node, [registers]);
            node
        }
        GuestMessages::Frame {
            registers,
            first,
            count,
        } => {
            let mut node = node_at("v2m", registers.start());
            set(&mut node, "compatible", "arm,gic-v2m-frame");
            set_reg(&mut node, [registers]);
            set(&mut node, "arm,msi-base-spi", first);
            set(&mut node, "arm,msi-num-spis", count);
            node
        }
    };
    set(&mut node, "msi-controller", [0_u8; 0]);
    set(&mut node, "phandle", MESSAGES_PHANDLE);
    set(controller, "#address-cells", 2_u32);
    set(controller, "#size-cells", 2_u32);
    set(controller, "ranges", [0_u8; 0]);
    controller.add_child(node);
}
