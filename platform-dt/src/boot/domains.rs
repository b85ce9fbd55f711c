//! Domains that are made at boot, without a toolstack: `xen,domain` nodes below `/chosen` (Xen's
//! docs/misc/arm/device-tree/booting.txt).

use super::modules::{DOMAIN, Module, ModuleKind};
use super::{BootInfo, text};
use crate::error::{Path, Word};
use crate::property::Property;
use crate::{Dtb, Node, TreeError};

/// What a node asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BootDomain<'a> {
    /// The node.
    pub node: Node<'a>,
    /// `cpus`: how many vCPUs; not 0.
    pub vcpus: u32,
    /// `memory`, in KiB; not 0.
    pub memory_kib: u64,
    /// `vpl011`: a serial port on the hypervisor's console.
    pub vuart: bool,
    /// `nr_spis`: shared interrupts.
    pub spis: Option<u32>,
    /// `xen,enhanced`: whether it is told that it has a hypervisor.
    pub enhanced: bool,
    /// Its kernel.
    pub kernel: Module<'a>,
    /// Its ramdisk.
    pub ramdisk: Option<Module<'a>>,
    /// Its kernel's command line.
    pub command_line: &'a str,
}

/// What would change what a domain is, and is not there: such a domain is not made.
const UNAVAILABLE: [&str; 4] = ["direct-map", "xen,static-mem", "sve", "llc-colors"];

impl<'a> BootInfo<'a> {
    /// The domains that are to be made at boot, in the order of the tree, each with what is wrong with
    /// it otherwise. `dtb` is what this was read from.
    pub fn domains(
        &self,
        dtb: &Dtb<'a>,
    ) -> impl Iterator<Item = (Node<'a>, Result<BootDomain<'a>, TreeError>)> {
        let chosen = dtb.node("/chosen").into_iter();
        let nodes = chosen.flat_map(Node::children);
        let nodes = nodes.filter(|node| node.is_compatible(DOMAIN));
        nodes.map(|node| (node, BootDomain::read(node, &self.modules)))
    }
}

impl<'a> BootDomain<'a> {
    fn read(node: Node<'a>, modules: &[Module<'a>]) -> Result<Self, TreeError> {
        if let Some(name) = UNAVAILABLE
            .into_iter()
            .find(|name| node.property(name).is_some())
        {
            return Err(node.malformed(name, "absent: there is no such thing in this version"));
        }
        let module = |kind| {
            let mut own = modules.iter().filter(|module| module.domain == Some(node));
            own.find(|module| module.kind == kind).copied()
        };
        if let Some(partial) = module(ModuleKind::DeviceTree) {
            let expected = "a kernel or a ramdisk: this version passes no devices at boot";
            return Err(partial.node.malformed("compatible", expected));
        }
        let kernel = module(ModuleKind::Kernel).ok_or(missing(node, "multiboot,kernel"))?;
        let own = text(node, "bootargs")?;
        Ok(Self {
            node,
            vcpus: number(node, "cpus", Property::u32)?
                .filter(|vcpus| *vcpus > 0)
                .ok_or(missing(node, "cpus"))?,
            memory_kib: number(node, "memory", Property::u64)?
                .filter(|memory| *memory > 0)
                .ok_or(missing(node, "memory"))?,
            vuart: node.property("vpl011").is_some(),
            spis: number(node, "nr_spis", Property::u32)?,
            enhanced: match text_or_empty(node, "xen,enhanced")? {
                None | Some("disabled") => false,
                Some("" | "enabled" | "no-xenstore" | "evtchn") => true,
                Some(_) => return Err(node.malformed("xen,enhanced", "\"enabled\" or empty")),
            },
            kernel,
            ramdisk: module(ModuleKind::Ramdisk),
            command_line: kernel.bootargs.or(own).unwrap_or_default(),
        })
    }
}

fn missing(node: Node<'_>, property: &'static str) -> TreeError {
    TreeError::Missing {
        node: Path::new(node),
        property: Word::new(property),
    }
}

/// A property that is one number, if it is there.
fn number<'a, T>(
    node: Node<'a>,
    name: &'static str,
    read: impl FnOnce(Property<'a>) -> Option<T>,
) -> Result<Option<T>, TreeError> {
    let malformed = || node.malformed(name, "a number");
    let property = node.property(name);
    property
        .map(|property| read(property).ok_or_else(malformed))
        .transpose()
}

/// The text of a property that may also be empty.
fn text_or_empty<'a>(node: Node<'a>, name: &'static str) -> Result<Option<&'a str>, TreeError> {
    match node.property(name) {
        Some(property) if property.value.is_empty() => Ok(Some("")),
        _ => text(node, name),
    }
}
