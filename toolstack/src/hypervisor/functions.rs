//! What the hypervisor tells of PCI functions.

use serde::Serialize;
use xen_abi::assignable::{self as abi, AssignableEntry, ResetMethod};

use crate::pci::Sbdf;

/// The class of bridges to other buses, without its interface.
const PCI_BRIDGE: u32 = 0x0604;

/// Whose a function is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FunctionState {
    /// The control domain's.
    Dom0,
    /// Nobody's: a guest can have it.
    Assignable,
    /// A guest's.
    Guest,
    /// Nobody's, and it stays so: its reset failed.
    Broken,
}

/// A function.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct FunctionInfo {
    /// Its name.
    pub function: Sbdf,
    /// Whose it is.
    pub state: FunctionState,
    /// Which guest's.
    pub domain: Option<u16>,
    /// The first function of the group that moves as one.
    pub group: Sbdf,
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// Class code.
    pub class: u32,
    /// The gentlest way to reset it.
    pub reset: Option<String>,
    /// Why it cannot be assigned.
    pub reason: Option<String>,
}

impl FunctionInfo {
    /// Whether it leads to other buses.
    pub const fn is_bridge(&self) -> bool {
        self.class >> 8 == PCI_BRIDGE
    }

    /// From an entry of the list; `None` if that makes no sense.
    pub fn new(entry: &AssignableEntry) -> Option<Self> {
        let state = match abi::FunctionState::from_number(entry.state)? {
            abi::FunctionState::ControlDomain => FunctionState::Dom0,
            abi::FunctionState::Assignable => FunctionState::Assignable,
            abi::FunctionState::Guest => FunctionState::Guest,
            abi::FunctionState::Broken => FunctionState::Broken,
        };
        let reset = match ResetMethod::from_number(entry.reset)? {
            ResetMethod::None => None,
            ResetMethod::FunctionLevel => Some("FLR".to_string()),
            ResetMethod::AdvancedFeatures => Some("AF FLR".to_string()),
            ResetMethod::PowerState => Some("D3hot".to_string()),
            ResetMethod::SecondaryBus => {
                Some(format!("bus below {}", Sbdf::from_number(entry.bridge)))
            }
        };
        Some(Self {
            function: Sbdf::from_number(entry.sbdf),
            state,
            domain: (state == FunctionState::Guest).then_some(entry.domain.get()),
            group: Sbdf::from_number(entry.group),
            vendor: entry.vendor,
            device: entry.device,
            class: entry.class,
            reset,
            reason: reason(entry),
        })
    }
}

/// What an entry says against its function.
pub fn reason(entry: &AssignableEntry) -> Option<String> {
    let text = entry.reason.split(|byte| *byte == 0).next();
    let text = String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
    Some(text).filter(|text| !text.is_empty())
}
