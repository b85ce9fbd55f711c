//! The interrupt controller (devicetree bindings interrupt-controller/arm,gic.yaml and
//! arm,gic-v3.yaml).

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use xen_types::{HpaRange, Interrupt, Spi};

use crate::error::{Path, Word};
use crate::node::Status;
use crate::property::Property;
use crate::{Dtb, Node, TreeError};

/// GICv2 and those before it with the same programming interface.
const V2: &[&str] = &[
    "arm,gic-400",
    "arm,cortex-a15-gic",
    "arm,cortex-a7-gic",
    "arm,cortex-a9-gic",
    "qcom,msm-qgic2",
];
const V3: &[&str] = &["arm,gic-v3"];
const ITS: &[&str] = &["arm,gic-v3-its"];
const V2M_FRAME: &[&str] = &["arm,gic-v2m-frame"];
/// More redistributor regions than any system has; what a `reg` can hold is checked besides.
const MAX_REGIONS: u32 = 256;

/// Whether `node` is a GIC.
pub(crate) fn is_gic(node: Node<'_>) -> bool {
    node.is_compatible(V2) || node.is_compatible(V3)
}

/// The interrupt controller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gic {
    /// Version 2.
    V2(GicV2),
    /// Version 3 or 4.
    V3(GicV3),
}

/// A GICv2, such as the GIC-400.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GicV2 {
    /// The path of its node.
    pub path: String,
    /// GICD.
    pub distributor: HpaRange,
    /// GICC.
    pub cpu_interface: HpaRange,
    /// GICH; absent where the implementation has no virtualization.
    pub hypervisor_interface: Option<HpaRange>,
    /// GICV; absent where the implementation has no virtualization.
    pub vcpu_interface: Option<HpaRange>,
    /// Frames that turn writes into SPIs.
    pub v2m_frames: Vec<V2mFrame>,
    /// The maintenance interrupt.
    pub maintenance: Option<Interrupt>,
}

/// A GICv2m frame: a write of a message raises an SPI.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct V2mFrame {
    /// The path of its node.
    pub path: String,
    /// Its registers.
    pub registers: HpaRange,
    /// Its phandle, by which PCI host bridges name it.
    pub phandle: Option<u32>,
    /// Its first SPI, where the tree overrides what the frame's register says.
    pub base: Option<Spi>,
    /// How many SPIs it has, where the tree overrides that.
    pub count: Option<u16>,
}

/// A GICv3 or GICv4.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GicV3 {
    /// The path of its node.
    pub path: String,
    /// GICD.
    pub distributor: HpaRange,
    /// The regions that hold the redistributors; never empty.
    pub redistributors: Vec<HpaRange>,
    /// Bytes from one redistributor to the next, where that is not the architecture's distance.
    pub stride: Option<u64>,
    /// Its interrupt translation services.
    pub its: Vec<Its>,
    /// Whether its redistributors see the CPUs' caches.
    pub coherent: bool,
    /// The maintenance interrupt.
    pub maintenance: Option<Interrupt>,
}

/// An interrupt translation service: it turns a device's messages into LPIs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Its {
    /// The path of its node.
    pub path: String,
    /// Its registers: the control and the translation frame.
    pub registers: HpaRange,
    /// Its phandle, by which PCI host bridges name it.
    pub phandle: Option<u32>,
    /// Whether it sees the CPUs' caches.
    pub coherent: bool,
}

impl Gic {
    /// The path of its node.
    pub fn path(&self) -> &str {
        match self {
            Self::V2(gic) => &gic.path,
            Self::V3(gic) => &gic.path,
        }
    }

