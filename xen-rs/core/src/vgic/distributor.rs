//! The distributor: the shared interrupts of a domain, and which CPU each is queued for.

use super::alloc::vec::Vec;

use xen_types::{Affinity, Spi, Trigger};

use super::effects::{CpuId, Effects};
use super::irq::{Irq, Status};
use super::marks::Marks;
use super::ready::Ready;
use super::{CreateError, Version, cpu_with};

/// Where a shared interrupt goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Route {
    /// GICv2: a mask of CPUs. We deliver to the lowest.
    Targets(u8),
    /// GICv3: `GICD_IROUTER`.
    Affinity(Affinity),
}

#[derive(Clone, Debug)]
struct Shared {
    irq: Irq,
    route: Route,
    /// The CPU whose queue or list register it is in.
    owner: Option<CpuId>,
}

/// The shared interrupts of a domain and what is common to all CPUs.
#[derive(Debug)]
pub struct Distributor {
    cpus: usize,
    /// `GICD_CTLR`: bit 0 enables group 0, bit 1 group 1.
    groups: u8,
    /// Bits of INTIDs; without LPIs ten.
    id_bits: u8,
    shared: Vec<Shared>,
    /// For each 32 of them.
    marks: Vec<Marks>,
    /// For each CPU the interrupts that it must take and that are in no list register.
    ready: Vec<Ready>,
}

impl Distributor {
    /// As after reset.
    pub(super) fn new(version: Version, cpus: usize, spis: usize) -> Result<Self, CreateError> {
        let route = match version {
            Version::V2 => Route::Targets(1),
            Version::V3 => Route::Affinity(Affinity::default()),
        };
        let group1 = version == Version::V3;
        let one = Shared {
            irq: Irq::new(Trigger::Level, group1),
            route,
            owner: None,
        };
        Ok(Self {
            cpus,
            groups: 0,
            id_bits: 10,
            shared: filled(one, spis)?,
            marks: filled(Marks::new(group1), spis.div_ceil(32))?,
            ready: filled(Ready::default(), cpus)?,
        })
    }

    pub(super) const fn cpus(&self) -> usize {
        self.cpus
    }

    /// How many shared interrupts there are.
    pub(super) fn spis(&self) -> usize {
        self.shared.len()
    }

    pub(super) const fn id_bits(&self) -> u8 {
        self.id_bits
    }

    pub(super) const fn set_id_bits(&mut self, id_bits: u8) {
        self.id_bits = id_bits;
    }

    pub(super) const fn groups(&self) -> u8 {
        self.groups
    }

    pub(super) const fn set_groups(&mut self, groups: u8) {
        self.groups = groups;
    }

    /// A shared interrupt; `None` where the guest has fewer.
    pub fn irq(&self, spi: Spi) -> Option<&Irq> {
        Some(&self.shared.get(usize::from(spi.number()))?.irq)
    }

    pub(super) fn route(&self, spi: Spi) -> Option<Route> {
        Some(self.shared.get(usize::from(spi.number()))?.route)
    }

    /// What the registers with a bit each read of interrupts `32 * word` and on.
    pub(super) fn marks(&self, word: usize) -> Marks {
        self.marks.get(word).copied().unwrap_or_default()
    }

    /// Changes an interrupt by software, and carries out what follows.
    pub(super) fn change(
        &mut self,
        spi: Spi,
        effects: &mut Effects,
        change: impl FnOnce(&mut Irq),
    ) {
        self.update(spi, effects, |irq, effects| {
            let before = irq.status();
            change(irq);
            irq.report(before, effects);
        });
    }

    /// Changes an interrupt and queues it where it now belongs.
    pub(super) fn update<R>(
        &mut self,
        spi: Spi,
        effects: &mut Effects,
        change: impl FnOnce(&mut Irq, &mut Effects) -> R,
    ) -> Option<R> {
        let shared = self.shared.get_mut(usize::from(spi.number()))?;
        let before = shared.irq.status();
        let result = change(&mut shared.irq, effects);
        self.requeue(spi, before, effects);
        Some(result)
    }

    pub(super) fn set_route(&mut self, spi: Spi, route: Route, effects: &mut Effects) {
        if let Some(shared) = self.shared.get_mut(usize::from(spi.number())) {
            shared.route = route;
            let before = shared.irq.status();
            self.requeue(spi, before, effects);
        }
    }

    /// The CPU that an interrupt is routed to.
    pub(super) fn target(&self, route: Route) -> Option<CpuId> {
        match route {
            Route::Targets(mask) => CpuId::new(mask.trailing_zeros() as usize),
            Route::Affinity(affinity) => cpu_with(affinity),
        }
        .filter(|cpu| cpu.get() < self.cpus)
    }

    /// Puts an interrupt in the queue of the CPU that must take it, and wakes that CPU where it has
    /// something new to look at. One that is active stays with the CPU that made it so.
    fn requeue(&mut self, spi: Spi, before: Status, effects: &mut Effects) {
        let number = spi.number();
        let Some(shared) = self.shared.get(usize::from(number)) else {
            return;
        };
        let (irq, old, route) = (&shared.irq, shared.owner, shared.route);
        let after = irq.status();
        if after.differs_in_marks(before)
            && let Some(marks) = self.marks.get_mut(usize::from(number / 32))
        {
            marks.note(number.into(), irq);
        }
        let changed = after != before;
        let held = irq.is_held();
        let new = if held {
            old
        } else if irq.is_active_now() {
            old.or(self.target(route))
        } else if irq.is_queued() {
            self.target(route)
        } else {
            None
        };
        if let Some(queue) = old.and_then(|cpu| self.ready.get_mut(cpu.get())) {
            queue.remove(number);
        }
        if let Some(queue) = new.and_then(|cpu| self.ready.get_mut(cpu.get()))
            && !held
        {
            queue.insert(number);
        }
        if let Some(shared) = self.shared.get_mut(usize::from(number)) {
            shared.owner = new;
        }
        // A retargeted interrupt in a list register moves when that is read back.
        let misplaced = held && self.target(route) != old;
        if let Some(cpu) = new
            && (changed || new != old || misplaced)
        {
            effects.kick(cpu);
        }
    }

    /// How many interrupts are in the queue of a CPU.
    pub(super) fn waiting(&self, cpu: CpuId) -> usize {
        self.ready.get(cpu.get()).map_or(0, Ready::len)
    }

    /// The interrupts in the queue of a CPU.
    pub(super) fn ready(&self, cpu: CpuId) -> impl Iterator<Item = (Spi, &Irq)> {
        self.ready.get(cpu.get()).into_iter().flat_map(|queue| {
            queue.iter().filter_map(|number| {
                let spi = Spi::new(u32::from(number))?;
                Some((spi, self.irq(spi)?))
            })
        })
    }

    /// The CPU that an interrupt is queued for or that has it in a list register.
    pub(super) fn owner(&self, spi: Spi) -> Option<CpuId> {
        self.shared.get(usize::from(spi.number()))?.owner
    }
}

/// A vector of equal values.
pub(super) fn filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>, CreateError> {
    let mut vector = Vec::new();
    vector
        .try_reserve_exact(count)
        .map_err(|_| CreateError::OutOfMemory)?;
    vector.resize(count, value);
    Ok(vector)
}
