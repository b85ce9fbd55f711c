//! The processors (DTSpec 3.7, 3.8; devicetree bindings arm/cpus.yaml).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xen_types::{Affinity, Hpa};

use crate::error::{Path, Word};
use crate::node::Status;
use crate::property::Property;
use crate::{Dtb, Node, TreeError};

/// The most processors; each is compared with all before it.
const MAX_CPUS: usize = 4096;

/// A processor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// The path of its node.
    pub path: String,
    /// Its number: the affinity fields of its `MPIDR_EL1`.
    pub affinity: Affinity,
    /// The first string of its `compatible`, such as `arm,cortex-a53`; may be empty.
    pub compatible: String,
    /// How it is started.
    pub boot: EnableMethod,
}

/// How a processor that the firmware has parked is started.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EnableMethod {
    /// With the firmware's `CPU_ON` call.
    Psci,
    /// By writing an entry address to a mailbox.
    SpinTable {
        /// The mailbox: 8 bytes.
        release: Hpa,
    },
    /// In a way that is not supported, of this name.
    Unknown(String),
    /// The tree names no way; right for a host of one processor.
    None,
}

/// The processors that are usable or can be made so.
pub(super) fn cpus(dtb: &Dtb<'_>) -> Result<Vec<Cpu>, TreeError> {
    let parent = dtb
        .node("/cpus")
        .ok_or(TreeError::NoNode { what: "/cpus node" })?;
    let is_cpu =
        |node: &Node<'_>| node.has_type("cpu") || node.name().split('@').next() == Some("cpu");
    let mut cpus: Vec<Cpu> = Vec::new();
    for node in parent.children().filter(is_cpu) {
        let method = node
            .property("enable-method")
            .or_else(|| parent.property("enable-method"));
        if !can_run(node, method.is_some()) {
            continue;
        }
        let cpu = Cpu::read(node, method)?;
        if let Some(other) = cpus.iter().find(|other| other.affinity == cpu.affinity) {
            return Err(TreeError::SameCpu {
                node: Path::new(node),
                other: Path::new(&other.path),
                affinity: cpu.affinity,
            });
        }
        if cpus.len() == MAX_CPUS {
            return Err(node.one_too_many("processors", MAX_CPUS));
        }
        cpus.push(cpu);
    }
    if cpus.is_empty() {
        return Err(TreeError::NoNode {
            what: "usable cpu node in /cpus",
        });
    }
    Ok(cpus)
}

/// Whether a processor is running or can be started: one that is "disabled" waits for its
/// enable-method (DTSpec 3.8.1).
fn can_run(node: Node<'_>, has_enable_method: bool) -> bool {
    match node.status() {
        Status::Okay => true,
        Status::Disabled => has_enable_method,
        Status::Reserved | Status::Fail | Status::Unknown => false,
    }
}

impl Cpu {
    fn read(node: Node<'_>, method: Option<Property<'_>>) -> Result<Self, TreeError> {
        let compatible = node.property("compatible");
        let compatible = compatible.and_then(|list| list.strings().next());
        Ok(Self {
            path: format!("/cpus/{}", node.name()),
            affinity: affinity(node)?,
            compatible: compatible.unwrap_or("").into(),
            boot: enable_method(node, method)?,
        })
    }
}

fn affinity(node: Node<'_>) -> Result<Affinity, TreeError> {
    let reg = node.property("reg").ok_or_else(|| node.missing("reg"))?;
    let value = reg
        .u64()
        .ok_or_else(|| node.malformed("reg", "one number of 4 or 8 bytes"))?;
    Affinity::new(value).ok_or_else(|| TreeError::Value {
        node: Path::new(node),
        property: Word::new("reg"),
        value,
        expected: "the affinity fields of MPIDR_EL1 and nothing else",
    })
}

fn enable_method(node: Node<'_>, method: Option<Property<'_>>) -> Result<EnableMethod, TreeError> {
    let Some(method) = method else {
        return Ok(EnableMethod::None);
    };
    match method.strings().next() {
        Some("psci") => Ok(EnableMethod::Psci),
        Some("spin-table") => {
            let name = "cpu-release-addr";
            let release = node.property(name).ok_or_else(|| node.missing(name))?;
            let release = release
                .u64()
                .ok_or_else(|| node.malformed(name, "4 or 8 bytes long"))?;
            Ok(EnableMethod::SpinTable {
                release: Hpa::new(release),
            })
        }
        Some(other) => Ok(EnableMethod::Unknown(other.into())),
        None => Err(node.malformed("enable-method", "text in UTF-8 that ends in a NUL")),
    }
}
