//! What a domain's commands ask for, done: in its interrupt controller and on the host's ITSs.

use xen_abi::DomId;

use super::effect::Effect;
use super::{GuestDeviceId, HostDevice, Vits, VitsError};
use crate::its::{EventId, Host, ItsError, Owner, Registers, Services};
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
    /// Takes a device from the domain, which was offered its id: the host's ITS forgets the device and
    /// its events, so that no message of it arrives, and the id is offered no more. Returns how many
    /// events the domain had mapped.
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
        if let Ok(given) = vits.remove_device(id) {
            let HostDevice {
                its, device, lpis, ..
            } = given;
            outcome = outcome.and(self.services.detach(host, its, device, lpis));
        }
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
                let events = events.min(MOST_EVENTS);
                let lpis = self.services.attach(host, its, device, events)?;
                let given = HostDevice {
                    its,
                    device,
                    first_event: EventId(0),
                    lpis,
                };
                match vits.add_device(id, given) {
                    Ok(()) => Ok(()),
                    // The virtual ITS refuses the command.
                    Err(_) => self.services.detach(host, its, device, lpis),
                }
            }
            Effect::Detach(HostDevice {
                its, device, lpis, ..
            }) => self.services.detach(host, its, device, lpis),
        }
    }
}
