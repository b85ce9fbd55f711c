//! What must be known of the host before there is a heap: memory, boot modules, command lines.

mod domains;
mod memory;
mod modules;

use arrayvec::ArrayVec;
use xen_types::HpaRange;

pub use self::domains::BootDomain;
pub use self::memory::{RamBank, Reserved};
pub use self::modules::{Module, ModuleKind};
use crate::error::Path;
use crate::property::Property;
use crate::{Dtb, Node, TreeError};

/// The most banks of RAM.
pub const MAX_BANKS: usize = 64;
/// The most reserved ranges.
pub const MAX_RESERVED: usize = 128;
/// The most boot modules.
pub const MAX_MODULES: usize = 32;

/// What the boot loader left in memory, checked: modules lie in RAM and overlap nothing.
#[derive(Clone, Debug)]
pub struct BootInfo<'a> {
    /// RAM in whole pages, sorted, touching banks merged; never empty.
    pub ram: ArrayVec<RamBank, MAX_BANKS>,
    /// What the firmware keeps for itself: the children of `/reserved-memory` that have a place,
    /// then the entries of the memory reservation block. These may overlap each other and the
    /// hypervisor's own ranges.
    pub reserved: ArrayVec<Reserved<'a>, MAX_RESERVED>,
    /// The boot modules in the order of the tree.
    pub modules: ArrayVec<Module<'a>, MAX_MODULES>,
    /// The hypervisor's command line; empty if there is none.
    pub command_line: &'a str,
    /// The command line of Dom0's kernel.
    pub dom0_command_line: Option<&'a str>,
}

impl<'a> BootInfo<'a> {
    /// Reads and checks it. `own` are ranges that are in use already, each with the words that an
    /// error names it by, such as "the hypervisor image".
    pub fn read(dtb: &Dtb<'a>, own: &[(&'static str, HpaRange)]) -> Result<Self, TreeError> {
        let mut info = Self::without_modules(memory::ram(dtb)?);
        info.fill(dtb, own)?;
        Ok(info)
    }

    fn without_modules(ram: ArrayVec<RamBank, MAX_BANKS>) -> Self {
        Self {
            ram,
            reserved: ArrayVec::new(),
            modules: ArrayVec::new(),
            command_line: "",
            dom0_command_line: None,
        }
    }

    /// Fills the lists where they are: all together take 10 KiB, and the stack may be small.
    fn fill(&mut self, dtb: &Dtb<'a>, own: &[(&'static str, HpaRange)]) -> Result<(), TreeError> {
        memory::add_reserved(dtb, &mut self.reserved)?;
        modules::add_modules(dtb, &mut self.modules)?;
        self.check_modules(own)?;
        let lines = CommandLines::read(dtb.node("/chosen"), &self.modules)?;
        self.command_line = lines.hypervisor;
        self.dom0_command_line = lines.dom0;
        Ok(())
    }

    /// Each module must lie in RAM and overlap no other, nor what is in use or reserved.
    fn check_modules(&self, own: &[(&'static str, HpaRange)]) -> Result<(), TreeError> {
        for (index, module) in self.modules.iter().enumerate() {
            in_ram(module, &self.ram)?;
            let earlier = self.modules.get(..index).unwrap_or(&[]);
            clear_of(
                module,
                earlier.iter().map(|other| (other.node, other.range)),
            )?;
            clear_of(module, own.iter().copied())?;
            let reserved = self.reserved.iter().filter(|range| !range.is_for(module));
            clear_of(module, reserved.map(|range| (range, range.range)))?;
        }
        Ok(())
    }
}

fn in_ram(module: &Module<'_>, ram: &[RamBank]) -> Result<(), TreeError> {
    if ram.iter().any(|bank| bank.contains_range(module.range)) {
        return Ok(());
    }
    Err(TreeError::OutsideRam {
        node: Path::new(module.node),
        range: module.range,
    })
}

/// Fails if `module` overlaps one of `others`, each with what it is called.
fn clear_of(
    module: &Module<'_>,
    mut others: impl Iterator<Item = (impl core::fmt::Display, HpaRange)>,
) -> Result<(), TreeError> {
    let overlap = others.find_map(|(name, other)| {
        let range = module.range.intersection(other)?;
        Some(TreeError::Overlap {
            node: Path::new(module.node),
            other: Path::new(name),
            range,
        })
    });
    overlap.map_or(Ok(()), Err)
}

/// Who gets which of the command lines in `/chosen`.
struct CommandLines<'a> {
    hypervisor: &'a str,
    dom0: Option<&'a str>,
}

impl<'a> CommandLines<'a> {
    /// Xen's rule: the hypervisor's is `xen,xen-bootargs`. Without that it is `bootargs`, but only
    /// if Dom0 has a line of its own: in its kernel's module, or as `xen,dom0-bootargs`. Dom0's is
    /// its own, else `bootargs`. Beyond Xen's rule: where there is no kernel for a Dom0, `bootargs`
    /// can only be meant for the hypervisor.
    fn read(chosen: Option<Node<'a>>, modules: &[Module<'a>]) -> Result<Self, TreeError> {
        let line = |name| match chosen {
            Some(chosen) => text(chosen, name),
            None => Ok(None),
        };
        let kernel = modules.iter().find(|module| module.is_dom0_kernel());
        let dom0 = match kernel.and_then(|kernel| kernel.bootargs) {
            Some(bootargs) => Some(bootargs),
            None => line("xen,dom0-bootargs")?,
        };
        let shared = line("bootargs")?;
        let hypervisor = match line("xen,xen-bootargs")? {
            Some(line) => Some(line),
            None => shared.filter(|_| dom0.is_some() || kernel.is_none()),
        };
        Ok(Self {
            hypervisor: hypervisor.unwrap_or(""),
            dom0: dom0.or(shared.filter(|_| kernel.is_some())),
        })
    }
}

/// The text that a property holds.
fn text<'a>(node: Node<'a>, name: &str) -> Result<Option<&'a str>, TreeError> {
    let Some(property) = node.property(name) else {
        return Ok(None);
    };
    let malformed = || node.malformed(name, "text in UTF-8 that ends in a NUL");
    Property::string(property).ok_or_else(malformed).map(Some)
}

#[cfg(test)]
mod tests;
