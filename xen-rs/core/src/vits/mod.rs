//! The virtual ITS of a domain (IHI 0069, chapter 5 and 12.19): its registers, its commands, and
//! what the domain's events are mapped to.
//!
//! [`Vits`] is a state machine. [`Vits::access`] answers the guest's loads and stores;
//! [`Vits::step`] goes on with its commands, a bounded part with each call, and returns the
//! [`Effect`]s that the caller carries out: on the virtual interrupt controller by
//! [`Effect::apply`], and on the host's ITS. `GITS_CREADR` is past a command with its last effect: the
//! caller carries that out before it lets the guest look at the registers again.
//!
//! A guest's tables are address space that it can offer, and nothing is written there or read back:
//! all state is here, of a size that is fixed when devices are given to the domain. A guest can
//! name its own devices only, by ids that are its own: [`GuestDevice`] has the way from them to a
//! device of the host, and from its events to the host's events and LPIs. A domain that finds its
//! devices itself is offered ids instead ([`Offer`]): a device comes and goes with the table that
//! the domain gives it.
//!
//! A wrong command is ignored and counted, as KVM does. Only a queue that cannot be read stalls.
//!
//! | module | |
//! |---|---|
//! | `device` | a device and its events |
//! | `registers` | what the guest loads and stores |
//! | `command` | what a command asks for |
//! | `job` | commands that have many effects |
//! | `offer` | ids that become devices when they are used |
//! | `effect` | what must happen outside |
//! | `outside` | how it happens |

extern crate alloc;

mod command;
mod device;
mod effect;
mod job;
mod offer;
mod outside;
mod registers;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use self::command::Begun;
pub use self::command::Refusal;
pub use self::device::{GuestDevice, GuestDeviceId, GuestEventId, HostDevice};
pub use self::effect::Effect;
use self::job::Job;
pub use self::offer::Offer;
use self::offer::Offers;
pub use self::outside::{GiveError, Outside, RevokeError, Taken};
use self::registers::Registers;
use crate::its::CollectionId;
pub use crate::its::Source;
use crate::its::command::Command;
use crate::its::layout::Typer;
use crate::vgic::{Access, CpuId, GuestMemory};
use xen_types::Lpi;

/// What a domain's ITS is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// How many vCPUs the domain has.
    pub cpus: usize,
    /// How many LPIs: [`crate::vgic::Vgic::lpis`].
    pub lpis: u32,
    /// Bits of its device ids, 1 to 32.
    pub device_bits: u8,
}

/// Why a domain gets no ITS, or its ITS no device.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VitsError {
    /// No memory.
    #[error("no memory for the domain's ITS")]
    OutOfMemory,
    /// Too many vCPUs, or none.
    #[error("{0} vCPUs: an ITS serves 1 to 128")]
    Cpus(usize),
    /// Device ids of a size that they cannot have, or a device id that is larger.
    #[error("device {:#x}: the domain's device ids have {bits} bits", id.0)]
    DeviceId {
        /// The device.
        id: GuestDeviceId,
        /// Bits that ids have.
        bits: u8,
    },
    /// More events than an ITS can tell apart, or none, or fewer LPIs than events.
    #[error("{0} events: a device has 1 to 65536, and an LPI for each")]
    Events(u32),
    /// The domain has a device of that id.
    #[error("the domain has a device {:#x} already", .0.0)]
    Known(GuestDeviceId),
    /// The domain has no such device.
    #[error("the domain has no device {:#x}", .0.0)]
    Unknown(GuestDeviceId),
    /// Events of the device are mapped still.
    #[error("events of device {:#x} are still mapped", .0.0)]
    Mapped(GuestDeviceId),
}

/// Bits of an event id: what MSI-X can have (PCI 6.8.2) and more.
const EVENT_BITS: u8 = 16;
/// Bytes of entries of all tables, as the guest is told.
const ENTRY_SIZE: u8 = 8;

/// What a call of [`Vits::step`] came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Step {
    /// There is nothing to do.
    Idle,
    /// This has to be done before the next call.
    Effect(Effect),
    /// Nothing has to be done outside, but there is more.
    Again,
}

/// What a guest's next command is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Next {
    /// There is none.
    Idle,
    /// It was a message, which raises this.
    Message(Lpi),
    /// It is for [`Vits::step`].
    Other,
}

/// Whether the guest's commands are all executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// They are.
    Done,
    /// There is more to do, now or after something more urgent.
    More,
}

