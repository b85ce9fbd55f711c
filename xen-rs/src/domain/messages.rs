//! Messages of a domain's devices: its virtual ITSs (`xen_core::vits`), and what their effects are on
//! the host's.
//!
//! The control domain finds its devices itself, and has an ITS for each of the host's; a guest has one
//! for the devices that it is given (`guest`).
//!
//! A guest's commands are executed a part at a time before one of its vCPUs enters it again, so that
//! an interrupt waits for one part at most, and a vCPU that waits for its commands sees them done.

mod guest;
mod vectors;

use alloc::vec::Vec;
use core::cell::Cell;
use core::sync::atomic::{AtomicU8, Ordering};

use xen_core::its::{DeviceId, Owner};
use xen_core::vgic::{Access, BadAddress, CpuId, Direction, Effects, GuestMemory};
use xen_core::vits::{
    Config, Effect, GuestDeviceId, Next, Offer, Outside, RevokeError, Step, Vits, VitsError,
};
use xen_types::{Gpa, GpaRange};

pub use self::guest::MessagesError;
pub use self::vectors::Vectors;
use super::interrupts::Masking;
use super::space::Window;
use super::{Domain, memory};
use crate::gic::its::{self, Frames, HostServices, Tables};
use crate::lock::IrqLock;

/// Bits of a domain's INTIDs: with 14 there are 8192 LPIs.
pub const LPI_BITS: u8 = 14;
/// How many steps of commands are made before a vCPU goes on.
const STEPS: usize = 32;

/// Commands may wait.
const COMMANDS: u8 = 1;
/// A vCPU has just enabled LPIs.
const ENABLED: u8 = 2;

/// What a domain has for its devices' messages.
pub struct Messages {
    services: Vec<VirtualIts>,
    /// A guest's frame of GICv2m.
    vectors: Option<Vectors>,
    /// What there is to do before a vCPU goes on, as [`COMMANDS`] and [`ENABLED`].
    work: AtomicU8,
}

/// An ITS as the domain sees it.
struct VirtualIts {
    frames: GpaRange,
    state: IrqLock<State>,
}

impl VirtualIts {
    fn new(frames: GpaRange, vits: Vits) -> Self {
        let queue = Window::default();
        Self {
            frames,
            state: IrqLock::new(State { vits, queue }),
        }
    }
}

struct State {
    vits: Vits,
    /// The page of the guest's command queue.
    queue: Window,
}

impl Messages {
    /// None: its devices have no messages.
    pub const fn none() -> Self {
        Self::of(Vec::new())
    }

    /// All ITSs of the host, in their places, with all devices by the host's ids.
    ///
    /// # Errors
    /// [`VitsError`].
    pub fn of_host(frames: &[GpaRange], cpus: usize, lpis: u32) -> Result<Self, VitsError> {
        let mut services = Vec::new();
        let typers = (0..).map_while(|number| its::services()?.typer(number));
        for (number, (frames, typer)) in frames.iter().zip(typers).enumerate() {
            let device_bits = typer.device_bits;
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
                host: DeviceId(0),
            })?;
            services.push(VirtualIts::new(*frames, vits));
        }
        Ok(Self::of(services))
    }

    const fn of(services: Vec<VirtualIts>) -> Self {
        Self {
            services,
            vectors: None,
            work: AtomicU8::new(0),
        }
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
    /// A load or store of the domain whose it is; what a load reads.
    pub fn access(self, domain: &Domain, access: Access, effects: &mut Effects) -> u64 {
        let mut state = self.service.state.lock();
        let value = state.vits.access(access);
        // Mostly a store tells of few commands, which are executed at once.
        if matches!(access.direction, Direction::Write(_)) && domain.execute(&mut state, effects) {
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
    fn execute(&self, state: &mut State, effects: &mut Effects) -> bool {
        let State { vits, queue } = state;
        let memory = Queue {
            domain: self,
            page: Cell::from_mut(queue),
        };
        for _ in 0..STEPS {
            match vits.next_message(&memory) {
                Next::Idle => return false,
                Next::Message(lpi) => self.vgic.raise_lpi(lpi, effects),
                Next::Other => self.step(vits, &memory, effects),
            }
        }
        true
    }

    /// Does what does not happen as often as messages.
    #[inline(never)]
    fn step(&self, vits: &mut Vits, memory: &Queue<'_>, effects: &mut Effects) {
        match vits.step(memory) {
            Step::Idle | Step::Again => {}
            Step::Effect(Effect::Raise { lpi, .. }) => self.vgic.raise_lpi(lpi, effects),
            Step::Effect(effect) => self.perform(vits, effect, memory, effects),
        }
    }

    fn perform(&self, vits: &mut Vits, effect: Effect, memory: &Queue<'_>, effects: &mut Effects) {
        let Some(services) = its::services() else {
            return;
        };
        let outside = self.outside(services, memory);
        if let Err(error) = outside.carry_out(vits, effect, &mut Tables, effects) {
            self.complain(format_args!("{}: {error}", self.id));
        }
    }

    /// A device is the domain's no more: none of its messages arrives, and the domain's ITS does not
    /// know it. Returns how many of its events were mapped.
    ///
    /// # Errors
    /// [`RevokeError`].
    pub fn revoke_messages(&self, its: usize, device: DeviceId) -> Result<u32, RevokeError> {
        let Some((service, services)) = self.messages.services.get(its).zip(its::services()) else {
            return Ok(0);
        };
        let memory = Memory(self);
        let mut effects = Effects::new();
        let revoked = self.outside(services, &memory).revoke(
            &mut service.state.lock().vits,
            GuestDeviceId(device.0),
            &mut Tables,
            &mut effects,
        );
        self.carry_out(&mut effects);
        revoked
    }

    /// A device that was taken is the domain's again, which may use its messages.
    pub fn restore_messages(&self, its: usize, device: DeviceId) {
        if let Some(service) = self.messages.services.get(its) {
            service.state.lock().vits.restore(GuestDeviceId(device.0));
        }
    }

    /// What the domain's ITSs act on.
    fn outside<'a, M: GuestMemory>(
        &'a self,
        services: &'a HostServices,
        memory: &'a M,
    ) -> Outside<'a, Frames, Masking, M, impl Fn(CpuId) -> usize> {
        Outside {
            domain: self.id,
            vgic: &self.vgic,
            memory,
            services,
            place_of: |vcpu| self.place_of(vcpu),
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

/// The same, mostly of one page.
struct Queue<'a> {
    domain: &'a Domain,
    page: &'a Cell<Window>,
}

impl GuestMemory for Queue<'_> {
    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), BadAddress> {
        Memory(self.domain).read(at, into)
    }

    #[inline(always)]
    fn read_words<const COUNT: usize>(&self, at: Gpa) -> Result<[u64; COUNT], BadAddress> {
        let mut page = self.page.get();
        let words = self.domain.space.lock().read_words(at, &mut page);
        self.page.set(page);
        words.map_err(|_| BadAddress(at))
    }
}
