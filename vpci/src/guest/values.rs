//! The parts of a header that are just values, and vital product data.

use pci_host::config::{ConfigAccess, Function, Register};
use pci_host::header::HeaderType;
use pci_host::{ConfigOffset, Device};

use super::handler::{Handler, Handlers};
use crate::access::Lane;
use crate::masks::Masks;

/// The header but for its BARs (PCI Express Base 6.0, 7.5.1.1 and 7.5.1.2).
pub(super) fn install_header(handlers: &mut Handlers, device: &Device, intx: bool) {
    let pair = |low: u16, high: u16| u32::from(high) << 16 | u32::from(low);
    handlers.set(0x00, Handler::Fixed(pair(device.vendor, device.device)));
    handlers.set(0x04, Handler::Command);
    let class = device.class.bits() << 8 | u32::from(device.revision);
    handlers.set(0x08, Handler::Fixed(class));
    set_multifunction(handlers, false);
    if let Some((vendor, subsystem)) = device.subsystem {
        handlers.set(0x2c, Handler::Fixed(pair(vendor, subsystem)));
    }
    let pin = device.pin.filter(|_| intx);
    let pin = pin.map_or(0, |pin| u32::from(pin.number()) << 8);
    let interrupt = Masks {
        read_only: 0xff00,
        writable: 0xff,
        ..Masks::default()
    };
    handlers.set(
        0x3c,
        Handler::Value {
            value: pin,
            reset: pin,
            masks: interrupt,
        },
    );
}

/// Cache line size, which the guest may keep there; header type, with the bit for more functions.
pub(super) fn set_multifunction(handlers: &mut Handlers, multifunction: bool) {
    let kind = u32::from(HeaderType::endpoint(multifunction).bits()) << 16;
    let cache_line = match handlers.get(0x0c / 4) {
        Handler::Value { value, .. } => value & 0xff,
        _ => 0,
    };
    let masks = Masks {
        read_only: 0xff << 16,
        writable: 0xff,
        ..Masks::default()
    };
    handlers.set(
        0x0c,
        Handler::Value {
            value: kind | cache_line,
            reset: kind,
            masks,
        },
    );
}

/// The address of vital product data: a guest reads, and does not write, what is there (PCI Local
/// Bus 3.0, appendix I).
pub(super) fn write_vpd<C: ConfigAccess + ?Sized>(
    function: Function<'_, C>,
    offset: ConfigOffset,
    lane: Lane,
    bits: u32,
) {
    const ADDRESS: u32 = 0xffff << 16;
    const WRITE: u32 = 1 << 31;
    let register = offset.checked_add(2).and_then(Register::<u16>::new);
    if let Some(register) = register
        && lane.covers(ADDRESS)
        && bits & WRITE == 0
    {
        function.write(register, (bits >> 16) as u16);
    }
}
