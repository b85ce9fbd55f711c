//! The interrupt controller of a domain as a whole.

use core::sync::atomic::{AtomicU8, Ordering};

use super::alloc::vec::Vec;

use xen_types::{IntId, Lpi, Ppi, Spi};

use super::cpu::Cpu;
use super::deliver;
use super::distributor::Distributor;
use super::effects::{CpuId, CpuSet, Effects};
use super::irq::{Irq, Link};
use super::lpi::{GuestMemory, Lpis};
use super::lr::{Format, ListRegisters};
use super::mmio::{Access, Direction, bank, lpi, redistributor, v2, v3};
use super::sgi::{Request, SgiRegister};
use super::{CreateError, Version};

/// Mutual exclusion around a value.
pub trait Lock<T> {
    /// An open lock.
    fn new(value: T) -> Self;
    /// Calls with the value while no one else has it.
    fn with<R>(&self, call: impl FnOnce(&mut T) -> R) -> R;
}

/// The kind of lock to use: one that masks interrupts, as interrupt handlers inject.
pub trait Locking {
    /// The lock around a value.
    type Lock<T>: Lock<T>;
}

/// The frames that a guest's loads and stores can reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Region {
    /// The distributor: 4 KiB for GICv2, 64 KiB for GICv3.
    Distributor,
    /// The redistributors of all CPUs in order, 128 KiB each.
    Redistributors,
}

/// Why a virtual interrupt cannot stand for a physical one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkError {
    /// The guest has no such interrupt.
    #[error("{0}: the guest has no such interrupt")]
    Missing(IntId),
    /// It stands for one already, or is pending or active.
    #[error("{0}: in use")]
    Busy(IntId),
}

/// What changed: private interrupts.
const PRIVATE_NEWS: u8 = 1 << 0;
/// What changed: LPIs.
const LPI_NEWS: u8 = 1 << 1;
/// What changed: anything, shared interrupts too.
const ANY_NEWS: u8 = 0b111;

/// A CPU's part.
struct Private<L: Locking> {
    cpu: L::Lock<Cpu>,
    /// What changed since the list registers were last filled.
    news: AtomicU8,
}

/// The interrupt controller of a domain.
pub struct Vgic<L: Locking> {
    version: Version,
    spis: usize,
    distributor: L::Lock<Distributor>,
    /// The groups that the distributor forwards, changed with its lock held.
    groups: AtomicU8,
    /// All of `cpus`.
    all: CpuSet,
    cpus: Vec<Private<L>>,
    lpis: Option<L::Lock<Lpis>>,
}

impl<L: Locking> Vgic<L> {
    /// A controller after reset, with `cpus` CPUs and at least `spis` shared interrupts: rounded
    /// up to what `GICD_TYPER` can say, a multiple of 32 or all 988.
    ///
    /// # Errors
    /// [`CreateError`]: too many of either, no CPU, or no memory.
    pub fn new(version: Version, cpus: usize, spis: usize) -> Result<Self, CreateError> {
        let most = version.max_cpus();
        if cpus == 0 || cpus > most {
            return Err(CreateError::Cpus { cpus, most });
        }
        let all = usize::from(Spi::COUNT);
        if spis > all {
            return Err(CreateError::Spis(spis));
        }
        let spis = spis.next_multiple_of(32).min(all);
        let mut private = Vec::new();
        private
            .try_reserve_exact(cpus)
            .map_err(|_| CreateError::OutOfMemory)?;
        private.extend((0..cpus).filter_map(CpuId::new).map(|id| Private {
            cpu: L::Lock::new(Cpu::new(id, version)),
            news: AtomicU8::new(0),
        }));
        Ok(Self {
            version,
            spis,
            distributor: L::Lock::new(Distributor::new(version, cpus, spis)?),
            groups: AtomicU8::new(0),
            all: CpuSet::first(cpus),
            cpus: private,
            lpis: None,
        })
    }

