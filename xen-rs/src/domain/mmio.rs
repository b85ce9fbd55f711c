//! What a guest loads, stores or fetches where nothing is mapped: its interrupt controller, a host
//! bridge, or nothing.

use xen_abi::layout;
use xen_core::syndrome::MmioAccess;
use xen_core::vgic::{Access, Direction, Region, Width};
use xen_types::Gpa;

use super::messages::{Register, Vectors};
use super::run::Running;
use super::vuart::Vuart;
use crate::pci::{self, Answer, GuestBus, GuestPlace, Place};

/// Carries out the access that took the vCPU out, or gives it the abort that hardware would.
pub fn access(running: &mut Running<'_>) {
    // Where the interrupt controller is, nothing is ever mapped.
    if emulate(running).is_none() && !is_mapped_by_now(running) {
        running.unhandled();
        running.context.inject_data_abort();
    }
}

/// Gives the vCPU the abort of a fetch from where there is no memory.
pub fn fetch(running: &mut Running<'_>) {
    if !is_mapped_by_now(running) {
        running.unhandled();
        running.context.inject_instruction_abort();
    }
}

/// Whether the address was mapped only for a moment to nothing: when a block of stage 2 is split,
/// its entry is invalid in between (Arm ARM D8.17.1). The vCPU then tries again.
fn is_mapped_by_now(running: &Running<'_>) -> bool {
    let syndrome = running.context.syndrome();
    let address = Gpa::new(running.context.fault_address());
    syndrome.is_translation_fault() && running.domain.space.lock().is_mapped(address)
}

fn emulate(running: &mut Running<'_>) -> Option<()> {
    let syndrome = running.context.syndrome();
    let access = syndrome.mmio().filter(|_| syndrome.has_ipa())?;
    let address = Gpa::new(running.context.fault_address());
    let device = running.domain.device_at(address)?;
    let width = match access.bytes {
        1 => Width::Byte,
        2 => Width::Half,
        4 => Width::Word,
        _ => Width::Double,
    };
    let direction = if access.write {
        let value = running.context.register(access.register);
        Direction::Write(access.stored(value))
    } else {
        Direction::Read
    };
    let request = |offset| Access {
        offset,
        width,
        direction,
    };
    let value = match device {
        Device::Gic(region, offset) => access_gic(running, region, request(offset)),
        Device::Its(register) => {
            let request = request(register.offset);
            register.access(running.domain, request, &mut running.effects)
        }
        Device::V2m(vectors, offset) => {
            let request = request(offset);
            vectors.access(running.domain, request, &mut running.effects)
        }
        Device::Pci(place) => return emulate_pci(running, place, access),
        Device::GuestPci(bus, place) => return emulate_guest_pci(running, bus, place, access),
        Device::Vuart(vuart, offset) => {
            let request = request(offset);
            let (domain, effects) = (running.domain, &mut running.effects);
            vuart.access(domain, request, effects).ok()?
        }
    };
    if !access.write {
        let value = access.loaded(value);
        running.context.set_register(access.register, value);
    }
    running.context.skip_instruction();
    Some(())
}

fn emulate_pci(running: &mut Running<'_>, place: Place, access: MmioAccess) -> Option<()> {
    // In a window something may have been mapped meanwhile: the vCPU tries again.
    if matches!(place, Place::Window) && is_mapped_by_now(running) {
        return Some(());
    }
    let (domain, bytes) = (running.domain, u16::from(access.bytes));
    if access.write {
        let value = running.context.register(access.register);
        place.write(domain, bytes, access.stored(value));
    } else {
        let value = access.loaded(place.read(domain, bytes));
        running.context.set_register(access.register, value);
    }
    running.context.skip_instruction();
    Some(())
}

#[inline(never)]
fn emulate_guest_pci(
    running: &mut Running<'_>,
    bus: &GuestBus,
    place: GuestPlace,
    access: MmioAccess,
) -> Option<()> {
    let (domain, bytes) = (running.domain, u16::from(access.bytes));
    let answer = if access.write {
        let value = running.context.register(access.register);
        bus.write(domain, place, bytes, access.stored(value))
    } else {
        bus.read(domain, place, bytes)
    };
    let value = match answer {
        Answer::Value(value) => value,
        Answer::Again => return Some(()),
        // Something may have been mapped meanwhile.
        Answer::Nothing if is_mapped_by_now(running) => return Some(()),
        Answer::Nothing => u64::MAX,
    };
    if !access.write {
        let value = access.loaded(value);
        running.context.set_register(access.register, value);
    }
    running.context.skip_instruction();
    Some(())
}

/// What is emulated.
enum Device<'a> {
    /// A register of the interrupt controller.
    Gic(Region, u32),
    /// A register of an ITS.
    Its(Register<'a>),
    /// A register of a frame of GICv2m.
    V2m(&'a Vectors, u32),
    /// A host bridge of the machine.
    Pci(Place),
    /// A guest's host bridge.
    GuestPci(&'a GuestBus, GuestPlace),
    /// A register of the serial port.
    Vuart(&'a Vuart, u32),
}

fn access_gic(running: &mut Running<'_>, region: Region, access: Access) -> u64 {
    let domain = running.domain;
    if domain.vgic.is_about_state(region, access.offset) {
        running.interface.sync(&domain.vgic, &mut running.effects);
    }
    let value = domain
        .vgic
        .access(running.vcpu.id, region, access, &mut running.effects);
    if domain.vgic.enables_lpis(region, access.offset) && domain.vgic.has_lpi_work() {
        domain.messages.note_enabled();
    }
    value
}

impl super::Domain {
    fn device_at(&self, address: Gpa) -> Option<Device<'_>> {
        let gic = self.gic_register(address);
        gic.map(|(region, offset)| Device::Gic(region, offset))
            .or_else(|| self.messages.register(address).map(Device::Its))
            .or_else(|| self.host_bridge_at(address))
            .or_else(|| {
                let register = self.vuart_register(address);
                register.map(|(vuart, offset)| Device::Vuart(vuart, offset))
            })
            .or_else(|| {
                let offset = address.get().checked_sub(layout::V2M.base)?;
                let offset = u32::try_from(offset).ok();
                let offset = offset.filter(|offset| u64::from(*offset) < layout::V2M.size)?;
                Some(Device::V2m(self.vectors()?, offset))
            })
    }

    #[inline]
    fn host_bridge_at(&self, address: Gpa) -> Option<Device<'_>> {
        if self.id == pci::HARDWARE_DOMAIN {
            return pci::find(address).map(Device::Pci);
        }
        let bus = self.pci.as_ref()?;
        let place = bus.find(address)?;
        Some(Device::GuestPci(bus, place))
    }

    /// The register of the interrupt controller at an address.
    fn gic_register(&self, address: Gpa) -> Option<(Region, u32)> {
        self.gic_frames.iter().find_map(|(region, frames)| {
            let inside = frames.contains(address);
            let offset = address.get().checked_sub(frames.start().get())?;
            inside.then_some((*region, u32::try_from(offset).ok()?))
        })
    }
}