/// The ITS of a domain.
#[derive(Debug)]
pub struct Vits {
    config: Config,
    typer: Typer,
    registers: Registers,
    /// Where each collection goes.
    collections: Vec<Option<CpuId>>,
    /// By id, ascending.
    devices: Vec<GuestDevice>,
    offers: Offers,
    job: Option<Job>,
    refused: u64,
    last_refusal: Option<Refusal>,
}

impl Vits {
    /// An ITS after reset, without devices.
    ///
    /// # Errors
    /// [`VitsError::Cpus`], [`VitsError::DeviceId`], [`VitsError::OutOfMemory`].
    pub fn new(config: Config) -> Result<Self, VitsError> {
        if !(1..=CpuId::MAX).contains(&config.cpus) {
            return Err(VitsError::Cpus(config.cpus));
        }
        if !(1..=32).contains(&config.device_bits) {
            let (id, bits) = (GuestDeviceId(0), config.device_bits);
            return Err(VitsError::DeviceId { id, bits });
        }
        // One more collection than CPUs, as the architecture asks for (5.2.3).
        let collections = (config.cpus + 1).next_power_of_two();
        let typer = Typer {
            entry_size: ENTRY_SIZE,
            event_bits: EVENT_BITS,
            device_bits: config.device_bits,
            targets_are_addresses: false,
            held_collections: 0,
            collection_bits: collections.trailing_zeros() as u8,
        };
        let mut targets = Vec::new();
        targets
            .try_reserve_exact(collections)
            .map_err(|_| VitsError::OutOfMemory)?;
        targets.resize(collections, None);
        Ok(Self {
            config,
            typer,
            registers: Registers::new(),
            collections: targets,
            devices: Vec::new(),
            offers: Offers::new(),
            job: None,
            refused: 0,
            last_refusal: None,
        })
    }

    /// Offers the domain ids of devices that it finds itself. When it gives one of them a table,
    /// [`Effect::Attach`] asks for the device.
    ///
    /// # Errors
    /// [`VitsError::OutOfMemory`].
    pub fn offer(&mut self, offer: Offer) -> Result<(), VitsError> {
        self.offers.add(offer)
    }

    /// Takes an id back that was offered. A device that came of it stays until
    /// [`Vits::remove_device`].
    ///
    /// # Errors
    /// [`VitsError::OutOfMemory`].
    pub fn withdraw(&mut self, id: GuestDeviceId) -> Result<(), VitsError> {
        self.offers.withdraw(id)
    }

    /// Offers an id again that was taken back.
    pub fn restore(&mut self, id: GuestDeviceId) {
        self.offers.restore(id);
    }

    /// Gives the domain a device, none of whose events is mapped. All memory that its events will
    /// need is allocated here.
    ///
    /// # Errors
    /// [`VitsError::DeviceId`], [`VitsError::Events`], [`VitsError::Known`],
    /// [`VitsError::OutOfMemory`].
    pub fn add_device(&mut self, id: GuestDeviceId, host: HostDevice) -> Result<(), VitsError> {
        let bits = self.config.device_bits;
        if u64::from(id.0) >> bits != 0 {
            return Err(VitsError::DeviceId { id, bits });
        }
        let Err(place) = self.place_of(id) else {
            return Err(VitsError::Known(id));
        };
        let device = GuestDevice::new(id, host)?;
        self.devices
            .try_reserve(1)
            .map_err(|_| VitsError::OutOfMemory)?;
        self.devices.insert(place, device);
        Ok(())
    }

    /// Unmaps an event of a device that is to be taken away, whatever the guest wants; `None` when
    /// none is mapped. To be called until then, then [`Vits::remove_device`].
    pub fn revoke_next(&mut self, id: GuestDeviceId) -> Option<Effect> {
        let place = self.place_of(id).ok()?;
        let device = self.devices.get_mut(place)?;
        device.revoke();
        while let Some((event, mapping)) = device.take_next_mapped() {
            let attached = self.collections.get(usize::from(mapping.collection.0));
            let source = device.source(event);
            if let (Some(source), Some(Some(_))) = (source, attached) {
                let lpi = mapping.lpi;
                return Some(Effect::Unmap { source, lpi });
            }
        }
        None
    }

    /// Takes a device away.
    ///
    /// # Errors
    /// [`VitsError::Unknown`]; [`VitsError::Mapped`] before [`Vits::revoke_next`] returned `None`.
    pub fn remove_device(&mut self, id: GuestDeviceId) -> Result<HostDevice, VitsError> {
        let place = self.place_of(id).map_err(|_| VitsError::Unknown(id))?;
        let device = self.devices.get(place).ok_or(VitsError::Unknown(id))?;
        if device.has_mapped() {
            return Err(VitsError::Mapped(id));
        }
        Ok(self.devices.remove(place).host())
    }

