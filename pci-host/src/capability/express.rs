//! PCI Express (PCI Express Base 6.0, 7.5.3).

use super::at;
use crate::config::{ConfigAccess, ConfigOffset, Function, Register, Value};

/// Offsets of its registers from the capability's start.
pub mod register {
    /// Capabilities: version and port type.
    pub const FLAGS: u16 = 0x02;
    /// Device capabilities.
    pub const DEVICE_CAPABILITIES: u16 = 0x04;
    /// Device control.
    pub const DEVICE_CONTROL: u16 = 0x08;
    /// Device status.
    pub const DEVICE_STATUS: u16 = 0x0a;
    /// Link capabilities.
    pub const LINK_CAPABILITIES: u16 = 0x0c;
    /// Link control.
    pub const LINK_CONTROL: u16 = 0x10;
    /// Link status.
    pub const LINK_STATUS: u16 = 0x12;
    /// Slot capabilities.
    pub const SLOT_CAPABILITIES: u16 = 0x14;
    /// Slot control.
    pub const SLOT_CONTROL: u16 = 0x18;
    /// Slot status.
    pub const SLOT_STATUS: u16 = 0x1a;
    /// Root control.
    pub const ROOT_CONTROL: u16 = 0x1c;
    /// Device capabilities 2.
    pub const DEVICE_CAPABILITIES_2: u16 = 0x24;
    /// Device control 2.
    pub const DEVICE_CONTROL_2: u16 = 0x28;
    /// Link control 2.
    pub const LINK_CONTROL_2: u16 = 0x30;
    /// Slot control 2.
    pub const SLOT_CONTROL_2: u16 = 0x38;
}

/// Device capabilities: phantom functions supported, 4:3.
const PHANTOM_FUNCTIONS: u32 = 0b11 << 3;
/// Device capabilities: function level reset.
const FUNCTION_LEVEL_RESET: u32 = 1 << 28;
/// Device control: phantom functions enable.
const PHANTOM_ENABLE: u16 = 1 << 9;
/// Device control: initiate function level reset.
pub const INITIATE_RESET: u16 = 1 << 15;
/// Device status: transactions pending.
pub const TRANSACTIONS_PENDING: u16 = 1 << 5;
/// Flags: a slot is behind the port.
const SLOT: u16 = 1 << 8;
/// Slot capabilities: hot-plug capable.
const HOT_PLUG: u32 = 1 << 6;
/// Link capabilities: the port says whether the data link is active.
const REPORTS_LINK: u32 = 1 << 20;
/// Link status: the data link is active.
const LINK_ACTIVE: u16 = 1 << 13;
/// Device capabilities 2: forwards ARI.
const ARI_FORWARDING: u32 = 1 << 5;
/// Device control 2: forward ARI.
const ARI_ENABLE: u16 = 1 << 5;

/// What is at this end of a link (7.5.3.2, device/port type).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PortType {
    /// An endpoint.
    Endpoint,
    /// An endpoint that may need I/O and locked requests.
    LegacyEndpoint,
    /// A root port.
    Root,
    /// A switch's port towards the root.
    SwitchUpstream,
    /// A switch's port away from the root.
    SwitchDownstream,
    /// A bridge from PCI Express to conventional PCI.
    ToPci,
    /// A bridge from conventional PCI to PCI Express.
    FromPci,
    /// An endpoint inside the root complex.
    IntegratedEndpoint,
    /// An event collector of the root complex.
    EventCollector,
    /// A value that the specification does not have.
    Reserved,
}

/// A function's PCI Express capability.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Express {
    /// Where it begins.
    pub offset: ConfigOffset,
    /// Version of its layout, 1 or 2 today. Version 1 may end before what the function has no use of.
    pub version: u8,
    /// What the function is.
    pub port: PortType,
    /// It can be reset alone (6.6.2).
    pub function_level_reset: bool,
    /// How many function numbers besides its own it may use for requests, as a power of two.
    pub phantom_functions: u8,
    /// Something can be plugged in behind the port.
    pub hot_plug: bool,
    /// The port can forward requests to functions above 7 (6.13).
    pub forwards_ari: bool,
    /// The port says whether its link is up.
    pub reports_link: bool,
}