    /// Gives the guest LPIs, before it runs: all that INTIDs of `id_bits` bits have room for, 14 to
    /// 16.
    ///
    /// # Errors
    /// [`CreateError::Lpis`], [`CreateError::OutOfMemory`].
    pub fn offer_lpis(&mut self, id_bits: u8) -> Result<(), CreateError> {
        if self.version != Version::V3 || !Lpis::ID_BITS.contains(&id_bits) {
            return Err(CreateError::Lpis(id_bits));
        }
        self.lpis = Some(L::Lock::new(Lpis::new(id_bits, self.cpus.len())?));
        self.distributor
            .with(|distributor| distributor.set_id_bits(id_bits));
        Ok(())
    }

    /// What the guest sees.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// How many CPUs there are.
    pub fn cpus(&self) -> usize {
        self.cpus.len()
    }

    /// How many shared interrupts there are.
    pub const fn spis(&self) -> usize {
        self.spis
    }

    /// Whether a load or store of the register at an offset is about what list registers know better:
    /// the pending and active states.
    #[inline]
    pub const fn is_about_state(&self, region: Region, offset: u32) -> bool {
        match (self.version, region) {
            (Version::V2, Region::Distributor) => v2::is_about_state(offset),
            (Version::V3, Region::Distributor) => bank::is_about_state(offset),
            (_, Region::Redistributors) => redistributor::is_about_state(offset),
        }
    }

    /// Whether a register is that by which a guest enables LPIs: [`Vgic::has_lpi_work`] is to be asked
    /// after a store to it.
    #[inline]
    pub const fn enables_lpis(&self, region: Region, offset: u32) -> bool {
        matches!(region, Region::Redistributors) && lpi::is_control(offset)
    }

    /// A load or store by `cpu`, whose list registers must have been synced before if it
    /// [is about states][Vgic::is_about_state]. Returns what a load reads, zero for a store; what does not exist reads zero and ignores writes.
    pub fn access(&self, cpu: CpuId, region: Region, access: Access, effects: &mut Effects) -> u64 {
        if let (Version::V2, Region::Distributor) = (self.version, region)
            && let Some(value) = v2::sent_sgi(access)
        {
            if let Some(request) = v2::sgir(cpu, self.all, value) {
                self.deliver_sgi(request, effects);
            }
            return 0;
        }
        let value = match (self.version, region) {
            (Version::V2, Region::Distributor) => self.access_v2(cpu, access, effects),
            (Version::V3, Region::Distributor) => self.distributor.with(|distributor| {
                let (value, groups_changed) = v3::access(distributor, access, effects);
                if groups_changed {
                    self.forward(distributor.groups(), effects);
                }
                value
            }),
            (Version::V3, Region::Redistributors) => self.access_redistributor(access, effects),
            (Version::V2, Region::Redistributors) => 0,
        };
        match access.direction {
            Direction::Read => value,
            Direction::Write(_) => {
                self.note(effects);
                0
            }
        }
    }

    fn access_v2(&self, cpu: CpuId, access: Access, effects: &mut Effects) -> u64 {
        self.with_cpu(cpu, |distributor, cpu| {
            let (value, groups_changed) = v2::access(distributor, cpu, access, effects);
            if groups_changed {
                self.forward(distributor.groups(), effects);
            }
            value
        })
        .unwrap_or(0)
    }

    fn access_redistributor(&self, access: Access, effects: &mut Effects) -> u64 {
        let index = (access.offset >> redistributor::SIZE_SHIFT) as usize;
        let Some(private) = self.cpus.get(index) else {
            return 0;
        };
        if let (Some(lpis), Some(cpu)) = (&self.lpis, CpuId::new(index))
            && let Some(register) = lpi::decode(access)
        {
            return lpis.with(|lpis| lpi::access(lpis, cpu, register, access, effects));
        }
        let traits = redistributor::Traits {
            last: index + 1 == self.cpus.len(),
            lpis: self.lpis.is_some(),
        };
        private
            .cpu
            .with(|cpu| redistributor::access(cpu, traits, access, effects))
    }

