//! LPIs of a guest: configured by a byte in guest memory each, raised by messages (IHI 0069, 5.1).
//!
//! What is configured is copied from guest memory when an event is mapped to an LPI, when the guest
//! asks for it by INV and INVALL, and when a CPU enables LPIs; the copy alone counts. An LPI is
//! pending at one CPU, and has no active state (4.1.2): the acknowledge ends its life in a list
//! register.

mod queue;

use super::alloc::vec::Vec;

use core::ops::RangeInclusive;

use xen_types::{Gpa, IntId, Lpi};

use super::CreateError;
use super::distributor::filled;
use super::effects::{CpuId, CpuSet, Effects};
use super::irq::PRIORITY_MASK;
use super::lr::{Backing, ListRegister};
use crate::its::layout::{Attributes, LpiConfig, PendBaser, PropBaser};
use queue::{Linked, Links, Queue};

/// How many LPIs one call handles that handles many.
pub const PART: u32 = 512;
/// Group 1 in `GICD_CTLR`: where LPIs are.
const GROUP_1: u8 = 1 << 1;

/// A guest gave an address at which it has no memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the guest has no memory at {0}")]
pub struct BadAddress(pub Gpa);

/// Memory of a guest, which it can change at any time.
pub trait GuestMemory {
    /// Copies `into.len()` bytes, of one page or several.
    ///
    /// # Errors
    /// [`BadAddress`]: not all of them are readable RAM. What was copied is not to be used.
    fn read(&self, at: Gpa, into: &mut [u8]) -> Result<(), BadAddress>;

    /// Copies little-endian doublewords of one page, from a multiple of their size on.
    ///
    /// # Errors
    /// [`BadAddress`], as for [`GuestMemory::read`].
    fn read_words<const COUNT: usize>(&self, at: Gpa) -> Result<[u64; COUNT], BadAddress> {
        let mut words = [[0; 8]; COUNT];
        self.read(at, words.as_flattened_mut())?;
        Ok(words.map(u64::from_le_bytes))
    }
}

/// What is known of an LPI besides its configuration.
#[derive(Clone, Copy, Default, Debug)]
struct State {
    /// An event is mapped to it.
    mapped: bool,
    /// Pending, apart from what a list register holds.
    pending: bool,
    /// A list register of `owner` holds it.
    held: bool,
    /// It was cleared while a list register held it.
    discard: bool,
    /// It was sent to another CPU while a list register held it.
    moved: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    links: Links,
    config: LpiConfig,
    state: State,
    /// Where it goes when it is raised.
    target: CpuId,
    /// Where it is pending or held.
    owner: CpuId,
}

impl Entry {
    const NEW: Self = Self {
        links: Links::NONE,
        config: LpiConfig {
            enabled: false,
            priority: 0,
        },
        state: State {
            mapped: false,
            pending: false,
            held: false,
            discard: false,
            moved: false,
        },
        target: CpuId::FIRST,
        owner: CpuId::FIRST,
    };

    const fn is_queued(&self) -> bool {
        self.state.pending && self.config.enabled && !self.state.held
    }

    /// A list register holds it from now on.
    const fn hold(&mut self) {
        self.state.held = true;
        self.state.pending = false;
        self.state.discard = false;
        self.state.moved = false;
    }
}

impl Linked for Vec<Entry> {
    fn links(&self, lpi: u16) -> Option<Links> {
        Some(self.get(usize::from(lpi))?.links)
    }

    fn links_mut(&mut self, lpi: u16) -> Option<&mut Links> {
        Some(&mut self.get_mut(usize::from(lpi))?.links)
    }
}

/// What CPUs that have enabled LPIs still wait for.
#[derive(Clone, Copy, Default, Debug)]
struct Work {
    cpus: CpuSet,
    /// The first LPI that is not done for the lowest of them.
    next: u32,
}

/// The LPIs of a domain.
#[derive(Debug)]
pub struct Lpis {
    /// `GICR_PROPBASER`, one for all.
    configuration: u64,
    /// `GICR_PENDBASER` of each CPU.
    pending_tables: Vec<u64>,
    /// Where `GICR_CTLR.EnableLPIs` is set.
    enabled: CpuSet,
    work: Work,
    entries: Vec<Entry>,
    queues: Vec<Queue>,
}

impl Lpis {
    /// Bits that INTIDs may have.
    pub(super) const ID_BITS: RangeInclusive<u8> = 14..=16;