    /// Whether messages of a device of the domain go to one of the host's ITSs.
    pub fn uses(&self, its: usize) -> bool {
        self.devices.iter().any(|device| device.host().its == its)
    }

    /// The first device that the domain has.
    pub fn first_device(&self) -> Option<GuestDeviceId> {
        self.devices.first().map(GuestDevice::id)
    }

    /// A load or store of the guest in the 128 KiB of its ITS. Returns what a load reads, zero for
    /// a store; what does not exist reads zero and ignores writes. [`Vits::step`] follows.
    pub fn access(&mut self, access: Access) -> u64 {
        let busy = self.job.is_some();
        self.registers.access(self.typer, busy, access)
    }

    /// Executes the guest's next command if it is a message that raises something, without the detours
    /// of [`Vits::step`]: it is the one that counts, and all of it is in one place.
    #[inline(always)]
    pub fn next_message(&mut self, memory: &impl GuestMemory) -> Next {
        if self.job.is_some() {
            return Next::Other;
        }
        let Some(words) = self.registers.next_command(memory) else {
            return Next::Idle;
        };
        let message = Command::raised(words);
        match message.and_then(|(device, event)| self.message(device, event)) {
            Some(lpi) => {
                self.registers.advance();
                Next::Message(lpi)
            }
            None => Next::Other,
        }
    }

    /// Goes on with the guest's commands: reads one, or does a part of what one asks for.
    #[inline(never)]
    pub fn step(&mut self, memory: &impl GuestMemory) -> Step {
        if self.job.is_some() {
            return self.go_on();
        }
        let Some(words) = self.registers.next_command(memory) else {
            return Step::Idle;
        };
        let begun = Command::decode(words)
            .map_err(Refusal::Unknown)
            .and_then(|command| self.begin(command));
        let step = match begun {
            Ok(Begun::Effect(effect)) => Step::Effect(effect),
            Ok(Begun::Nothing) => Step::Again,
            Ok(Begun::Job(job)) => {
                self.job = Some(job);
                return self.go_on();
            }
            Err(refusal) => {
                self.refuse(refusal);
                Step::Again
            }
        };
        self.registers.advance();
        step
    }

    /// Makes up to `budget` steps, and has `carry_out` do what they ask for.
    pub fn run(
        &mut self,
        memory: &impl GuestMemory,
        budget: usize,
        mut carry_out: impl FnMut(Effect),
    ) -> Progress {
        for _ in 0..budget {
            match self.step(memory) {
                Step::Idle => return Progress::Done,
                Step::Effect(effect) => carry_out(effect),
                Step::Again => {}
            }
        }
        match self.job.is_none() && self.registers.is_idle() {
            true => Progress::Done,
            false => Progress::More,
        }
    }

    /// How many commands were refused.
    pub const fn refused(&self) -> u64 {
        self.refused
    }

    /// Why the last of them was.
    pub const fn last_refusal(&self) -> Option<Refusal> {
        self.last_refusal
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.refused = self.refused.saturating_add(1);
        self.last_refusal = Some(refusal);
    }

    /// Goes on with the command under way.
    #[inline(never)]
    fn go_on(&mut self) -> Step {
        let Some(mut job) = self.job.take() else {
            return Step::Again;
        };
        let effect = self.advance_job(&mut job);
        if job.is_done() {
            self.registers.advance();
        } else {
            self.job = Some(job);
        }
        effect.map_or(Step::Again, Step::Effect)
    }

    fn place_of(&self, id: GuestDeviceId) -> Result<usize, usize> {
        self.devices.binary_search_by_key(&id, GuestDevice::id)
    }

    fn device(&self, id: GuestDeviceId) -> Result<&GuestDevice, Refusal> {
        let place = self.place_of(id).map_err(|_| Refusal::Device(id))?;
        self.devices.get(place).ok_or(Refusal::Device(id))
    }

    fn device_mut(&mut self, id: GuestDeviceId) -> Result<&mut GuestDevice, Refusal> {
        let place = self.place_of(id).map_err(|_| Refusal::Device(id))?;
        self.devices.get_mut(place).ok_or(Refusal::Device(id))
    }

    /// Where a collection goes, if it is mapped.
    fn target(&self, collection: CollectionId) -> Option<CpuId> {
        let target = self.collections.get(usize::from(collection.0));
        target.copied().flatten()
    }
}
