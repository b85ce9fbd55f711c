//! Boot modules: the pieces that the boot loader put in memory for the domains to be made (Xen's
//! docs/misc/arm/device-tree/booting.txt).

use arrayvec::ArrayVec;
use xen_types::{Hpa, HpaRange};

use super::{MAX_MODULES, text};
use crate::error::{Path, Word};
use crate::property::Property;
use crate::{Dtb, Node, TreeError};

/// What a module is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ModuleKind {
    /// A kernel.
    Kernel,
    /// An initial RAM disk.
    Ramdisk,
    /// A partial device tree for a domain.
    DeviceTree,
    /// A FLASK policy.
    XsmPolicy,
    /// The tree does not say, and it is neither the first nor the second such module.
    Unknown,
}

/// A boot module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Module<'a> {
    /// Its node, which displays as its path; `/chosen` for a ramdisk that is given by
    /// `linux,initrd-start`.
    pub node: Node<'a>,
    /// What it is.
    pub kind: ModuleKind,
    /// Where it is: in RAM, not rounded to pages.
    pub range: HpaRange,
    /// The command line in the module's own node.
    pub bootargs: Option<&'a str>,
    /// The `xen,domain` node that it belongs to; `None` for Dom0's.
    pub domain: Option<Node<'a>>,
}

impl Module<'_> {
    /// Whether it is the kernel of Dom0.
    pub fn is_dom0_kernel(&self) -> bool {
        self.kind == ModuleKind::Kernel && self.domain.is_none()
    }
}

const MODULE: &[&str] = &["multiboot,module", "xen,multiboot-module"];
/// Nodes of domains that are made at boot.
pub(super) const DOMAIN: &[&str] = &["xen,domain"];
const KINDS: &[(&[&str], ModuleKind)] = &[
    (
        &["multiboot,kernel", "xen,linux-zimage"],
        ModuleKind::Kernel,
    ),
    (
        &["multiboot,ramdisk", "xen,linux-initrd"],
        ModuleKind::Ramdisk,
    ),
    (&["multiboot,device-tree"], ModuleKind::DeviceTree),
    (&["xen,xsm-policy"], ModuleKind::XsmPolicy),
];
/// What modules are that do not say, by their order among these.
const BY_ORDER: &[ModuleKind] = &[ModuleKind::Kernel, ModuleKind::Ramdisk];

/// The list that modules are added to.
type Modules<'a> = ArrayVec<Module<'a>, MAX_MODULES>;

/// Adds all modules under `/chosen`.
pub(super) fn add_modules<'a>(dtb: &Dtb<'a>, modules: &mut Modules<'a>) -> Result<(), TreeError> {
    let Some(chosen) = dtb.node("/chosen") else {
        return Ok(());
    };
    add_children(modules, chosen, None)?;
    for domain in chosen.children().filter(|node| node.is_compatible(DOMAIN)) {
        add_children(modules, domain, Some(domain))?;
    }
    if let Some(range) = initrd(chosen)? {
        let ramdisk = Module {
            node: chosen,
            kind: ModuleKind::Ramdisk,
            range,
            bootargs: None,
            domain: None,
        };
        add(modules, ramdisk)?;
    }
    Ok(())
}

/// Adds the modules directly below `parent`.
fn add_children<'a>(
    modules: &mut Modules<'a>,
    parent: Node<'a>,
    domain: Option<Node<'a>>,
) -> Result<(), TreeError> {
    let mut unnamed = BY_ORDER.iter();
    let bus = parent.inherited_cell_sizes();
    for node in parent.children().filter(|node| node.is_compatible(MODULE)) {
        let node = node.on_bus(bus);
        let named = KINDS.iter().find(|(names, _)| node.is_compatible(names));
        let kind = match named {
            Some((_, kind)) => *kind,
            None => unnamed.next().copied().unwrap_or(ModuleKind::Unknown),
        };
        let module = Module {
            node,
            kind,
            range: range(node)?,
            bootargs: text(node, "bootargs")?,
            domain,
        };
        add(modules, module)?;
    }
    Ok(())
}

fn add<'a>(modules: &mut Modules<'a>, module: Module<'a>) -> Result<(), TreeError> {
    modules
        .try_push(module)
        .map_err(|_| module.node.one_too_many("boot modules", MAX_MODULES))
}

/// The one range of a module's `reg`.
fn range(node: Node<'_>) -> Result<HpaRange, TreeError> {
    let mut ranges = node.reg()?;
    let (Some(range), None) = (ranges.next(), ranges.next()) else {
        let cells = node.bus();
        return Err(TreeError::Length {
            node: Path::new(node),
            property: Word::new("reg"),
            length: node.property("reg").map_or(0, |reg| reg.value.len()),
            expected: "exactly",
            unit: 4 * usize::from(cells.address + cells.size),
        });
    };
    node.host_range(range)
}

/// The ramdisk that a boot loader gives as it would give it to Linux.
fn initrd(chosen: Node<'_>) -> Result<Option<HpaRange>, TreeError> {
    let start = "linux,initrd-start";
    let (Some(start_address), Some(end)) = (
        address(chosen, start)?,
        address(chosen, "linux,initrd-end")?,
    ) else {
        return Ok(None);
    };
    let range = HpaRange::between(start_address, end);
    range
        .map(Some)
        .ok_or_else(|| chosen.malformed(start, "below linux,initrd-end"))
}

fn address(node: Node<'_>, name: &str) -> Result<Option<Hpa>, TreeError> {
    let Some(property) = node.property(name) else {
        return Ok(None);
    };
    let malformed = || node.malformed(name, "4 or 8 bytes long");
    let address = Property::u64(property).ok_or_else(malformed)?;
    Ok(Some(Hpa::new(address)))
}
