//! The architected timer (devicetree bindings timer/arm,arch_timer.yaml).

use xen_types::Interrupt;

use crate::error::Path;
use crate::property::Property;
use crate::{Dtb, Node, TreeError};

const ARMV8_TIMER: &[&str] = &["arm,armv8-timer"];

/// The interrupts of the architected timer, the same on every processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timer {
    /// Of the secure physical timer (EL3 and secure EL1); some systems do not describe it.
    pub secure: Option<Interrupt>,
    /// Of the non-secure physical timer (EL1).
    pub non_secure: Interrupt,
    /// Of the virtual timer (EL1).
    pub virt: Interrupt,
    /// Of the physical timer of EL2.
    pub hyp: Interrupt,
    /// Of the virtual timer of EL2, where there is one.
    pub hyp_virt: Option<Interrupt>,
    /// The counter's frequency in Hz, where firmware has left `CNTFRQ_EL0` wrong.
    pub clock_frequency: Option<u32>,
}

impl Timer {
    pub(super) fn read(dtb: &Dtb<'_>) -> Result<Self, TreeError> {
        let node = super::first_compatible(dtb, ARMV8_TIMER).ok_or(TreeError::NoNode {
            what: "architected timer (arm,armv8-timer)",
        })?;
        let interrupt = |place, name| node.interrupt(place_of(node, place, name)?);
        let needed = |place, name| {
            interrupt(place, name).ok_or_else(|| TreeError::NoInterrupt {
                node: Path::new(node),
                interrupt: name,
            })
        };
        Ok(Self {
            secure: interrupt(0, "sec-phys"),
            non_secure: needed(1, "phys")?,
            virt: needed(2, "virt")?,
            hyp: needed(3, "hyp-phys")?,
            hyp_virt: interrupt(4, "hyp-virt"),
            clock_frequency: node.property("clock-frequency").and_then(Property::u32),
        })
    }
}

/// Where an interrupt stands: where `interrupt-names` has its name, else at the usual place.
fn place_of(node: Node<'_>, usual: usize, name: &str) -> Option<usize> {
    match node.property("interrupt-names") {
        Some(_) => node.interrupt_named(name),
        None => Some(usual),
    }
}
