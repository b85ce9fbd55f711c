//! INTx of guests' functions (`xen_core::intx`): a guest's host bridge has four lines, of which each is
//! that of a pin, and behind them are lines of the machine.
//!
//! A line of the machine is the hypervisor's as long as a function of a guest is on it, and the control
//! domain's otherwise. Functions of the control domain have theirs without the hypervisor, so that a line
//! that one of them is on is no guest's: the guest's function then has message interrupts only.
//!
//! Lock order: the lines, then a guest's bus or its interrupt controller.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use arrayvec::ArrayVec;
use log::{error, warn};
use pci_host::config::Function;
use pci_host::header::{self, Command};
use pci_host::registry::Owner;
use pci_host::{Device, HostSbdf, intx};
use vpci::GuestSbdf;
use xen_abi::DomId;
use xen_core::intx::{Functions, Input, LineError, Lines, Next};
use xen_core::vgic::Effects;
use xen_types::{IntId, Interrupt, Spi};

use super::{PCI, Pci};
use crate::arch::time::{self, Ticks};
use crate::domain::{self, Domain};
use crate::lock::IrqLock;
use crate::{gic, iommu};

/// Stuck lines that rest at a time; others stay disabled.
const RESTING: usize = 32;

/// A function as its owner has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Wire {
    domain: DomId,
    place: GuestSbdf,
}

static LINES: IrqLock<Lines<Wire>> = IrqLock::new(Lines::new());
/// Whether there is any: most interrupts of the control domain need no look at them.
static ANY: AtomicBool = AtomicBool::new(false);
/// Lines that are stuck, and until when they rest.
static STUCK: IrqLock<ArrayVec<(Spi, Ticks), RESTING>> = IrqLock::new(ArrayVec::new_const());

/// The way of a function's interrupt to its owner.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The machine's.
    host: Interrupt,
    spi: Spi,
    /// The guest's.
    own: Spi,
}

