//! The ITS of a guest, and the devices that it is given.
//!
//! A guest has one ITS whichever of the host's its devices' messages go to. All that it says is about
//! its own ids: the way from them to a device of the host and its LPIs is what was given, and a message
//! of a device becomes what the guest has mapped it to, or nothing.
//!
//! Devices write their messages through the guest's address space: the doorbell of each of the host's
//! ITSs that one of them uses is there, in the second half of the guest's ITS ([`Domain::doorbell`]). A CPU that
//! stores there has no effect.

use alloc::vec::Vec;

use log::error;
use xen_abi::{Errno, layout};
use xen_core::its::layout::GITS_TRANSLATER;
use xen_core::its::{DeviceId, ItsError};
use xen_core::paging::MapError;
use xen_core::paging::stage2::Attributes;
use xen_core::vgic::Effects;
use xen_core::vits::{Config, GiveError, GuestDeviceId, RevokeError, Taken, Vits, VitsError};
use xen_types::{Gpa, GpaRange, PAGE_SIZE};

use super::{Memory, Messages, State, Vectors, VirtualIts};
use crate::domain::Domain;
use crate::gic::its::{self, Tables};
use crate::iommu;

/// A guest's device id is a requester id.
const DEVICE_BITS: u8 = 16;
/// Bytes of an ITS's first half, its registers; the second is for messages.
const REGISTERS: u64 = 0x1_0000;

