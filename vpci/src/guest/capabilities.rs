//! Which capabilities a guest sees, and what their registers do.
//!
//! What is not listed here is hidden, and the lists are linked around it (XSA-124, XSA-131).

use alloc::vec::Vec;

use pci_host::capability::{
    CapabilityId as Id, Entry, ExtendedCapabilityId as Extended, express, power,
};
use pci_host::config::{ConfigAccess, Function};
use pci_host::{Access, ConfigOffset, Device};

use super::handler::{Handler, Handlers};
use super::msi::GuestMsi;
use super::msi_x::GuestMsiX;
use crate::masks::{Filtered, Masks};

/// Power management capabilities that a guest does not see, in the upper half of their dword: PME.
const PME: u32 = 0xf800 << 16;
/// Device capabilities: phantom functions.
const PHANTOM_FUNCTIONS: u32 = 0b11 << 3;
/// Device control: relaxed ordering, no snoop and read request size are the guest's to choose; of the
/// rest it sees what is set up. Device status: what was detected is cleared by writing 1.
const DEVICE_CONTROL: Masks = Masks {
    read_only: 0x0030_07ef,
    writable: 0x0000_7810,
    write_1_to_clear: 0x000f_0000,
    preserved: 0,
};
/// Bytes of advanced error reporting of an endpoint (7.8.4).
const ADVANCED_ERRORS_SIZE: u16 = 0x2c;
/// Bytes of PCI Express' capability, version 1 of an endpoint, and version 2.
const EXPRESS_SIZE: [u16; 2] = [0x14, 0x3c];

/// What the registers of capabilities are made into.
pub(super) struct Made {
    pub msi: Option<GuestMsi>,
    pub msi_x: Option<GuestMsiX>,
}

/// Installs the handlers of all capabilities that a guest sees of the device.
pub(super) fn install<C: ConfigAccess + ?Sized>(
    handlers: &mut Handlers,
    function: Function<'_, C>,
    device: &Device,
    messages: bool,
) -> Made {
    let mut made = Made {
        msi: None,
        // Its table is trapped even where the guest does not find it.
        msi_x: device.msi_x.map(|msi_x| GuestMsiX::new(msi_x, 0)),
    };
    let shown: Vec<_> = device
        .capabilities
        .iter()
        .filter(|entry| is_shown(device, entry))
        .filter(|entry| messages || !matches!(entry.id, Id::MSI | Id::MSI_X))
        .collect();
    let first = shown.first().map_or(0, |entry| entry.offset.get());
    handlers.set(0x34, Handler::Fixed(first.into()));
    for (place, entry) in shown.iter().enumerate() {
        let next = shown.get(place + 1).map_or(0, |next| next.offset.get());
        let header = u16::from(entry.id.0) | next << 8;
        let mut one = Installer {
            handlers,
            function,
            start: entry.offset,
        };
        match entry.id {
            Id::POWER_MANAGEMENT => one.power_management(header),
            Id::VPD => one.vital_product_data(header),
            Id::PCI_EXPRESS => one.express(header, device),
            Id::MSI => {
                made.msi = device.msi.map(|msi| {
                    one.msi(GuestMsi::registers(msi));
                    GuestMsi::new(msi, header)
                });
            }
            _ => {
                made.msi_x = device.msi_x.map(|msi_x| {
                    one.msi_x();
                    GuestMsiX::new(msi_x, header)
                });
            }
        }
    }
    install_extended(handlers, function, device);
    made
}

/// The first of each kind that there is a handler for.
fn is_shown(device: &Device, entry: &Entry<Id>) -> bool {
    let offset = Some(entry.offset);
    match entry.id {
        Id::MSI => device.msi.map(|msi| msi.offset) == offset,
        Id::MSI_X => device.msi_x.map(|msi_x| msi_x.offset) == offset,
        Id::PCI_EXPRESS => device.express.map(|express| express.offset) == offset,
        Id::POWER_MANAGEMENT => device.power.map(|power| power.offset) == offset,
        Id::VPD => device.find(Id::VPD) == offset,
        _ => false,
    }
}

/// Puts handlers at a capability's registers.
struct Installer<'a, C: ?Sized> {
    handlers: &'a mut Handlers,
    function: Function<'a, C>,
    start: ConfigOffset,
}

