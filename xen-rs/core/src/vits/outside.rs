//! What a domain's commands ask for, done: in its interrupt controller and on the host's ITSs.

use xen_abi::DomId;

use super::effect::Effect;
use super::{HostDevice, Vits};
use crate::its::{EventId, Host, ItsError, Owner, Registers, Services};
use crate::vgic::{CpuId, Effects, GuestMemory, Locking, Vgic};

/// Most events of a device: what MSI-X has (PCI 6.8.2).
const MOST_EVENTS: u32 = 2048;

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