    /// A write to one of the registers by which a GICv3 guest sends SGIs. With GICv2 there is none.
    pub fn send_sgi(&self, from: CpuId, register: SgiRegister, value: u64, effects: &mut Effects) {
        if self.version == Version::V3
            && let Some(request) = Request::of_system_register(register, value, from, self.all)
        {
            self.deliver_sgi(request, effects);
        }
    }

    fn deliver_sgi(&self, request: Request, effects: &mut Effects) {
        for target in request.targets {
            self.with_private(target, effects, |cpu, effects| request.arrive(cpu, effects));
        }
    }

    /// Changes private interrupts of a CPU.
    #[inline]
    fn with_private(
        &self,
        cpu: CpuId,
        effects: &mut Effects,
        change: impl FnOnce(&mut Cpu, &mut Effects) -> bool,
    ) {
        if let Some(private) = self.cpus.get(cpu.get())
            && private.cpu.with(|cpu| change(cpu, effects))
        {
            private.news.fetch_or(PRIVATE_NEWS, Ordering::Release);
        }
    }

    /// The input of a private peripheral interrupt goes up or down.
    pub fn set_private_line(&self, cpu: CpuId, ppi: Ppi, level: bool, effects: &mut Effects) {
        self.change_private(cpu, ppi, effects, |irq| irq.set_line(level));
    }

    /// A private peripheral interrupt becomes pending, once: an event, or the arrival of the
    /// physical interrupt that it is linked to.
    pub fn inject_private(&self, cpu: CpuId, ppi: Ppi, effects: &mut Effects) {
        self.with_private(cpu, effects, |cpu, effects| {
            cpu.pend(ppi.into(), effects, Irq::set_pending)
        });
    }

    /// The input of a shared interrupt goes up or down.
    pub fn set_line(&self, spi: Spi, level: bool, effects: &mut Effects) {
        self.change_shared(spi, effects, |irq| irq.set_line(level));
    }

    /// A shared interrupt becomes pending, once: an event, or the arrival of the physical interrupt
    /// that it is linked to.
    pub fn inject(&self, spi: Spi, effects: &mut Effects) {
        self.change_shared(spi, effects, |irq| {
            irq.set_pending();
        });
    }

    /// A shared interrupt is not pending any more, if the guest has not taken it yet. That may be told as
    /// the guest's end of it.
    pub fn withdraw(&self, spi: Spi, effects: &mut Effects) {
        self.distributor.with(|distributor| {
            distributor.update(spi, effects, |irq, _| irq.clear_pending());
        });
        self.note(effects);
    }

    fn change_private(
        &self,
        cpu: CpuId,
        ppi: Ppi,
        effects: &mut Effects,
        change: impl FnOnce(&mut Irq),
    ) {
        self.with_private(cpu, effects, |cpu, effects| {
            cpu.change(ppi.into(), effects, change)
        });
    }

    fn change_shared(&self, spi: Spi, effects: &mut Effects, change: impl FnOnce(&mut Irq)) {
        self.distributor
            .with(|distributor| distributor.change(spi, effects, change));
        self.note(effects);
    }

    /// How many LPIs the guest has; its first has INTID 8192.
    pub fn lpis(&self) -> u32 {
        self.lpis
            .as_ref()
            .map_or(0, |lpis| lpis.with(|lpis| lpis.count()))
    }

    /// An event was mapped to an LPI: it goes to this CPU, configured as guest memory says. Returns
    /// whether it is enabled.
    pub fn map_lpi(
        &self,
        lpi: Lpi,
        cpu: CpuId,
        memory: &impl GuestMemory,
        effects: &mut Effects,
    ) -> bool {
        self.change_lpis(effects, |lpis, effects| lpis.map(lpi, cpu, memory, effects))
            .unwrap_or(false)
    }

    /// No event is mapped to an LPI any more: it is not pending.
    pub fn unmap_lpi(&self, lpi: Lpi, effects: &mut Effects) {
        self.change_lpis(effects, |lpis, effects| lpis.unmap(lpi, effects));
    }