impl PortType {
    const fn from_flags(flags: u16) -> Self {
        match flags >> 4 & 0xf {
            0 => Self::Endpoint,
            1 => Self::LegacyEndpoint,
            4 => Self::Root,
            5 => Self::SwitchUpstream,
            6 => Self::SwitchDownstream,
            7 => Self::ToPci,
            8 => Self::FromPci,
            9 => Self::IntegratedEndpoint,
            10 => Self::EventCollector,
            _ => Self::Reserved,
        }
    }

    /// Whether a link is behind the port, on which just one device can be.
    pub const fn is_downstream(self) -> bool {
        matches!(self, Self::Root | Self::SwitchDownstream)
    }
}

impl Express {
    /// Reads the capability at `offset`.
    pub fn read<C: ConfigAccess + ?Sized>(
        function: Function<'_, C>,
        offset: ConfigOffset,
    ) -> Option<Self> {
        let flags: u16 = function.read(at(offset, register::FLAGS)?);
        let device: u32 = function.read(at(offset, register::DEVICE_CAPABILITIES)?);
        let port = PortType::from_flags(flags);
        let version = (flags & 0xf) as u8;
        let reads = |wanted: bool, register, bits: u32| {
            let register = at::<u32>(offset, register).filter(|_| wanted);
            register.is_some_and(|register| function.read(register) & bits != 0)
        };
        let downstream = port.is_downstream();
        Some(Self {
            offset,
            version,
            port,
            function_level_reset: device & FUNCTION_LEVEL_RESET != 0,
            phantom_functions: ((device & PHANTOM_FUNCTIONS) >> 3) as u8,
            hot_plug: reads(
                downstream && flags & SLOT != 0,
                register::SLOT_CAPABILITIES,
                HOT_PLUG,
            ),
            forwards_ari: reads(
                downstream && version >= 2,
                register::DEVICE_CAPABILITIES_2,
                ARI_FORWARDING,
            ),
            reports_link: reads(downstream, register::LINK_CAPABILITIES, REPORTS_LINK),
        })
    }

    /// A register of the capability; `None` beyond config space.
    pub fn register<T: Value>(self, register: u16) -> Option<Register<T>> {
        at(self.offset, register)
    }

    /// Whether the port's link is known to be down, so that nothing is behind it.
    pub fn link_is_down<C: ConfigAccess + ?Sized>(self, port: Function<'_, C>) -> bool {
        let status = self
            .register::<u16>(register::LINK_STATUS)
            .filter(|_| self.reports_link);
        status.is_some_and(|status| port.read(status) & LINK_ACTIVE == 0)
    }

    /// Lets the port forward requests to functions above 7, or not.
    pub fn forward_ari<C: ConfigAccess + ?Sized>(self, port: Function<'_, C>, forward: bool) {
        let control = self.register(register::DEVICE_CONTROL_2);
        self.change(
            port,
            control.filter(|_| self.forwards_ari),
            ARI_ENABLE,
            forward,
        );
    }

    /// Whether the port forwards requests to functions above 7.
    pub fn ari_is_on<C: ConfigAccess + ?Sized>(self, port: Function<'_, C>) -> bool {
        let control = self.register::<u16>(register::DEVICE_CONTROL_2);
        let control = control.filter(|_| self.forwards_ari);
        control.is_some_and(|control| port.read(control) & ARI_ENABLE != 0)
    }

    /// Keeps the function to its own number in requests.
    pub fn disable_phantom_functions<C: ConfigAccess + ?Sized>(self, function: Function<'_, C>) {
        let control = self.register(register::DEVICE_CONTROL);
        self.change(
            function,
            control.filter(|_| self.phantom_functions != 0),
            PHANTOM_ENABLE,
            false,
        );
    }

    /// Whether the function still waits for completions.
    pub fn has_pending<C: ConfigAccess + ?Sized>(self, function: Function<'_, C>) -> bool {
        let status = self.register::<u16>(register::DEVICE_STATUS);
        status.is_some_and(|status| function.read(status) & TRANSACTIONS_PENDING != 0)
    }

    fn change<C: ConfigAccess + ?Sized>(
        self,
        function: Function<'_, C>,
        control: Option<Register<u16>>,
        bit: u16,
        set: bool,
    ) {
        let Some(control) = control else {
            return;
        };
        let before = function.read(control);
        let after = if set { before | bit } else { before & !bit };
        if after != before {
            function.write(control, after);
        }
    }
}
