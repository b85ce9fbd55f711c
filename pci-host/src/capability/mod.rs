//! Capability ids (PCI Code and ID Assignment 1.14, chapters 2 and 3) and the lists that functions
//! keep of what they have (PCI Express Base 6.0, 7.5.1.1.11 and 7.6.3).
//!
//! A list is read with no trust in it: each entry is where one may be, none is visited twice, and
//! where the list goes wrong it ends.

pub mod express;
mod list;
mod msi;
pub mod power;
mod routing;
mod sr_iov;

pub use express::{Express, PortType};
pub use list::{Entry, List, ListFault, capabilities, extended_capabilities};
pub use msi::{BarPlace, Msi, MsiMessage, MsiX, MsiXFault};
pub use power::{AdvancedFeatures, PowerManagement};
pub use routing::{Acs, AcsFlags, Ari};
pub use sr_iov::{Placement, SrIov};

use crate::config::{ConfigOffset, Register, Value};

pub(crate) use list::{walk, walk_extended};

/// A register `bytes` behind the start of a capability.
fn at<T: Value>(start: ConfigOffset, bytes: u16) -> Option<Register<T>> {
    Register::new(start.checked_add(bytes)?)
}

macro_rules! ids {
    ($(#[$meta:meta])* $name:ident($number:ty): $($(#[$doc:meta])* $id:ident = $value:literal, $text:literal;)*) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $number);

        impl $name {
            $(#[doc = concat!($text, ".")] pub const $id: Self = Self($value);)*

            /// What the id stands for; `None` for one that is not known here.
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$id => Some($text),)*
                    _ => None,
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "capability {:#x}", self.0),
                }
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                core::fmt::Display::fmt(self, f)
            }
        }
    };
}

ids! {
    /// The id of a capability in the first 256 bytes.
    CapabilityId(u8):
    NULL = 0x00, "null capability";
    POWER_MANAGEMENT = 0x01, "power management";
    AGP = 0x02, "AGP";
    VPD = 0x03, "vital product data";
    SLOT_ID = 0x04, "slot identification";
    MSI = 0x05, "MSI";
    HOT_SWAP = 0x06, "CompactPCI hot swap";
    PCI_X = 0x07, "PCI-X";
    HYPERTRANSPORT = 0x08, "HyperTransport";
    VENDOR_SPECIFIC = 0x09, "vendor specific";
    DEBUG_PORT = 0x0a, "debug port";
    HOT_PLUG = 0x0c, "hot plug controller";
    BRIDGE_SUBSYSTEM = 0x0d, "subsystem of a bridge";
    SECURE_DEVICE = 0x0f, "secure device";
    PCI_EXPRESS = 0x10, "PCI Express";
    MSI_X = 0x11, "MSI-X";
    SATA = 0x12, "SATA";
    ADVANCED_FEATURES = 0x13, "advanced features";
    ENHANCED_ALLOCATION = 0x14, "enhanced allocation";
    FLATTENING_PORTAL = 0x15, "flattening portal bridge";
}

ids! {
    /// The id of an extended capability, in the bytes from 256 on.
    ExtendedCapabilityId(u16):
    NULL = 0x0000, "null capability";
    ADVANCED_ERRORS = 0x0001, "advanced error reporting";
    VIRTUAL_CHANNEL = 0x0002, "virtual channel";
    SERIAL_NUMBER = 0x0003, "device serial number";
    POWER_BUDGETING = 0x0004, "power budgeting";
    VENDOR_SPECIFIC = 0x000b, "vendor specific";
    ACS = 0x000d, "access control services";
    ARI = 0x000e, "alternative routing id";
    ATS = 0x000f, "address translation service";
    SR_IOV = 0x0010, "SR-IOV";
    MULTICAST = 0x0012, "multicast";
    PAGE_REQUEST = 0x0013, "page request";
    RESIZABLE_BAR = 0x0015, "resizable BAR";
    LATENCY_TOLERANCE = 0x0018, "latency tolerance reporting";
    SECONDARY_PCI_EXPRESS = 0x0019, "secondary PCI Express";
    PASID = 0x001b, "process address space id";
    DOWNSTREAM_CONTAINMENT = 0x001d, "downstream port containment";
    L1_SUBSTATES = 0x001e, "L1 substates";
    PRECISION_TIME = 0x001f, "precision time measurement";
    READINESS = 0x0022, "readiness time reporting";
    DESIGNATED_VENDOR_SPECIFIC = 0x0023, "designated vendor specific";
    VF_RESIZABLE_BAR = 0x0024, "VF resizable BAR";
    DATA_LINK_FEATURE = 0x0025, "data link feature";
    PHYSICAL_LAYER_16 = 0x0026, "physical layer 16 GT/s";
    LANE_MARGINING = 0x0027, "lane margining";
}

#[cfg(test)]
mod tests;
