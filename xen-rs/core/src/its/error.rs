//! What can go wrong with an ITS.

use xen_types::{Hpa, Lpi};

use super::command::{CollectionId, Command, DeviceId, EventId};

/// Why an ITS did not do what it was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ItsError {
    /// Something else is at its address.
    #[error("there is no ITS at its address (GITS_PIDR2 {0:#x})")]
    NotThere(u32),
    /// No memory for a table.
    #[error("no memory for {size} bytes of {what}")]
    NoMemory {
        /// Which table.
        what: &'static str,
        /// Bytes.
        size: u64,
    },
    /// It accepts no page size for a table.
    #[error("the ITS accepts no {0} table")]
    NoTable(&'static str),
    /// It does not come to rest, so that nothing can be set up.
    #[error("the ITS does not come to rest")]
    NotQuiescent,
    /// It does not execute commands. Those that were in the queue are lost.
    #[error("the ITS executes no commands: its queue was emptied")]
    Timeout,
    /// It refused a command and stalled; the command was taken out of the queue.
    #[error("the ITS refused {0:?}")]
    Refused(Command),
    /// The device id is beyond what the ITS or its table holds.
    #[error("device {:#x}: the ITS has room for ids below {limit:#x}", device.0)]
    DeviceId {
        /// The device.
        device: DeviceId,
        /// One more than the largest.
        limit: u64,
    },
    /// More events than the ITS can tell apart, or none.
    #[error("device {:#x}: {events} events: the ITS has 1 to {most}", device.0)]
    Events {
        /// The device.
        device: DeviceId,
        /// How many.
        events: u32,
        /// How many it can.
        most: u64,
    },
    /// The device is known already.
    #[error("device {:#x} has a translation table already", .0.0)]
    Known(DeviceId),
    /// The device is not known.
    #[error("device {:#x} has no translation table", .0.0)]
    UnknownDevice(DeviceId),
    /// The device has no such event, or it is not mapped.
    #[error("device {:#x} has no event {}", device.0, event.0)]
    UnknownEvent {
        /// The device.
        device: DeviceId,
        /// The event.
        event: EventId,
    },
    /// The event is mapped already.
    #[error("device {:#x}: event {} is mapped already", device.0, event.0)]
    Mapped {
        /// The device.
        device: DeviceId,
        /// The event.
        event: EventId,
    },
    /// The collection goes nowhere, or the ITS has no such collection.
    #[error("collection {} goes to no CPU", .0.0)]
    UnknownCollection(CollectionId),
    /// The redistributor is at no address that a command can name.
    #[error("the redistributor at {0} cannot be named in a command")]
    Redistributor(Hpa),
    /// The GIC has no LPIs.
    #[error("the redistributor has no LPIs")]
    NoLpis,
    /// Firmware enabled LPIs, and the redistributor cannot disable them.
    #[error("firmware enabled LPIs on the redistributor, which cannot disable them")]
    LpisEnabled,
    /// There is no such LPI.
    #[error("{0} is beyond the configuration table")]
    UnknownLpi(Lpi),
}