/// Why a guest does not get a device's messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MessagesError {
    /// There is nothing that takes them.
    #[error("the domain has no ITS")]
    NoIts,
    /// The host has more ITSs than a guest has doorbells.
    #[error("ITS {0} of the host is beyond those that guests' devices can use")]
    Doorbell(usize),
    /// The doorbell cannot be put into the guest's address space.
    #[error("the doorbell of the ITS: {0}")]
    Map(#[from] MapError),
    /// One of the ITSs does not take it.
    #[error(transparent)]
    Give(#[from] GiveError),
}

impl From<MessagesError> for Errno {
    fn from(error: MessagesError) -> Self {
        use MessagesError::{Doorbell, Give, Map, NoIts};
        match error {
            NoIts | Doorbell(_) => Self::NotSupported,
            Map(MapError::OutOfTables(_))
            | Give(GiveError::Vits(VitsError::OutOfMemory))
            | Give(GiveError::Its(ItsError::NoMemory { .. })) => Self::NoMemory,
            Give(GiveError::Vits(VitsError::Known(_)))
            | Give(GiveError::Its(ItsError::Known(_))) => Self::Busy,
            Map(_) | Give(GiveError::Vits(_)) => Self::Invalid,
            Give(GiveError::Its(_)) => Self::Io,
        }
    }
}

/// Where in a guest's address space devices of one of the host's ITSs write their messages. That of the
/// first is where the guest takes its own doorbell to be.
fn doorbell(its: usize) -> Option<GpaRange> {
    let number = u64::try_from(its).ok()?;
    let start = number.checked_mul(PAGE_SIZE)?.checked_add(REGISTERS)?;
    let fits = start < layout::ITS.size;
    let start = layout::ITS.base.checked_add(start).filter(|_| fits)?;
    GpaRange::new(Gpa::new(start), PAGE_SIZE)
}

impl Messages {
    /// An ITS without devices, for a guest with so many vCPUs and LPIs.
    ///
    /// # Errors
    /// [`VitsError`].
    pub fn of_guest(cpus: usize, lpis: u32) -> Result<Self, VitsError> {
        let vits = Vits::new(Config {
            cpus,
            lpis,
            device_bits: DEVICE_BITS,
        })?;
        let mut services = Vec::new();
        let room = services.try_reserve_exact(1);
        room.map_err(|_| VitsError::OutOfMemory)?;
        if let Some(frames) = GpaRange::new(Gpa::new(layout::ITS.base), layout::ITS.size) {
            services.push(VirtualIts::new(frames, vits));
        }
        Ok(Self::of(services))
    }

    /// A frame of GICv2m, or nothing.
    pub fn of_vectors(vectors: Option<Vectors>) -> Self {
        Self {
            vectors,
            ..Self::none()
        }
    }

    /// Whether the domain has an ITS.
    pub const fn has_its(&self) -> bool {
        !self.services.is_empty()
    }
}

impl Domain {
    /// The ITS for devices that the domain is given. The control domain has those that it finds.
    fn given_its(&self) -> Option<&VirtualIts> {
        let first = self.messages.services.first();
        first.filter(|_| !self.is_control())
    }

    /// Gives a guest a device of one of the host's ITSs, which the guest knows by an id of its own, with
    /// so many events. The IOMMU already has the device in the guest's address space.
    ///
    /// # Errors
    /// [`MessagesError`]; nothing has changed.
    pub fn give_device(
        &self,
        host: (usize, DeviceId),
        guest: DeviceId,
        events: u32,
    ) -> Result<(), MessagesError> {
        let (its, _) = host;
        let service = self.given_its().ok_or(MessagesError::NoIts)?;
        let services = its::services().ok_or(MessagesError::NoIts)?;
        let mut state = service.state.lock();
        let is_first = !state.vits.uses(its);
        if is_first {
            self.map_doorbell(its)?;
        }
        let id = GuestDeviceId(guest.0);
        let memory = Memory(self);
        let outside = self.outside(services, &memory);
        let given = outside.give(&mut state.vits, id, host, events, &mut Tables);
        if given.is_err() && is_first {
            self.unmap_doorbell(its);
        }
        Ok(given?)
    }

    /// Takes a device from a guest: when this returns, none of its messages arrives or is pending any
    /// more. Nothing happens where the guest has no such device.
    ///
    /// # Errors
    /// [`RevokeError`]: the host's ITS did not forget all of it. No message of it reaches the guest all
    /// the same, and its LPIs go to nobody else.
    pub fn take_device(&self, guest: DeviceId) -> Result<(), RevokeError> {
        let Some(service) = self.given_its() else {
            return Ok(());
        };
        let mut outcome = Ok(());
        loop {
            // Others have their turn between two parts.
            match self.take_some(service, |_| Some(GuestDeviceId(guest.0))) {
                Ok(Taken::Some) => {}
                Ok(Taken::All(_)) => return outcome,
                Err(error) => outcome = outcome.and(Err(error.into())),
            }
        }
    }

    /// Takes a part of what devices the guest still has, when no CPU runs it any more. Returns whether
    /// there may be more.
    pub fn take_some_messages(&self) -> bool {
        let Some(service) = self.given_its() else {
            return false;
        };
        match self.take_some(service, Vits::first_device) {
            Ok(Taken::All(None)) => false,
            Ok(_) => true,
            Err(error) => {
                error!("{}: messages of a device: {error}", self.id);
                true
            }
        }
    }

    /// Where a device of one of the host's ITSs has to write its messages, in the guest's address space;
    /// that is what the hardware's message capability says, whatever the guest writes there.
    pub fn doorbell(&self, its: usize) -> Option<Gpa> {
        self.given_its()?;
        let inside = u64::from(GITS_TRANSLATER) % PAGE_SIZE;
        doorbell(its)?.start().checked_add(inside)
    }

    /// Takes a part of a device.
    fn take_some(
        &self,
        service: &VirtualIts,
        which: impl FnOnce(&Vits) -> Option<GuestDeviceId>,
    ) -> Result<Taken, ItsError> {
        let mut effects = Effects::new();
        let taken = {
            let State { vits, .. } = &mut *service.state.lock();
            match (which(vits), its::services()) {
                (Some(id), Some(services)) => {
                    let memory = Memory(self);
                    let outside = self.outside(services, &memory);
                    let taken = outside.take(vits, id, &mut Tables, &mut effects);
                    if let Ok(Taken::All(Some(device))) = taken
                        && !vits.uses(device.its)
                    {
                        self.unmap_doorbell(device.its);
                    }
                    taken
                }
                _ => Ok(Taken::All(None)),
            }
        };
        self.carry_out(&mut effects);
        taken
    }

    /// Lets the guest's devices reach the doorbell of an ITS.
    fn map_doorbell(&self, its: usize) -> Result<(), MessagesError> {
        let page = doorbell(its).ok_or(MessagesError::Doorbell(its))?;
        let place = its::places().get(its).ok_or(MessagesError::Doorbell(its))?;
        let host = place.doorbell().start();
        // Without an IOMMU devices use the host's addresses, and CPUs none of these.
        if iommu::translates() {
            let mut space = self.space.lock();
            space.map(page, host, Attributes::Doorbell)?;
        }
        Ok(())
    }

    /// Ends that, unless the guest has put something else there.
    fn unmap_doorbell(&self, its: usize) {
        let Some(page) = doorbell(its) else {
            return;
        };
        let mut space = self.space.lock();
        let found = space.lookup(page.start().frame());
        if found.is_some_and(|(_, attributes)| attributes == Attributes::Doorbell)
            && let Err(error) = space.unmap(page)
        {
            error!("{}: the doorbell at {}: {error}", self.id, page.start());
        }
    }
}
