//! From whatever firmware left behind to an SMMU that is on (IHI 0070, 3.11; 6.3, SMMU_CR0,
//! on how an update is acknowledged).

use super::bus::Bus;
use super::command::Command;
use super::registers::*;
use super::{CommandQueue, EventQueue, StreamTable};
use crate::v3::Capabilities;
use crate::{Hardware, IommuError};

/// Off, and what comes while it is off is aborted. First of all: until tables are there, no device
/// reaches anything.
pub fn abort_all(bus: &mut Bus<impl Hardware>) -> Result<(), IommuError> {
    set_bypass_attributes(bus, GBPA_ABORT)?;
    bus.update(CR0, 0, CR0ACK, "switching the SMMU off")
}

/// Off, and what comes passes as it is.
pub fn pass_all(bus: &mut Bus<impl Hardware>) -> Result<(), IommuError> {
    set_bypass_attributes(bus, GBPA_INCOMING)?;
    bus.update(CR0, 0, CR0ACK, "switching the SMMU off")
}

/// GBPA changes as a whole, once the last change is through (SMMU_GBPA).
fn set_bypass_attributes(bus: &mut Bus<impl Hardware>, value: u32) -> Result<(), IommuError> {
    wait_for_bypass_attributes(bus)?;
    bus.write32(GBPA, value | GBPA_UPDATE);
    wait_for_bypass_attributes(bus)
}

fn wait_for_bypass_attributes(bus: &mut Bus<impl Hardware>) -> Result<(), IommuError> {
    bus.wait("an update of GBPA", |bus| {
        (bus.read32(GBPA) & GBPA_UPDATE == 0).then_some(())
    })
}

/// Switches an SMMU on that is off: command queue, forget all, event queue, interrupts, translation.
pub fn enable(
    bus: &mut Bus<impl Hardware>,
    capabilities: &Capabilities,
    streams: &StreamTable,
    commands: &mut CommandQueue,
    events: &EventQueue,
) -> Result<(), IommuError> {
    configure(bus, streams);
    bus.write64(CMDQ_BASE, commands.ring().base_register());
    bus.write32(CMDQ_PROD, 0);
    bus.write32(CMDQ_CONS, 0);
    let mut on = CR0_CMDQEN;
    bus.update(CR0, on, CR0ACK, "switching the SMMU's command queue on")?;
    forget_all(bus, capabilities, commands)?;

    bus.write64(EVENTQ_BASE, events.ring().base_register());
    bus.write32(EVENTQ_PROD, 0);
    bus.write32(EVENTQ_CONS, 0);
    on |= CR0_EVENTQEN;
    bus.update(CR0, on, CR0ACK, "switching the SMMU's event queue on")?;
    enable_interrupts(bus, capabilities)?;

    // The queue of page requests stays off: no device here has ATS or PRI.
    bus.update(CR0, on | CR0_SMMUEN, CR0ACK, "switching the SMMU on")
}

/// What may be written only while all is off.
fn configure(bus: &mut Bus<impl Hardware>, streams: &StreamTable) {
    let attributes = if bus.coherent {
        CR1_WRITE_BACK
    } else {
        CR1_NON_CACHEABLE
    };
    bus.write32(CR1, attributes);
    bus.write32(CR2, CR2_PTM | CR2_RECINVSID);
    bus.write64(STRTAB_BASE, streams.base_register());
    bus.write32(STRTAB_BASE_CFG, streams.config_register());
    // Errors of former times.
    let errors = bus.read32(GERROR);
    bus.write32(GERRORN, errors);
}

/// Caches may hold anything after reset (3.11).
fn forget_all(
    bus: &mut Bus<impl Hardware>,
    capabilities: &Capabilities,
    commands: &mut CommandQueue,
) -> Result<(), IommuError> {
    commands.push(bus, Command::ForgetStreams)?;
    if capabilities.hypervisor {
        commands.push(bus, Command::ForgetHypervisor)?;
    }
    commands.push(bus, Command::ForgetGuests)?;
    commands.sync(bus)
}

/// Interrupt lines, not messages. Where messages go may change only while they are off (3.18).
fn enable_interrupts(
    bus: &mut Bus<impl Hardware>,
    capabilities: &Capabilities,
) -> Result<(), IommuError> {
    bus.update(
        IRQ_CTRL,
        0,
        IRQ_CTRLACK,
        "switching the SMMU's interrupts off",
    )?;
    if capabilities.messages {
        bus.write64(GERROR_IRQ_CFG0, 0);
        bus.write64(EVENTQ_IRQ_CFG0, 0);
    }
    let on = IRQ_GERROR | IRQ_EVENTQ;
    bus.update(
        IRQ_CTRL,
        on,
        IRQ_CTRLACK,
        "switching the SMMU's interrupts on",
    )
}