    /// An LPI goes to another CPU, pending or not.
    pub fn move_lpi(&self, lpi: Lpi, cpu: CpuId, effects: &mut Effects) {
        self.change_lpis(effects, |lpis, effects| lpis.retarget(lpi, cpu, effects));
    }

    /// A message arrived: in constant time and without allocation. An LPI that no event is mapped
    /// to stays as it is.
    #[inline(always)]
    pub fn raise_lpi(&self, lpi: Lpi, effects: &mut Effects) {
        let Some(lpis) = &self.lpis else {
            return;
        };
        if let Some(cpu) = lpis.with(|lpis| lpis.raise(lpi)) {
            effects.kick(cpu);
            self.note_lpi(cpu);
        }
    }

    /// An LPI is not pending any more.
    pub fn clear_lpi(&self, lpi: Lpi, effects: &mut Effects) {
        self.change_lpis(effects, |lpis, effects| lpis.clear(lpi, effects));
    }

    /// Reads the configuration of an LPI from guest memory again. Returns whether it is enabled.
    pub fn reload_lpi(&self, lpi: Lpi, memory: &impl GuestMemory, effects: &mut Effects) -> bool {
        self.change_lpis(effects, |lpis, effects| lpis.reload(lpi, memory, effects))
            .unwrap_or(false)
    }

    /// Reads the configuration of LPIs from guest memory again, some from number `first` on, and
    /// returns where to go on; `None` when that was all.
    pub fn reload_lpis(
        &self,
        first: u32,
        memory: &impl GuestMemory,
        effects: &mut Effects,
    ) -> Option<u32> {
        self.change_lpis(effects, |lpis, effects| {
            lpis.reload_some(first, memory, effects)
        })
        .flatten()
    }

    /// Moves what is pending at a CPU to another, for some LPIs from number `first` on, and returns
    /// where to go on; `None` when that was all.
    pub fn move_pending_lpis(
        &self,
        first: u32,
        from: CpuId,
        to: CpuId,
        effects: &mut Effects,
    ) -> Option<u32> {
        self.change_lpis(effects, |lpis, effects| {
            lpis.move_some(first, from, to, effects)
        })
        .flatten()
    }

    /// Whether a CPU enabled LPIs, so that [`Vgic::continue_lpis`] has something to do.
    pub fn has_lpi_work(&self) -> bool {
        self.lpis
            .as_ref()
            .is_some_and(|lpis| lpis.with(|lpis| lpis.has_work()))
    }

    /// Goes on with what enabling LPIs takes: their configuration and what is pending are read from
    /// guest memory, a bounded part with each call. Returns whether there is more.
    pub fn continue_lpis(&self, memory: &impl GuestMemory, effects: &mut Effects) -> bool {
        self.change_lpis(effects, |lpis, effects| lpis.work(memory, effects))
            .unwrap_or(false)
    }

    fn change_lpis<R>(
        &self,
        effects: &mut Effects,
        change: impl FnOnce(&mut Lpis, &mut Effects) -> R,
    ) -> Option<R> {
        let result = self.lpis.as_ref()?.with(|lpis| change(lpis, effects));
        self.note_lpis(effects.kicks());
        Some(result)
    }

    /// Lets a shared interrupt stand for a physical one: the guest's end deactivates it, and what
    /// the guest enables, disables and configures is asked of it in the effects.
    ///
    /// # Errors
    /// [`LinkError`]: there is no such interrupt, or it is in use.
    pub fn link(&self, spi: Spi, physical: IntId, effects: &mut Effects) -> Result<(), LinkError> {
        self.link_shared(spi, Link::Physical(physical), effects)
    }

    /// Has the hypervisor told when the guest is done with a shared interrupt that it
    /// [injects][Vgic::inject], by [`Physical::Ended`](super::Physical::Ended): the guest has taken and
    /// ended it, or dropped it.
    ///
    /// # Errors
    /// [`LinkError`]: there is no such interrupt, or it is in use.
    pub fn watch(&self, spi: Spi, effects: &mut Effects) -> Result<(), LinkError> {
        self.link_shared(spi, Link::Hypervisor(spi), effects)
    }

