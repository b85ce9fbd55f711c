//! Messages of a domain's devices: its virtual ITSs (`xen_core::vits`), and what their effects are on
//! the host's.
//!
//! A guest's commands are executed a part at a time before one of its vCPUs enters it again, so that
//! an interrupt waits for one part at most, and a vCPU that waits for its commands sees them done.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU8, Ordering};

use xen_core::its::{ItsError, Owner};
use xen_core::vgic::{Access, BadAddress, CpuId, Direction, Effects, GuestMemory};
use xen_core::vits::{Config, Effect, GuestDeviceId, HostDevice, Offer, Step, Vits, VitsError};
use xen_types::{Gpa, GpaRange};

use super::{Domain, memory};
use crate::gic::its;
use crate::lock::IrqLock;

/// How many steps of commands are made before a vCPU goes on.
const STEPS: usize = 32;
/// Most events of a device: what MSI-X has (PCI 6.8.2).
const MOST_EVENTS: u32 = 2048;

/// Commands may wait.
const COMMANDS: u8 = 1;
/// A vCPU has just enabled LPIs.
const ENABLED: u8 = 2;

/// What a domain has for its devices' messages.
pub struct Messages {
    services: Vec<VirtualIts>,
    /// What there is to do before a vCPU goes on, as [`COMMANDS`] and [`ENABLED`].
    work: AtomicU8,
}

/// An ITS as the domain sees it.
struct VirtualIts {
    frames: GpaRange,
    state: IrqLock<Vits>,
}

impl Messages {
    /// None: its devices have no messages.
    pub const fn none() -> Self {
        Self {
            services: Vec::new(),
            work: AtomicU8::new(0),
        }
    }

    /// All ITSs of the host, in their places, with all devices by the host's ids.
    ///
    /// # Errors
    /// [`VitsError`].
    pub fn of_host(frames: &[GpaRange], cpus: usize, lpis: u32) -> Result<Self, VitsError> {
        let mut services = Vec::new();
        for (number, (frames, service)) in frames.iter().zip(its::services()).enumerate() {
            let device_bits = service.typer.device_bits;
            let mut vits = Vits::new(Config {
                cpus,
                lpis,
                device_bits,
            })?;
            let last = u32::MAX >> (u32::BITS - u32::from(device_bits).clamp(1, u32::BITS));
            vits.offer(Offer {
                first: GuestDeviceId(0),
                last: GuestDeviceId(last),
                its: number,
                host: xen_core::its::DeviceId(0),
            })?;
            services.push(VirtualIts {
                frames: *frames,
                state: IrqLock::new(vits),
            });
        }
        Ok(Self {
            services,
            work: AtomicU8::new(0),
        })
    }

    /// The ITS and its register at an address.
    pub fn register(&self, address: Gpa) -> Option<Register<'_>> {
        self.services.iter().find_map(|service| {
            let inside = service.frames.contains(address);
            let offset = address.get().checked_sub(service.frames.start().get())?;
            let offset = u32::try_from(offset).ok().filter(|_| inside)?;
            Some(Register {
                messages: self,
                service,
                offset,
            })
        })
    }

    fn note(&self, work: u8) {
        self.work.fetch_or(work, Ordering::Release);
    }

    /// A vCPU has enabled LPIs.
    pub fn note_enabled(&self) {
        self.note(ENABLED);
    }

    /// Whether there is something to do before a vCPU goes on.
    #[inline]
    pub fn has_work(&self) -> bool {
        self.work.load(Ordering::Relaxed) != 0
    }
}

/// A register of a domain's ITS.
pub struct Register<'a> {
    messages: &'a Messages,
    service: &'a VirtualIts,
    /// Its place.
    pub offset: u32,
}

impl Register<'_> {
    /// A load or store; what a load reads.
    pub fn access(self, access: Access) -> u64 {
        let value = self.service.state.lock().access(access);
        if matches!(access.direction, Direction::Write(_)) {
            self.messages.note(COMMANDS);
        }
        value
    }
}

