//! What the hypervisor tells of PCI functions.

use std::fmt;

use serde::{Serialize, Serializer};
use xen_abi::assignable::{self as abi, AssignableEntry, ResetMethod};
use xen_abi::domctl::{self as dom, device_support};

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

/// Where a guest sees a function: on the one bus of its one segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct GuestBdf(u16);

impl GuestBdf {
    /// From bus, device and function in one number, as the ABI has it.
    pub const fn from_number(number: u16) -> Self {
        Self(number)
    }
}

impl fmt::Display for GuestBdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Sbdf::from_number(self.0.into()))
    }
}

impl Serialize for GuestBdf {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What devices of a domain have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceSupport {
    /// Whether it can have PCI functions.
    pub pci: bool,
    /// Where their message interrupts go.
    pub messages: Messages,
    /// The interrupt of its bus's INTA; INTB, INTC and INTD follow.
    pub lines: Option<u32>,
}

/// Where message interrupts of a domain's devices go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Messages {
    /// There are none.
    None,
    /// To its ITS.
    Its,
    /// To its GICv2m frame.
    Frame {
        /// The frame's first interrupt.
        first: u32,
        /// How many it has.
        count: u32,
    },
}

impl DeviceSupport {
    /// What the ABI's structure says.
    pub fn new(support: &dom::DeviceSupport) -> Self {
        let has = |flag| support.flags & flag != 0;
        let messages = match (has(device_support::ITS), has(device_support::V2M)) {
            (true, _) => Messages::Its,
            (false, true) => Messages::Frame {
                first: support.v2m_first,
                count: support.v2m_count,
            },
            (false, false) => Messages::None,
        };
        Self {
            pci: has(device_support::PCI),
            messages,
            lines: (support.intx_first != 0).then_some(support.intx_first),
        }
    }
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
    /// Where that guest sees it.
    #[serde(rename = "virtual")]
    pub guest: Option<GuestBdf>,
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
        let of_guest = state == FunctionState::Guest;
        Some(Self {
            function: Sbdf::from_number(entry.sbdf),
            state,
            domain: of_guest.then_some(entry.domain.get()),
            guest: of_guest.then_some(GuestBdf::from_number(entry.virtual_bdf)),
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