    fn link_shared(&self, spi: Spi, link: Link, effects: &mut Effects) -> Result<(), LinkError> {
        self.distributor
            .with(|distributor| {
                distributor.update(spi, effects, |irq, effects| {
                    irq.link_to(link, effects)
                        .then_some(())
                        .ok_or(LinkError::Busy(spi.into()))
                })
            })
            .unwrap_or(Err(LinkError::Missing(spi.into())))
    }

    /// The same as [`Vgic::link`] for a private interrupt of one CPU.
    ///
    /// # Errors
    /// [`LinkError`]: there is no such CPU, or the interrupt is in use.
    pub fn link_private(
        &self,
        cpu: CpuId,
        ppi: Ppi,
        physical: IntId,
        effects: &mut Effects,
    ) -> Result<(), LinkError> {
        self.cpus
            .get(cpu.get())
            .and_then(|private| {
                private.cpu.with(|cpu| {
                    cpu.update(ppi.into(), effects, |irq, effects| {
                        irq.link_to(Link::Physical(physical), effects)
                            .then_some(())
                            .ok_or(LinkError::Busy(ppi.into()))
                    })
                })
            })
            .unwrap_or(Err(LinkError::Missing(ppi.into())))
    }

    /// Ends the link of a shared interrupt: the physical one is disabled, and deactivated if the
    /// guest was not done with it. No CPU may have it in a list register: the domain is paused and
    /// synced.
    pub fn unlink(&self, spi: Spi, effects: &mut Effects) {
        self.distributor.with(|distributor| {
            distributor.update(spi, effects, Irq::unlink);
        });
        self.note(effects);
    }

    /// Whether the list registers of a CPU must be synced and filled anew before it runs.
    pub fn has_news(&self, cpu: CpuId) -> bool {
        self.cpus
            .get(cpu.get())
            .is_some_and(|private| private.news.load(Ordering::Acquire) != 0)
    }

    /// Whether a CPU has an interrupt to take. Its list registers must have been synced before.
    pub fn has_deliverable(&self, cpu: CpuId) -> bool {
        self.with_all(cpu, |distributor, cpu, lpis| {
            deliver::has_deliverable(distributor, cpu, lpis.as_deref())
        })
        .unwrap_or(false)
    }

    /// Fills the list registers, which are empty at first or after [`Vgic::sync`].
    pub fn flush<F: Format>(&self, cpu: CpuId, registers: &mut ListRegisters<F>) {
        if let Some(private) = self.cpus.get(cpu.get()) {
            // Before the queues are read: what arrives after that is news again.
            private.news.swap(0, Ordering::AcqRel);
        }
        self.with_all(cpu, |distributor, cpu, lpis| {
            deliver::flush(distributor, cpu, lpis, registers);
        });
    }

    /// [`Vgic::sync`] and [`Vgic::flush`] in one step.
    #[inline]
    pub fn refresh<F: Format>(
        &self,
        cpu: CpuId,
        registers: &mut ListRegisters<F>,
        effects: &mut Effects,
    ) {
        if !self.refresh_unshared(cpu, registers, effects) {
            self.sync(cpu, registers, effects);
            self.flush(cpu, registers);
        }
    }

    /// Does so without a look at shared interrupts, where they are not concerned: none is in the list
    /// registers or was left out, and nothing about them is news, so that none is in the CPU's
    /// queue but those of a group that is not forwarded. Nor at LPIs, where the same is true of
    /// them. Returns whether it did.
    #[inline]
    fn refresh_unshared<F: Format>(
        &self,
        cpu: CpuId,
        registers: &mut ListRegisters<F>,
        effects: &mut Effects,
    ) -> bool {
        let Some(private) = self.cpus.get(cpu.get()) else {
            return false;
        };
        // Before the queues are read: what arrives after that is news again.
        let news = private.news.swap(0, Ordering::AcqRel);
        if news & !(PRIVATE_NEWS | LPI_NEWS) != 0 || !registers.are_unshared() {
            return false;
        }
        let groups = self.groups.load(Ordering::Relaxed);
        match &self.lpis {
            Some(lpis) if news & LPI_NEWS != 0 || registers.have_lpis() => {
                let done = private.cpu.with(|cpu| {
                    lpis.with(|lpis| {
                        deliver::refresh_unshared(cpu, lpis, groups, registers, effects)
                    })
                });
                // LPIs may have gone to other CPUs when they were taken back.
                let others = effects.kicks().filter(|other| *other != cpu);
                others.for_each(|other| self.note_lpi(other));
                done
            }
            _ => private
                .cpu
                .with(|cpu| deliver::refresh_private(cpu, groups, registers, effects)),
        }
    }