impl Domain {
    /// Does a part of what the guest's commands ask for.
    #[cold]
    #[inline(never)]
    pub fn go_on_with_messages(&self, effects: &mut Effects) {
        let messages = &self.messages;
        // Before the look at what there is: what comes after that is noted again.
        let work = messages.work.swap(0, Ordering::AcqRel);
        if work & ENABLED != 0 && self.vgic.continue_lpis(&Memory(self), effects) {
            messages.note(ENABLED);
        }
        if work & COMMANDS != 0 {
            for service in &messages.services {
                if self.execute(&mut service.state.lock(), effects) {
                    messages.note(COMMANDS);
                }
            }
        }
    }

    /// Goes on with the commands of an ITS. Returns whether there may be more.
    fn execute(&self, vits: &mut Vits, effects: &mut Effects) -> bool {
        let memory = Memory(self);
        for _ in 0..STEPS {
            match vits.step(&memory) {
                Step::Idle => return false,
                Step::Again => {}
                Step::Effect(effect) => {
                    if let Err(error) = self.perform(vits, effect, effects) {
                        self.complain(format_args!("{}: {error}", self.id));
                    }
                }
            }
        }
        true
    }

    /// Carries an effect out, in the order that it asks for.
    fn perform(
        &self,
        vits: &mut Vits,
        effect: Effect,
        effects: &mut Effects,
    ) -> Result<(), ItsError> {
        let mut apply = || effect.apply(&self.vgic, &Memory(self), effects);
        match effect {
            Effect::Raise { .. }
            | Effect::Reload { .. }
            | Effect::ReloadPart { .. }
            | Effect::MovePart { .. } => {
                apply();
                Ok(())
            }
            Effect::Unmap { source, .. } => {
                let unmapped = its::unmap(source);
                apply();
                unmapped
            }
            Effect::Clear { source, .. } => {
                let cleared = its::clear(source);
                apply();
                cleared
            }
            Effect::Move { source, cpu, .. } => {
                let sent = its::send_to(source, self.place_of(cpu));
                apply();
                sent
            }
            Effect::Map { source, lpi, cpu } => {
                apply();
                let owner = Owner {
                    domain: self.id,
                    lpi,
                };
                its::map(source, owner, self.place_of(cpu))
            }
            Effect::Attach {
                id,
                its,
                device,
                events,
            } => {
                let lpis = its::attach(its, device, events.min(MOST_EVENTS))?;
                let host = HostDevice {
                    its,
                    device,
                    first_event: xen_core::its::EventId(0),
                    lpis,
                };
                match vits.add_device(id, host) {
                    Ok(()) => Ok(()),
                    // The virtual ITS refuses the command.
                    Err(_) => its::detach(its, device, lpis),
                }
            }
            Effect::Detach(host) => its::detach(host.its, host.device, host.lpis),
        }
    }

    /// The CPU on which a vCPU ran last.
    fn place_of(&self, vcpu: CpuId) -> usize {
        let mut cpus = self.last_ran.iter();
        let ran_here = |last: &core::sync::atomic::AtomicU8| {
            usize::from(last.load(Ordering::Relaxed)) == vcpu.get()
        };
        cpus.position(ran_here).unwrap_or(vcpu.get())
    }
}

/// A message has arrived: its owner's vCPU gets the interrupt.
pub fn take(owner: Owner) {
    if let Some(domain) = super::table::lookup(owner.domain) {
        let mut effects = Effects::new();
        domain.vgic.raise_lpi(owner.lpi, &mut effects);
        domain.carry_out(&mut effects);
    }
}

/// RAM of a domain by its own addresses.
struct Memory<'a>(&'a Domain);

impl GuestMemory for Memory<'_> {
    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), BadAddress> {
        memory::copy_from_ram(self.0, at, into).map_err(|_| BadAddress(at))
    }
}