/// The functions of guests, as hardware has them.
struct Hardware(&'static Pci);

impl Hardware {
    fn with<R>(wire: Wire, call: impl FnOnce(&super::GuestBus) -> R) -> Option<R> {
        let domain = domain::lookup(wire.domain)?;
        domain.pci.as_ref().map(call)
    }
}

impl Functions for Hardware {
    type Id = Wire;

    fn asserts(&mut self, wire: Wire) -> bool {
        Self::with(wire, |bus| bus.asserts_intx(self.0, wire.place)).unwrap_or(false)
    }

    fn hold(&mut self, wire: Wire, off: bool) {
        Self::with(wire, |bus| bus.hold_intx(self.0, wire.place, off));
    }
}

/// The line of a function for a domain; `None` where it has none, or none that a guest can have.
pub(super) fn line_for(pci: &Pci, domain: &Domain, sbdf: HostSbdf) -> Option<Line> {
    let (host, pin) = line_of(pci, sbdf)?;
    let IntId::Spi(spi) = host.id else {
        return None;
    };
    let first = u32::from(domain.first_line()?.number());
    let own = Spi::new(first.checked_add(u32::from(pin.number()).checked_sub(1)?)?)?;
    // Quiet, it has it set; where it reads zero it cannot be held off.
    let command = Function::new(&pci.bridges, sbdf).read(header::COMMAND);
    if !command.contains(Command::INTX_DISABLE) {
        domain.complain(format_args!(
            "pci: {sbdf}: no INTx: it cannot be disabled, and others may share its line"
        ));
        return None;
    }
    if let Some(other) = sharer(pci, host.id) {
        domain.complain(format_args!(
            "pci: {sbdf}: no INTx: {other} of the control domain has the same line"
        ));
        return None;
    }
    Some(Line { host, spi, own })
}

/// A function of the control domain that is on a line.
fn sharer(pci: &Pci, line: IntId) -> Option<HostSbdf> {
    let own: Vec<HostSbdf> = {
        let registry = pci.registry.lock();
        let own = registry.iter().filter(|entry| {
            let device = entry.device();
            entry.owner() == Owner::HardwareDomain && !device.is_bridge() && device.pin.is_some()
        });
        own.map(|entry| entry.sbdf()).collect()
    };
    let on_it = |sbdf: &HostSbdf| line_of(pci, *sbdf).is_some_and(|(host, _)| host.id == line);
    own.into_iter().find(on_it)
}

/// The interrupt of a function's pin.
fn line_of(pci: &Pci, sbdf: HostSbdf) -> Option<(Interrupt, pci_host::Pin)> {
    // It, and the bridges on its way.
    let mut way: Vec<Device> = Vec::new();
    {
        let registry = pci.registry.lock();
        let mut next = Some(sbdf);
        while let Some(at) = next.filter(|_| way.len() <= usize::from(u8::MAX)) {
            let device = registry.get(at).ok()?.device().clone();
            next = device.parent;
            way.push(device);
        }
    }
    let function = way.first()?;
    let (root, pin) = intx::at_root(&way, function)?;
    let host = pci.description(sbdf)?.routes.interrupt(root, pin)?;
    Some((host, function.pin?))
}

/// Has a function's interrupts arrive for a domain that has it on its bus.
///
/// # Errors
/// [`LineError`]; the function stays held off.
pub fn connect(domain: &Domain, place: GuestSbdf, line: Line) -> Result<(), LineError> {
    let Some(pci) = PCI.get() else {
        return Ok(());
    };
    let wire = Wire {
        domain: domain.id,
        place,
    };
    let input = Input {
        domain: domain.id,
        spi: line.own,
    };
    let mut lines = LINES.lock();
    let is_new = lines.add(line.spi, wire, input)?;
    if is_new {
        ANY.store(true, Ordering::Relaxed);
        leave_to_hypervisor(line);
    }
    Hardware(pci).hold(wire, false);
    Ok(())
}

/// None of a function's interrupts arrives any more, nor is pending. Nothing happens where it has no
/// line.
pub fn disconnect(domain: &Domain, place: GuestSbdf) {
    let Some(pci) = PCI.get() else {
        return;
    };
    let wire = Wire {
        domain: domain.id,
        place,
    };
    let mut lines = LINES.lock();
    let Some(removed) = lines.remove(wire, &mut Hardware(pci)) else {
        return;
    };
    if let Some(spi) = removed.line {
        gic::disable(spi.into());
        STUCK.lock().retain(|(stuck, _)| *stuck != spi);
        leave_to_control_domain(spi);
    }
    drop(lines);
    if let Some(input) = removed.lower {
        // What is pending for nobody would be one interrupt too many.
        let mut effects = Effects::new();
        domain.vgic.withdraw(input.spi, &mut effects);
        domain.carry_out(&mut effects);
    }
}

/// A line was the control domain's, none of whose functions is on it.
fn leave_to_hypervisor(line: Line) {
    if let Some(control) = domain::dom0_domain() {
        let mut effects = Effects::new();
        control.vgic.unlink(line.spi, &mut effects);
        control.carry_out(&mut effects);
    }
    gic::configure(line.host.id, line.host.trigger);
    gic::enable(line.host.id);
}

fn leave_to_control_domain(spi: Spi) {
    if let Some(control) = domain::dom0_domain() {
        let mut effects = Effects::new();
        if let Err(error) = control.vgic.link(spi, spi.into(), &mut effects) {
            error!("pci: the control domain does not get its line back: {error}");
        }
        control.carry_out(&mut effects);
    }
}

/// Takes an interrupt, if it is that of a line of the hypervisor's.
pub fn take_interrupt(id: IntId) -> bool {
    let (IntId::Spi(spi), true) = (id, ANY.load(Ordering::Relaxed)) else {
        return false;
    };
    let mut lines = LINES.lock();
    let (true, Some(pci)) = (lines.owns(spi), PCI.get()) else {
        return false;
    };
    let next = lines.arrive(spi, &mut Hardware(pci), |input| {
        if let Some(domain) = domain::lookup(input.domain) {
            let mut effects = Effects::new();
            domain.vgic.inject(input.spi, &mut effects);
            domain.carry_out(&mut effects);
        }
    });
    if let Next::Rest { microseconds, news } = next {
        gic::disable(id);
        let until = time::now().saturating_add(time::ticks(microseconds));
        if news {
            warn!("pci: {id} is asserted, and no function says that it does so: it rests");
        }
        if STUCK.lock().try_push((spi, until)).is_ok() {
            iommu::look_at(until);
        }
    }
    true
}

/// Listens to lines again that have rested.
pub fn look(now: Ticks) {
    STUCK.lock().retain(|(spi, until)| {
        let rests = *until > now;
        match rests {
            true => iommu::look_at(*until),
            false => gic::enable((*spi).into()),
        }
        rests
    });
}

/// A domain is done with an interrupt of one of its lines.
pub fn ended(domain: DomId, spi: Spi) {
    if let Some(pci) = PCI.get() {
        let input = Input { domain, spi };
        LINES.lock().ended(input, &mut Hardware(pci));
    }
}