impl<C: ConfigAccess + ?Sized> Installer<'_, C> {
    fn at(&self, bytes: u16) -> Option<ConfigOffset> {
        self.start.checked_add(bytes)
    }

    fn read(&self, bytes: u16) -> u32 {
        self.at(bytes)
            .map_or(0, |at| self.function.read_access(Access::dword(at)))
    }

    fn set(&mut self, bytes: u16, handler: Handler) {
        if let Some(at) = self.at(bytes) {
            self.handlers.set(at.get(), handler);
        }
    }

    /// Shows hardware's register as the masks allow.
    fn filter(&mut self, bytes: u16, masks: Masks) {
        if let Some(offset) = self.at(bytes) {
            self.set(bytes, Handler::Hardware(Filtered { offset, masks }));
        }
    }

    /// The capability's first dword, which never changes.
    fn header(&mut self, header: u16, hidden: u32) {
        let upper = self.read(0) & 0xffff_0000 & !hidden;
        self.set(0, Handler::Fixed(upper | u32::from(header)));
    }

    /// Power states are the guest's imagination: going to D3hot and back keeps the state.
    fn power_management(&mut self, header: u16) {
        self.header(header, PME);
        let masks = Masks {
            read_only: 1 << 3,
            writable: power::STATE.into(),
            ..Masks::default()
        };
        self.set(
            4,
            Handler::Value {
                value: 1 << 3,
                reset: 1 << 3,
                masks,
            },
        );
    }

    fn vital_product_data(&mut self, header: u16) {
        let offset = self.start;
        self.set(0, Handler::VpdAddress { offset, header });
        self.filter(4, Masks::READ_ONLY);
    }

    /// Links and slots are not the guest's, and read as they are.
    fn express(&mut self, header: u16, device: &Device) {
        let Some(express) = device.express else {
            return;
        };
        self.header(header, 0);
        let capabilities = self.read(express::register::DEVICE_CAPABILITIES);
        let capabilities = capabilities & !PHANTOM_FUNCTIONS;
        self.set(
            express::register::DEVICE_CAPABILITIES,
            Handler::Fixed(capabilities),
        );
        if let Some(offset) = self.at(express::register::DEVICE_CONTROL) {
            let masks = DEVICE_CONTROL;
            self.set(
                express::register::DEVICE_CONTROL,
                Handler::DeviceControl(Filtered { offset, masks }),
            );
        }
        let size = EXPRESS_SIZE[usize::from(express.version >= 2)];
        for bytes in (express::register::LINK_CAPABILITIES..size).step_by(4) {
            let is_port = (express::register::SLOT_CAPABILITIES
                ..express::register::DEVICE_CAPABILITIES_2)
                .contains(&bytes);
            if !is_port {
                self.filter(bytes, Masks::READ_ONLY);
            }
        }
    }

    fn msi(&mut self, registers: &'static [super::msi::MsiRegister]) {
        for (place, register) in registers.iter().enumerate() {
            let bytes = 4 * place as u16;
            if let Some(offset) = self.at(bytes) {
                let register = *register;
                self.set(bytes, Handler::Msi { register, offset });
            }
        }
    }

    fn msi_x(&mut self) {
        self.set(0, Handler::MsiX);
        // Where the structures are: as the device has them.
        for bytes in [4, 8] {
            let place = self.read(bytes);
            self.set(bytes, Handler::Fixed(place));
        }
    }
}

/// Extended capabilities: errors, and the present sizes of Resizable BARs.
fn install_extended<C: ConfigAccess + ?Sized>(
    handlers: &mut Handlers,
    function: Function<'_, C>,
    device: &Device,
) {
    let is_shown = |entry: &&Entry<Extended>| {
        let known = matches!(
            entry.id,
            Extended::ADVANCED_ERRORS | Extended::RESIZABLE_BAR
        );
        known && device.find_extended(entry.id) == Some(entry.offset)
    };
    let shown: Vec<_> = device.extended.iter().filter(is_shown).collect();
    let Some(first) = shown.first() else {
        return;
    };
    // The list begins here, with something that is nothing where the device has what is hidden.
    handlers.set(0x100, Handler::Fixed(u32::from(first.offset.get()) << 20));
    for (place, entry) in shown.iter().enumerate() {
        let next = shown.get(place + 1).map_or(0, |next| next.offset.get());
        let mut one = Installer {
            handlers,
            function,
            start: entry.offset,
        };
        let header = one.read(0) & 0xf_ffff | u32::from(next) << 20;
        one.set(0, Handler::Fixed(header));
        match entry.id {
            Extended::RESIZABLE_BAR => one.resizable_bars(device.resizable_bars),
            _ => (4..ADVANCED_ERRORS_SIZE)
                .step_by(4)
                .for_each(|bytes| one.filter(bytes, Masks::READ_ONLY)),
        }
    }
}

impl<C: ConfigAccess + ?Sized> Installer<'_, C> {
    /// Each has the size that it has (7.8.6.2 and 7.8.6.3).
    fn resizable_bars(&mut self, count: u16) {
        for number in 0..count {
            let control = self.read(8 + 8 * number);
            // Size 0 is 1 MiB and bit 4 of the capability; larger ones follow.
            let size = control >> 8 & 0x3f;
            let only = 1_u32.checked_shl(size + 4).unwrap_or(0);
            self.set(4 + 8 * number, Handler::Fixed(only));
            self.set(8 + 8 * number, Handler::Fixed(control));
        }
    }
}
