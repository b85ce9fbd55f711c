//! The controller's registers, as offsets and bits. Names are the manual's.

use crate::RequesterId;

/// Bytes that are used here.
pub const SIZE: u64 = 0x1_1064;

/// Configuration transmission address: bus 31:24, device 23:19, function 18:16, dword 11:2.
pub const PCIECAR: u64 = 0x10;
/// Configuration transmission control.
pub const PCIECCTLR: u64 = 0x18;
/// Requests are sent.
pub const SEND_ENABLE: u32 = 1 << 31;
/// A request for the device on the link.
pub const TYPE0: u32 = 0;
/// A request that bridges forward.
pub const TYPE1: u32 = 1 << 8;
/// Configuration transmission data.
pub const PCIECDR: u64 = 0x20;

/// Transfer status.
pub const PCIETSTR: u64 = 0x2004;
/// The data link is active.
pub const DATA_LINK_ACTIVE: u32 = 1 << 0;
/// Error factors; cleared by writing 1.
pub const PCIEERRFR: u64 = 0x2020;
/// A completion said: unsupported request.
pub const UNSUPPORTED_REQUEST: u32 = 1 << 4;

/// The root port's own config space.
pub const PCICONF: u64 = 0x1_0000;
/// Command and status in it.
pub const COMMAND_STATUS: u64 = 0x04;
/// Received master abort and received target abort, of the status.
pub const ABORTS: u32 = (1 << 13 | 1 << 12) << 16;
/// Bus numbers in it.
pub const BUS_NUMBERS: u64 = 0x18;

/// Power management status.
pub const PMSR: u64 = 0x1_105c;
/// The link has entered L1; cleared by writing 1.
pub const L1_ENTERED: u32 = 1 << 31;
/// The other end has asked for L1; cleared by writing 1.
pub const ENTER_L1_RECEIVED: u32 = 1 << 23;
/// The link's state.
pub const LINK_STATE: u32 = 0b111 << 16;
/// L1, of the link's states.
pub const IN_L1: u32 = 3 << 16;
/// Power management control.
pub const PMCTLR: u64 = 0x1_1060;
/// Go to L1.
pub const START_L1: u32 = 1 << 31;

/// What PCIECAR holds for a dword of a function.
pub fn address(function: RequesterId, dword: u16) -> u32 {
    u32::from(function.bus()) << 24
        | u32::from(function.device()) << 19
        | u32::from(function.function()) << 16
        | u32::from(dword & 0xffc)
}

/// The function that PCIECAR names.
pub fn requester(address: u32) -> RequesterId {
    RequesterId::ari((address >> 24) as u8, (address >> 16) as u8)
}