    /// As after reset, with INTIDs of `id_bits` bits.
    pub(super) fn new(id_bits: u8, cpus: usize) -> Result<Self, CreateError> {
        let count = (1 << id_bits) - Lpi::FIRST;
        Ok(Self {
            configuration: 0,
            pending_tables: filled(0, cpus)?,
            enabled: CpuSet::EMPTY,
            work: Work::default(),
            entries: filled(Entry::NEW, count as usize)?,
            queues: filled(Queue::EMPTY, cpus)?,
        })
    }

    pub(super) fn count(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(super) const fn is_enabled_on(&self, cpu: CpuId) -> bool {
        self.enabled.contains(cpu)
    }

    pub(super) fn enable_on(&mut self, cpu: CpuId, enable: bool, effects: &mut Effects) {
        if enable == self.is_enabled_on(cpu) {
            return;
        }
        self.work.cpus.remove(cpu);
        self.work.next = 0;
        if enable {
            self.enabled.insert(cpu);
            self.work.cpus.insert(cpu);
        } else {
            self.enabled.remove(cpu);
        }
        effects.kick(cpu);
    }

    pub(super) const fn configuration(&self) -> u64 {
        self.configuration
    }

    /// It stays as it is while a CPU has LPIs enabled (12.11.26).
    pub(super) fn set_configuration(&mut self, value: u64) {
        if self.enabled.is_empty() {
            let prop = PropBaser::<Gpa> {
                attributes: Attributes::COHERENT,
                ..PropBaser::decode(value)
            };
            self.configuration = prop.encode();
        }
    }

    /// PTZ is not shown, though remembered.
    pub(super) fn pending_table(&self, cpu: CpuId) -> u64 {
        let register = self.pending_tables.get(cpu.get()).copied().unwrap_or(0);
        let pend = PendBaser::<Gpa> {
            zeroed: false,
            ..PendBaser::decode(register)
        };
        pend.encode()
    }

    /// It stays as it is while the CPU has LPIs enabled (12.11.25).
    pub(super) fn set_pending_table(&mut self, cpu: CpuId, value: u64) {
        if !self.is_enabled_on(cpu)
            && let Some(register) = self.pending_tables.get_mut(cpu.get())
        {
            let pend = PendBaser::<Gpa> {
                attributes: Attributes::COHERENT,
                ..PendBaser::decode(value)
            };
            *register = pend.encode();
        }
    }

    /// Changes an LPI and puts it into the queue where it now belongs, behind others.
    fn update(&mut self, lpi: Lpi, effects: &mut Effects, change: impl FnOnce(&mut Entry)) {
        let number = lpi.number() as u16;
        let Some(entry) = self.entries.get_mut(lpi.number() as usize) else {
            return;
        };
        let old = *entry;
        change(entry);
        let new = *entry;
        let moved = old.owner != new.owner || old.config.priority != new.config.priority;
        if old.is_queued()
            && (moved || !new.is_queued())
            && let Some(queue) = self.queues.get_mut(old.owner.get())
        {
            queue.remove(&mut self.entries, number, old.config.priority);
        }
        if new.is_queued()
            && (moved || !old.is_queued())
            && let Some(queue) = self.queues.get_mut(new.owner.get())
        {
            queue.push(&mut self.entries, number, new.config.priority);
            effects.kick(new.owner);
        }
    }

    pub(super) fn map(
        &mut self,
        lpi: Lpi,
        cpu: CpuId,
        memory: &impl GuestMemory,
        effects: &mut Effects,
    ) -> bool {
        let config = self.read_one(lpi, memory);
        self.update(lpi, effects, |entry| entry.state.mapped = true);
        self.configure(lpi, config, effects);
        self.retarget(lpi, cpu, effects);
        config.enabled
    }

    pub(super) fn unmap(&mut self, lpi: Lpi, effects: &mut Effects) {
        self.clear(lpi, effects);
        self.update(lpi, effects, |entry| entry.state.mapped = false);
    }

    pub(super) fn retarget(&mut self, lpi: Lpi, cpu: CpuId, effects: &mut Effects) {
        if cpu.get() >= self.queues.len() {
            return;
        }
        let mut misplaced = None;
        self.update(lpi, effects, |entry| {
            entry.target = cpu;
            if !entry.state.held {
                entry.owner = cpu;
            } else {
                entry.state.moved = true;
                misplaced = Some(entry.owner).filter(|owner| *owner != cpu);
            }
        });
        // What is in a list register moves when that is read back.
        if let Some(owner) = misplaced {
            effects.kick(owner);
        }
    }

    /// Returns the CPU that has something new to look at.
    #[inline(always)]
    pub(super) fn raise(&mut self, lpi: Lpi) -> Option<CpuId> {
        let entry = self.entries.get_mut(lpi.number() as usize)?;
        // Without EnableLPIs it is lost (12.11.2).
        if !entry.state.mapped || !self.enabled.contains(entry.target) {
            return None;
        }
        let was_pending = core::mem::replace(&mut entry.state.pending, true);
        if entry.state.held {
            return Some(entry.owner);
        }
        if was_pending {
            return None;
        }
        entry.owner = entry.target;
        if !entry.config.enabled {
            return None;
        }
        let (owner, priority) = (entry.owner, entry.config.priority);
        let queue = self.queues.get_mut(owner.get())?;
        queue.push(&mut self.entries, lpi.number() as u16, priority);
        Some(owner)
    }

    pub(super) fn clear(&mut self, lpi: Lpi, effects: &mut Effects) {
        let mut held_by = None;
        self.update(lpi, effects, |entry| {
            entry.state.pending = false;
            if entry.state.held {
                entry.state.discard = true;
                held_by = Some(entry.owner);
            }
        });
        if let Some(owner) = held_by {
            effects.kick(owner);
        }
    }

    fn configure(&mut self, lpi: Lpi, config: LpiConfig, effects: &mut Effects) {
        let mut held_by = None;
        self.update(lpi, effects, |entry| {
            if entry.state.held && entry.config != config {
                held_by = Some(entry.owner);
            }
            entry.config = config;
        });
        if let Some(owner) = held_by {
            effects.kick(owner);
        }
    }

    pub(super) fn reload(
        &mut self,
        lpi: Lpi,
        memory: &impl GuestMemory,
        effects: &mut Effects,
    ) -> bool {
        let config = self.read_one(lpi, memory);
        self.configure(lpi, config, effects);
        config.enabled
    }

    pub(super) fn reload_some(
        &mut self,
        first: u32,
        memory: &impl GuestMemory,
        effects: &mut Effects,
    ) -> Option<u32> {
        let mut bytes = [0; PART as usize];
        self.read_configuration(first, memory, &mut bytes);
        for (number, byte) in (first..self.count()).zip(bytes) {
            if let Some(lpi) = Lpi::new(number) {
                self.configure(lpi, config_of(byte), effects);
            }
        }
        self.part_after(first)
    }

    pub(super) fn move_some(
        &mut self,
        first: u32,
        from: CpuId,
        to: CpuId,
        effects: &mut Effects,
    ) -> Option<u32> {
        if to.get() >= self.queues.len() {
            return None;
        }
        for lpi in (first..self.count()).take(PART as usize) {
            if let Some(lpi) = Lpi::new(lpi) {
                self.update(lpi, effects, |entry| {
                    let state = entry.state;
                    if state.pending && !state.held && entry.owner == from {
                        entry.owner = to;
                    }
                });
            }
        }
        self.part_after(first)
    }

    pub(super) const fn has_work(&self) -> bool {
        !self.work.cpus.is_empty()
    }

    pub(super) fn work(&mut self, memory: &impl GuestMemory, effects: &mut Effects) -> bool {
        let Some(cpu) = self.work.cpus.lowest() else {
            return false;
        };
        let first = self.work.next;
        let next = self.reload_some(first, memory, effects);
        self.load_pending(cpu, first, memory, effects);
        if next.is_none() {
            self.work.cpus.remove(cpu);
        }
        self.work.next = next.unwrap_or(0);
        self.has_work()
    }

    /// Takes over what guest memory says is pending at a CPU.
    fn load_pending(
        &mut self,
        cpu: CpuId,
        first: u32,
        memory: &impl GuestMemory,
        effects: &mut Effects,
    ) {
        let register = self.pending_tables.get(cpu.get()).copied().unwrap_or(0);
        let pend = PendBaser::<Gpa>::decode(register);
        let mut bits = [0_u8; PART as usize / 8];
        let at = pend.at.checked_add(u64::from((first + Lpi::FIRST) / 8));
        let Some(at) = at.filter(|_| !pend.zeroed) else {
            return;
        };
        if memory.read(at, &mut bits).is_err() {
            return;
        }
        for (place, byte) in (0..).zip(bits).filter(|(_, byte)| *byte != 0) {
            for bit in (0..8).filter(|bit| byte >> bit & 1 != 0) {
                let Some(lpi) = Lpi::new(first + place * 8 + bit) else {
                    continue;
                };
                let target = self.entries.get(lpi.number() as usize);
                if target.is_some_and(|entry| entry.target == cpu)
                    && let Some(cpu) = self.raise(lpi)
                {
                    effects.kick(cpu);
                }
            }
        }
    }

    fn part_after(&self, first: u32) -> Option<u32> {
        let next = first.checked_add(PART)?;
        (next < self.count()).then_some(next)
    }

    fn read_one(&self, lpi: Lpi, memory: &impl GuestMemory) -> LpiConfig {
        let mut byte = [0];
        self.read_configuration(lpi.number(), memory, &mut byte);
        config_of(byte[0])
    }

    /// Reads configuration bytes from LPI number `first` on. Where the guest has no memory, or no
    /// table that large, its LPIs are disabled.
    fn read_configuration(&self, first: u32, memory: &impl GuestMemory, into: &mut [u8]) {
        let prop = PropBaser::<Gpa>::decode(self.configuration);
        let end = 1_u64 << prop.id_bits.min(32);
        let room = end.saturating_sub(u64::from(first) + u64::from(Lpi::FIRST));
        let length = into.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let at = prop.at.checked_add(first.into());
        if let (Some(at), Some(part)) = (at, into.get_mut(..length))
            && memory.read(at, part).is_err()
        {
            part.fill(0);
        }
    }

    /// What a CPU must take of the groups that are enabled, with priorities, most urgent first.
    pub(super) fn ready(&self, cpu: CpuId, groups: u8) -> impl Iterator<Item = (Lpi, u8)> {
        let on = self.is_enabled_on(cpu) && groups & GROUP_1 != 0;
        let queue = self.queues.get(cpu.get()).filter(|_| on);
        queue
            .into_iter()
            .flat_map(|queue| queue.iter(&self.entries))
            .filter_map(|(number, priority)| Some((Lpi::new(number.into())?, priority)))
    }

    /// Whether there is one.
    #[inline]
    pub(super) fn is_ready(&self, cpu: CpuId, groups: u8) -> bool {
        let queue = self.queues.get(cpu.get());
        queue.is_some_and(|queue| !queue.is_empty())
            && groups & GROUP_1 != 0
            && self.is_enabled_on(cpu)
    }

    /// Moves the first of those that are [ready][Lpis::is_ready] to a list register.
    #[inline]
    pub(super) fn load_first(&mut self, cpu: CpuId) -> Option<ListRegister> {
        let queue = self.queues.get_mut(cpu.get())?;
        let number = queue.pop(&mut self.entries)?;
        let entry = self.entries.get_mut(usize::from(number))?;
        entry.hold();
        Some(in_list_register(
            Lpi::new(number.into())?,
            entry.config.priority,
            false,
        ))
    }

    /// Moves an LPI that is ready to a list register of its CPU. `watched` asks for a maintenance
    /// interrupt when the guest has taken it.
    pub(super) fn load(&mut self, lpi: Lpi, watched: bool) -> Option<ListRegister> {
        let entry = self.entries.get(lpi.number() as usize)?;
        let priority = entry.config.priority;
        // Its own CPU fills its list registers.
        self.update(lpi, &mut Effects::new(), Entry::hold);
        Some(in_list_register(lpi, priority, watched))
    }

    /// Takes an LPI back from a list register of a CPU. What the guest did not take is again before
    /// those that came later. The CPU itself need not be told.
    #[inline]
    pub(super) fn store(&mut self, lpi: Lpi, cpu: CpuId, pending: bool, effects: &mut Effects) {
        let Some(entry) = self.entries.get_mut(lpi.number() as usize) else {
            return;
        };
        let state = entry.state;
        if !state.held || entry.owner != cpu {
            return;
        }
        let untaken = pending && !state.discard;
        if state.moved || !untaken {
            entry.owner = entry.target;
        }
        entry.state.held = false;
        entry.state.pending |= untaken;
        if entry.is_queued() {
            let (owner, priority) = (entry.owner, entry.config.priority);
            if let Some(queue) = self.queues.get_mut(owner.get()) {
                queue.push_front(&mut self.entries, lpi.number() as u16, priority);
            }
            if owner != cpu {
                effects.kick(owner);
            }
        }
    }
}

/// An LPI as a list register has it. `watched` asks for a maintenance interrupt when the guest has
/// taken it.
const fn in_list_register(lpi: Lpi, priority: u8, watched: bool) -> ListRegister {
    ListRegister {
        id: IntId::Lpi(lpi),
        pending: true,
        active: false,
        priority,
        group1: true,
        backing: Backing::Software {
            notify_end: watched,
            source: 0,
        },
    }
}

/// A byte of the guest's, with the priorities that it sees.
const fn config_of(byte: u8) -> LpiConfig {
    let config = LpiConfig::decode(byte);
    LpiConfig {
        priority: config.priority & PRIORITY_MASK,
        ..config
    }
}
