//! What a domain's commands ask for, done: in its interrupt controller and on the host's ITSs.

use xen_abi::DomId;

use super::effect::Effect;
use super::{GuestDeviceId, HostDevice, Vits, VitsError};
use crate::its::{DeviceId, EventId, Host, ItsError, Owner, Registers, Services};
use crate::vgic::{CpuId, Effects, GuestMemory, Locking, Vgic};

/// Most events of a device: what MSI-X has (PCI 6.8.2).
const MOST_EVENTS: u32 = 2048;

/// Why a device that leaves a domain may still send it messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RevokeError {
    /// Its id stays offered.
    #[error(transparent)]
    Vits(#[from] VitsError),
    /// An ITS of the host does not let go of it.
    #[error(transparent)]
    Its(#[from] ItsError),
}

/// Why a domain does not get a device's messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GiveError {
    /// The domain's ITS has no room for it.
    #[error(transparent)]
    Vits(#[from] VitsError),
    /// The host's does not take it.
    #[error(transparent)]
    Its(#[from] ItsError),
}

/// How far it is to take a device from a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Taken {
    /// The same call continues it.
    Some,
    /// The domain has it no more; this is what it was, if there was one.
    All(Option<HostDevice>),
}

/// How many events a call of [`Outside::take`] unmaps.
const TAKEN: usize = 32;

/// What a domain's ITS acts on.
pub struct Outside<'a, R, L: Locking, M, P> {
    /// Whose ITS it is.
    pub domain: DomId,
    /// Its interrupt controller.
    pub vgic: &'a Vgic<L>,
    /// Its memory.
    pub memory: &'a M,
    /// The ITSs of the host.
    pub services: &'a Services<R, L>,
    /// The host's CPU on which messages for a vCPU best arrive.
    pub place_of: P,
}

impl<R, L, M, P> Outside<'_, R, L, M, P>
where
    R: Registers,
    L: Locking,
    M: GuestMemory,
    P: Fn(CpuId) -> usize,
{
    /// Gives the domain a device with so many events, none of which is mapped: it knows the device as
    /// `id`, whatever the host calls it.
    ///
    /// # Errors
    /// [`GiveError`]; nothing has changed.
    pub fn give(
        &self,
        vits: &mut Vits,
        id: GuestDeviceId,
        (its, device): (usize, DeviceId),
        events: u32,
        host: &mut impl Host,
    ) -> Result<(), GiveError> {
        if events > MOST_EVENTS {
            return Err(VitsError::Events(events).into());
        }
        let given = self.attach(host, its, device, events)?;
        if let Err(error) = vits.add_device(id, given) {
            self.services.detach(host, its, device, given.lpis)?;
            return Err(error.into());
        }
        Ok(())
    }

    fn attach(
        &self,
        host: &mut impl Host,
        its: usize,
        device: DeviceId,
        events: u32,
    ) -> Result<HostDevice, ItsError> {
        let lpis = self.services.attach(host, its, device, events)?;
        Ok(HostDevice {
            its,
            device,
            first_event: EventId(0),
            lpis,
        })
    }

    /// Takes a device from the domain, a bounded part with each call: the host's ITS forgets its events
    /// and then the device, so that no message of it arrives.
    ///
    /// # Errors
    /// [`ItsError`]; the call may be made again and goes on. Of what an ITS did not forget, no message
    /// reaches the domain all the same, and its LPIs go to nobody else.
    pub fn take(
        &self,
        vits: &mut Vits,
        id: GuestDeviceId,
        host: &mut impl Host,
        effects: &mut Effects,
    ) -> Result<Taken, ItsError> {
        for _ in 0..TAKEN {
            let Some(effect) = vits.revoke_next(id) else {
                return self.forget(vits, id, host).map(Taken::All);
            };
            self.carry_out(vits, effect, host, effects)?;
        }
        Ok(Taken::Some)
    }

    /// Takes a device from both ITSs, none of whose events is mapped; what it was.
    fn forget(
        &self,
        vits: &mut Vits,
        id: GuestDeviceId,
        host: &mut impl Host,
    ) -> Result<Option<HostDevice>, ItsError> {
        let Ok(given) = vits.remove_device(id) else {
            return Ok(None);
        };
        let HostDevice {
            its, device, lpis, ..
        } = given;
        self.services.detach(host, its, device, lpis)?;
        Ok(Some(given))
    }

    /// Takes a device from the domain, which was offered its id: as [`Outside::take`] at once, and the
    /// id is offered no more. Returns how many events the domain had mapped.
    ///
    /// # Errors
    /// [`RevokeError`]. Of what an ITS did not forget, no message reaches the domain all the same, and
    /// its LPIs go to nobody else.
    pub fn revoke(
        &self,
        vits: &mut Vits,
        id: GuestDeviceId,
        host: &mut impl Host,
        effects: &mut Effects,
    ) -> Result<u32, RevokeError> {
        vits.withdraw(id)?;
        let mut events: u32 = 0;
        let mut outcome = Ok(());
        while let Some(effect) = vits.revoke_next(id) {
            outcome = outcome.and(self.carry_out(vits, effect, host, effects));
            events = events.saturating_add(1);
        }
        outcome = outcome.and(self.forget(vits, id, host).map(drop));
        outcome?;
        Ok(events)
    }

    /// Carries an effect of `vits` out, in the order that it asks for.
    ///
    /// # Errors
    /// [`ItsError`]: an ITS of the host does not do it. The guest's own view is as it asked for.
    pub fn carry_out(
        &self,
        vits: &mut Vits,
        effect: Effect,
        host: &mut impl Host,
        effects: &mut Effects,
    ) -> Result<(), ItsError> {
        let mut apply = || effect.apply(self.vgic, self.memory, effects);
        match effect {
            Effect::Raise { .. }
            | Effect::Reload { .. }
            | Effect::ReloadPart { .. }
            | Effect::MovePart { .. } => {
                apply();
                Ok(())
            }
            Effect::Unmap { source, .. } => {
                let unmapped = self.services.unmap(host, source);
                apply();
                unmapped
            }
            Effect::Clear { source, .. } => {
                let cleared = self.services.clear(host, source);
                apply();
                cleared
            }
            Effect::Move { source, cpu, .. } => {
                apply();
                self.services.send_to(host, source, (self.place_of)(cpu))
            }
            Effect::Map { source, lpi, cpu } => {
                apply();
                let owner = Owner {
                    domain: self.domain,
                    lpi,
                };
                let place = (self.place_of)(cpu);
                self.services.map(host, source, owner, place)
            }
            Effect::Attach {
                id,
                its,
                device,
                events,
            } => {
                let given = self.attach(host, its, device, events.min(MOST_EVENTS))?;
                match vits.add_device(id, given) {
                    Ok(()) => Ok(()),
                    // The virtual ITS refuses the command.
                    Err(_) => self.services.detach(host, its, device, given.lpis),
                }
            }
            Effect::Detach(HostDevice {
                its, device, lpis, ..
            }) => self.services.detach(host, its, device, lpis),
        }
    }
}
