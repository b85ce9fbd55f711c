//! How the firmware's power calls are made (devicetree bindings arm/psci.yaml; PSCI, DEN 0022).

use crate::error::{Path, Word};
use crate::property::Property;
use crate::{Dtb, TreeError};

/// Versions from 0.2 on, which fix the function ids.
const FIXED_IDS: &[&str] = &["arm,psci-1.0", "arm,psci-0.2"];
/// Version 0.1, where the tree gives them.
const OWN_IDS: &[&str] = &["arm,psci"];
/// `CPU_ON` of SMC64 (DEN 0022, 5.1.4).
const CPU_ON: u32 = 0xc400_0003;

/// The instruction that enters the firmware.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Conduit {
    /// `SMC`: firmware at EL3.
    Smc,
    /// `HVC`: firmware at EL2, which a hypervisor cannot call.
    Hvc,
}

/// The firmware's power calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Psci {
    /// How they are made.
    pub conduit: Conduit,
    /// The function id of `CPU_ON`.
    pub cpu_on: u32,
    /// Whether the version is 0.2 or later: then the function ids are fixed, and there are
    /// `PSCI_VERSION` and the calls that switch the system off and reset it.
    pub version_0_2_or_later: bool,
}

pub(super) fn psci(dtb: &Dtb<'_>) -> Result<Option<Psci>, TreeError> {
    let fixed_ids = super::first_compatible(dtb, FIXED_IDS);
    let Some(node) = fixed_ids.or_else(|| super::first_compatible(dtb, OWN_IDS)) else {
        return Ok(None);
    };
    let method = node
        .property("method")
        .ok_or_else(|| node.missing("method"))?;
    let conduit = match method.string() {
        Some("smc") => Conduit::Smc,
        Some("hvc") => Conduit::Hvc,
        other => {
            return Err(TreeError::Choice {
                node: Path::new(node),
                property: Word::new("method"),
                value: Word::new(other.unwrap_or("not text")),
                expected: "smc or hvc",
            });
        }
    };
    let cpu_on = match fixed_ids {
        Some(_) => CPU_ON,
        None => node
            .property("cpu_on")
            .and_then(Property::u32)
            .ok_or_else(|| node.missing("cpu_on of 4 bytes"))?,
    };
    Ok(Some(Psci {
        conduit,
        cpu_on,
        version_0_2_or_later: fixed_ids.is_some(),
    }))
}
