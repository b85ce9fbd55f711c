//! What the hypervisor has decided about Dom0.

use xen_types::{GpaRange, Ppi, Spi};

/// What the hypervisor has decided about Dom0 before its tree is made.
#[derive(Clone, Copy, Debug)]
pub struct Dom0Plan<'a> {
    /// Dom0's RAM, in any order; not empty.
    pub memory: &'a [GpaRange],
    /// How many processors it has: 1 to 8 with a GICv2, 1 to 4096 with a GICv3.
    pub vcpus: u32,
    /// Its kernel's command line.
    pub command_line: Option<&'a str>,
    /// Where its ramdisk is, inside `memory`; not rounded to pages.
    pub ramdisk: Option<GpaRange>,
    /// What the hypervisor's own node says.
    pub hypervisor: HypervisorNode<'a>,
    /// The interrupt controller that Dom0 sees.
    pub gic: GuestGic<'a>,
    /// The UART that the hypervisor keeps: a path or an alias.
    pub console: Option<&'a str>,
    /// Further nodes that Dom0 must not see: paths or aliases.
    pub hidden: &'a [&'a str],
    /// Nodes that are kept for guests, beside those that the tree marks with `xen,passthrough`:
    /// paths or aliases.
    pub passthrough: &'a [&'a str],
    /// Its PCI host bridges.
    pub bridges: &'a [GuestBridge<'a>],
    /// Whether its PCI devices and buses stay where they are: a bus that it cannot see all of is not
    /// its to arrange.
    pub keeps_pci: bool,
}

/// A PCI host bridge of the host that Dom0 sees.
#[derive(Clone, Copy, Debug)]
pub struct GuestBridge<'a> {
    /// The path of its node.
    pub path: &'a str,
    /// The number of its domain.
    pub domain: u16,
    /// Whether the hypervisor drives it: accesses to its registers are trapped, and what is behind its
    /// windows is mapped as it is found.
    pub driven: bool,
}

/// The content of the `hypervisor` node.
#[derive(Clone, Copy, Debug)]
pub struct HypervisorNode<'a> {
    /// Addresses where Dom0 can map its grant table.
    pub grant_window: GpaRange,
    /// Addresses where nothing is mapped, for foreign and granted pages: ascending, apart from each
    /// other and from all else. Linux 6.12 cannot do with unusable ones, but can without any.
    pub extended_regions: &'a [GpaRange],
    /// Where such regions are looked for if none are named: all addresses that Dom0 can have.
    pub extended_space: Option<GpaRange>,
    /// The interrupt that says that an event is pending.
    pub event_ppi: Ppi,
}

/// The interrupt controller that Dom0 sees.
#[derive(Clone, Copy, Debug)]
pub enum GuestGic<'a> {
    /// A GICv2.
    V2 {
        /// GICD.
        distributor: GpaRange,
        /// GICC.
        cpu_interface: GpaRange,
        /// The host's message frames that Dom0 uses itself.
        v2m_frames: &'a [GuestV2m<'a>],
    },
    /// A GICv3.
    V3 {
        /// GICD.
        distributor: GpaRange,
        /// The regions that hold the redistributors; not empty.
        redistributors: &'a [GpaRange],
        /// Bytes from one redistributor to the next, where that is not the architecture's distance.
        stride: Option<u64>,
        /// Interrupt translation services.
        its: &'a [GuestIts<'a>],
    },
}

/// A GICv2m frame that Dom0 gets with its interrupts.
#[derive(Clone, Copy, Debug)]
pub struct GuestV2m<'a> {
    /// The path of the host's frame, below the host's interrupt controller.
    pub path: &'a str,
    /// Its first interrupt.
    pub base: Spi,
    /// How many interrupts it has.
    pub count: u16,
}

/// An ITS that Dom0 sees.
#[derive(Clone, Copy, Debug)]
pub struct GuestIts<'a> {
    /// The path of the host's ITS, below the host's interrupt controller, whose name and phandle
    /// this one takes.
    pub path: &'a str,
    /// Its registers.
    pub registers: GpaRange,
}

impl<'a> GuestGic<'a> {
    /// All register frames that the guest sees.
    pub(super) fn frames(self) -> impl Iterator<Item = GpaRange> + 'a {
        let (distributor, others, its): (_, &[GpaRange], &[GuestIts<'_>]) = match self {
            Self::V2 { distributor, .. } => (distributor, &[], &[]),
            Self::V3 {
                distributor,
                redistributors,
                its,
                ..
            } => (distributor, redistributors, its),
        };
        let cpu_interface = match self {
            Self::V2 { cpu_interface, .. } => Some(cpu_interface),
            Self::V3 { .. } => None,
        };
        let its = its.iter().map(|its| its.registers);
        let others = others.iter().copied().chain(its);
        [distributor].into_iter().chain(cpu_interface).chain(others)
    }

    /// The host's message frames that Dom0 uses.
    pub(super) fn v2m_frames(self) -> &'a [GuestV2m<'a>] {
        match self {
            Self::V2 { v2m_frames, .. } => v2m_frames,
            Self::V3 { .. } => &[],
        }
    }

    /// The paths of the host's nodes below its controller that Dom0's controller has too.
    pub(super) fn kept_children(self) -> impl Iterator<Item = &'a str> {
        let its: &[GuestIts<'_>] = match self {
            Self::V2 { .. } => &[],
            Self::V3 { its, .. } => its,
        };
        let frames = self.v2m_frames().iter().map(|frame| frame.path);
        its.iter().map(|its| its.path).chain(frames)
    }
}