    /// Reads the first usable GIC of the tree.
    pub(crate) fn read(dtb: &Dtb<'_>) -> Result<Self, TreeError> {
        let mut nodes = dtb.nodes();
        let node = nodes.find(|&node| is_gic(node) && node.status() == Status::Okay);
        let node = node.ok_or(TreeError::NoNode {
            what: "interrupt controller of a supported kind (arm,gic-v3, arm,gic-400)",
        })?;
        if node.is_compatible(V3) {
            GicV3::read(node).map(Self::V3)
        } else {
            GicV2::read(node).map(Self::V2)
        }
    }
}

impl GicV2 {
    fn read(node: Node<'_>) -> Result<Self, TreeError> {
        Ok(Self {
            path: node.to_string(),
            distributor: needed(node, 0, "reg of a distributor")?,
            cpu_interface: needed(node, 1, "reg of a CPU interface")?,
            hypervisor_interface: node.registers(2)?,
            vcpu_interface: node.registers(3)?,
            v2m_frames: children(node, V2M_FRAME)
                .map(V2mFrame::read)
                .collect::<Result<_, _>>()?,
            maintenance: node.interrupt(0),
        })
    }
}

impl V2mFrame {
    fn read(node: Node<'_>) -> Result<Self, TreeError> {
        let number = |name| node.property(name).and_then(Property::u32);
        let first = number("arm,msi-base-spi");
        let base = first.map(|intid| spi(node, intid)).transpose()?;
        Ok(Self {
            path: node.to_string(),
            registers: needed(node, 0, "reg")?,
            phandle: node.phandle(),
            base,
            count: number("arm,msi-num-spis").and_then(|count| u16::try_from(count).ok()),
        })
    }
}

impl GicV3 {
    fn read(node: Node<'_>) -> Result<Self, TreeError> {
        let regions = node.property("#redistributor-regions");
        let regions = regions.and_then(Property::u32).unwrap_or(1);
        if !(1..=MAX_REGIONS).contains(&regions) {
            return Err(TreeError::Value {
                node: Path::new(node),
                property: Word::new("#redistributor-regions"),
                value: regions.into(),
                expected: "1 to 256",
            });
        }
        let redistributors = (1..=regions as usize)
            .map(|index| needed(node, index, "reg of a redistributor region"))
            .collect::<Result<_, _>>()?;
        let stride = node.property("redistributor-stride");
        Ok(Self {
            path: node.to_string(),
            distributor: needed(node, 0, "reg of a distributor")?,
            redistributors,
            stride: stride.and_then(Property::u64).filter(|&stride| stride != 0),
            its: children(node, ITS)
                .map(Its::read)
                .collect::<Result<_, _>>()?,
            coherent: is_coherent(node),
            maintenance: node.interrupt(0),
        })
    }
}

impl Its {
    fn read(node: Node<'_>) -> Result<Self, TreeError> {
        Ok(Self {
            path: node.to_string(),
            registers: needed(node, 0, "reg")?,
            phandle: node.phandle(),
            coherent: is_coherent(node),
        })
    }
}

/// Whether what reads memory sees the caches: the tree names what does not.
fn is_coherent(node: Node<'_>) -> bool {
    node.property("dma-noncoherent").is_none()
}

/// The usable children of these kinds.
fn children<'a>(node: Node<'a>, kinds: &'static [&'static str]) -> impl Iterator<Item = Node<'a>> {
    node.children()
        .filter(|node| node.is_compatible(kinds) && node.status() == Status::Okay)
}

/// The registers that `reg` gives at `index`; `what` names them where they are missing.
fn needed(node: Node<'_>, index: usize, what: &str) -> Result<HpaRange, TreeError> {
    node.registers(index)?.ok_or_else(|| node.missing(what))
}

/// The SPI of an INTID.
fn spi(node: Node<'_>, intid: u32) -> Result<Spi, TreeError> {
    let number = intid.checked_sub(32).and_then(Spi::new);
    number.ok_or_else(|| TreeError::Value {
        node: Path::new(node),
        property: Word::new("arm,msi-base-spi"),
        value: intid.into(),
        expected: "the INTID of an SPI",
    })
}
