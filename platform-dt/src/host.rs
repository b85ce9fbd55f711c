//! The inventory of the host: processors, PSCI, interrupt controller, timer.

mod cpu;
mod gic;
mod psci;
mod timer;

use alloc::string::String;
use alloc::vec::Vec;

pub use self::cpu::{Cpu, EnableMethod};
pub(crate) use self::gic::is_gic;
pub use self::gic::{Gic, GicV2, GicV3, Its, V2mFrame};
pub use self::psci::{Conduit, Psci};
pub use self::timer::Timer;
use crate::node::Status;
use crate::{Dtb, HostTree, Node, TreeError};

/// What the hypervisor itself uses of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// The board's name for people; the first string of the root's `compatible` where it has none.
    pub model: String,
    /// The root's `compatible`, the most specific first.
    pub compatible: Vec<String>,
    /// The processors that can be started, in the order of the tree; never empty.
    pub cpus: Vec<Cpu>,
    /// The firmware's power calls.
    pub psci: Option<Psci>,
    /// The interrupt controller.
    pub gic: Gic,
    /// The architected timer.
    pub timer: Timer,
}

impl Host {
    /// Reads the inventory.
    pub fn read(tree: &HostTree) -> Result<Self, TreeError> {
        let (dtb, fdt) = (tree.dtb(), tree.fdt());
        let compatible = root_compatible(&fdt);
        Ok(Self {
            model: model(&fdt, &compatible),
            compatible,
            cpus: cpu::cpus(&dtb)?,
            psci: psci::psci(&dtb)?,
            gic: Gic::read(&dtb)?,
            timer: Timer::read(&dtb)?,
        })
    }
}

fn root_compatible(fdt: &fdt::Fdt<'_>) -> Vec<String> {
    let compatible = fdt.find_node("/").and_then(|root| root.compatible());
    let strings = compatible.into_iter().flat_map(|list| list.all());
    strings.map(String::from).collect()
}

fn model(fdt: &fdt::Fdt<'_>, compatible: &[String]) -> String {
    let model = fdt.find_node("/").and_then(|root| root.property("model"));
    let model = model.and_then(|model| model.as_str()).map(String::from);
    model
        .or_else(|| compatible.first().cloned())
        .unwrap_or_default()
}

/// The first usable node that is compatible with one of `kinds`.
fn first_compatible<'a>(dtb: &Dtb<'a>, kinds: &[&str]) -> Option<Node<'a>> {
    dtb.nodes()
        .find(|node| node.is_compatible(kinds) && node.status() == Status::Okay)
}

#[cfg(test)]
mod tests;