    /// Takes back what the list registers say, and empties them. [`Vgic::flush`] must follow before
    /// the CPU runs again, as [`Vgic::has_news`] says.
    pub fn sync<F: Format>(
        &self,
        cpu: CpuId,
        registers: &mut ListRegisters<F>,
        effects: &mut Effects,
    ) {
        let kicks = effects.take_kicks();
        self.with_all(cpu, |distributor, cpu, lpis| {
            deliver::sync(distributor, cpu, lpis, registers, effects);
        });
        if let Some(private) = self.cpus.get(cpu.get()) {
            private.news.store(ANY_NEWS, Ordering::Release);
        }
        // The CPU itself need not be told.
        effects.unkick(cpu);
        effects.kick_all(kicks);
        self.note(effects);
    }

    /// A shared interrupt, as it stands.
    pub fn shared(&self, spi: Spi) -> Option<Irq> {
        self.distributor
            .with(|distributor| distributor.irq(spi).cloned())
    }

    /// A private interrupt, as it stands.
    pub fn private(&self, cpu: CpuId, id: IntId) -> Option<Irq> {
        let private = self.cpus.get(cpu.get())?;
        private.cpu.with(|cpu| cpu.irq(id).cloned())
    }

    /// Calls with both locks held, in their order.
    fn with_cpu<R>(
        &self,
        cpu: CpuId,
        call: impl FnOnce(&mut Distributor, &mut Cpu) -> R,
    ) -> Option<R> {
        let private = self.cpus.get(cpu.get())?;
        let result = self
            .distributor
            .with(|distributor| private.cpu.with(|cpu| call(distributor, cpu)));
        Some(result)
    }

    /// Calls with the locks of what a CPU can take, in their order.
    fn with_all<R>(
        &self,
        cpu: CpuId,
        call: impl FnOnce(&mut Distributor, &mut Cpu, Option<&mut Lpis>) -> R,
    ) -> Option<R> {
        self.with_cpu(cpu, |distributor, cpu| match &self.lpis {
            Some(lpis) => lpis.with(|lpis| call(distributor, cpu, Some(lpis))),
            None => call(distributor, cpu, None),
        })
    }

    /// All CPUs must look again when forwarding goes on or off.
    fn forward(&self, groups: u8, effects: &mut Effects) {
        self.groups.store(groups, Ordering::Release);
        effects.kick_all(self.all);
    }

    /// Remembers for each CPU that is kicked that there is news.
    #[inline]
    fn note(&self, effects: &Effects) {
        if !effects.kicks().is_empty() {
            self.note_all(effects.kicks());
        }
    }

    /// Remembers the same, where LPIs alone have changed since the kicks before were remembered.
    #[inline]
    fn note_lpis(&self, kicks: CpuSet) {
        kicks.for_each(|cpu| self.note_lpi(cpu));
    }

    #[inline]
    fn note_lpi(&self, cpu: CpuId) {
        if let Some(private) = self.cpus.get(cpu.get()) {
            private.news.fetch_or(LPI_NEWS, Ordering::Release);
        }
    }

    fn note_all(&self, kicks: CpuSet) {
        for private in kicks.filter_map(|cpu| self.cpus.get(cpu.get())) {
            private.news.store(ANY_NEWS, Ordering::Release);
        }
    }
}
