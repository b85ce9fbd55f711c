//! Between the state of interrupts and the list registers.
//!
//! [`flush`] moves the most urgent interrupts into list registers before a CPU runs, [`sync`] takes
//! them back when their state is to be looked at. With more interrupts than list registers, the
//! hardware is asked for a maintenance interrupt when they run out. An active interrupt without a
//! list register is ended by counting: a guest ends interrupts in the order of their priority, so
//! that an end which matches no list register is meant for the most urgent of those left out.

use arrayvec::ArrayVec;
use xen_types::{IntId, Lpi, Spi};

use super::cpu::Cpu;
use super::distributor::Distributor;
use super::effects::{CpuId, Effects};
use super::irq::Irq;
use super::lpi::Lpis;
use super::lr::{Format, ListRegister, ListRegisters, MAX};

/// Interrupts by urgency: priority, then active ones (pending ones of the same priority cannot
/// preempt them), then the lowest id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    priority: u8,
    inactive: bool,
    id: IntId,
}

impl Candidate {
    fn new(id: IntId, irq: &Irq) -> Self {
        Self {
            priority: irq.priority(),
            inactive: !irq.is_active_now(),
            id,
        }
    }
}

/// The most urgent interrupts.
struct Choice {
    /// Most urgent first.
    chosen: ArrayVec<Candidate, MAX>,
    room: usize,
    left_out: bool,
    active_left_out: bool,
}

impl Choice {
    fn new(room: usize) -> Self {
        Self {
            chosen: ArrayVec::new(),
            room: room.min(MAX),
            left_out: false,
            active_left_out: false,
        }
    }

    fn offer(&mut self, candidate: Candidate) {
        let place = self.chosen.partition_point(|other| *other < candidate);
        if self.chosen.len() == self.room {
            let dropped = if place == self.room {
                Some(candidate)
            } else {
                self.chosen.pop()
            };
            self.left_out = true;
            self.active_left_out |= dropped.is_some_and(|dropped| !dropped.inactive);
            if place == self.room {
                return;
            }
        }
        // There is room now, and the place is within it.
        let _ = self.chosen.try_insert(place, candidate);
    }
}

/// The interrupts in a CPU's queues.
fn queued<'a>(
    distributor: &'a Distributor,
    cpu: &'a Cpu,
) -> impl Iterator<Item = (IntId, &'a Irq)> {
    let shared = distributor
        .ready(cpu.id())
        .map(|(spi, irq)| (spi.into(), irq));
    cpu.ready().chain(shared)
}

/// Changes an interrupt that is private to the CPU or shared.
fn update<R>(
    distributor: &mut Distributor,
    cpu: &mut Cpu,
    id: IntId,
    effects: &mut Effects,
    change: impl FnOnce(&mut Irq, &mut Effects) -> R,
) -> Option<R> {
    match id {
        IntId::Spi(spi) => distributor.update(spi, effects, change),
        _ => cpu.update(id, effects, change),
    }
}

/// Whether the CPU has an interrupt to take that is in no list register.
pub(super) fn has_deliverable(distributor: &Distributor, cpu: &Cpu, lpis: Option<&Lpis>) -> bool {
    let groups = distributor.groups();
    queued(distributor, cpu).any(|(_, irq)| irq.is_deliverable(groups))
        || lpis.is_some_and(|lpis| lpis.is_ready(cpu.id(), groups))
}

fn is_routed_elsewhere(distributor: &Distributor, cpu: &Cpu, id: IntId) -> bool {
    match id {
        IntId::Spi(spi) => {
            let route = distributor.route(spi);
            route.and_then(|route| distributor.target(route)) != Some(cpu.id())
        }
        _ => false,
    }
}

/// Moves the most urgent interrupts into the list registers, which are free.
pub(super) fn flush<F: Format>(
    distributor: &mut Distributor,
    cpu: &mut Cpu,
    lpis: Option<&mut Lpis>,
    registers: &mut ListRegisters<F>,
) {
    let groups = distributor.groups();
    let waiting = cpu.waiting() + distributor.waiting(cpu.id());
    let spare = registers.implemented().checked_sub(waiting);
    let is_room = |spare| match &lpis {
        Some(lpis) => lpis.ready(cpu.id(), groups).nth(spare).is_none(),
        None => true,
    };
    if !spare.is_some_and(is_room) {
        flush_most_urgent(distributor, cpu, lpis, registers);
        return;
    }
    // There is room for all: the hardware finds the most urgent one, in whatever order they are.
    load_private(cpu, groups, registers);
    if distributor.waiting(cpu.id()) > 0 {
        load_shared(distributor, cpu, registers);
    }
    if let Some(lpis) = lpis {
        load_lpis(cpu.id(), lpis, groups, registers);
    }
    registers.set_maintenance(false, false);
}

/// Moves the private interrupts that can be taken into free list registers. Returns false if there
/// are too few.
#[inline(never)]
fn load_private<F: Format>(cpu: &mut Cpu, groups: u8, registers: &mut ListRegisters<F>) -> bool {
    for number in cpu.ready_numbers() {
        if registers.are_full() {
            return false;
        }
        if let Some(register) = cpu.load(number, groups) {
            registers.push(&register);
        }
    }
    true
}

/// The same for all shared interrupts.
fn load_shared<F: Format>(
    distributor: &mut Distributor,
    cpu: &mut Cpu,
    registers: &mut ListRegisters<F>,
) {
    let groups = distributor.groups();
    let wanted: ArrayVec<Spi, MAX> = distributor
        .ready(cpu.id())
        .filter(|(_, irq)| irq.is_wanted(groups))
        .map(|(spi, _)| spi)
        .take(MAX)
        .collect();
    for spi in wanted {
        load(distributor, cpu, spi.into(), false, registers);
    }
}

fn load_lpi<F: Format>(lpis: &mut Lpis, lpi: Lpi, watched: bool, registers: &mut ListRegisters<F>) {
    if let Some(register) = lpis.load(lpi, watched) {
        registers.push(&register);
    }
}

#[inline(never)]
fn flush_most_urgent<F: Format>(
    distributor: &mut Distributor,
    cpu: &mut Cpu,
    mut lpis: Option<&mut Lpis>,
    registers: &mut ListRegisters<F>,
) {
    let groups = distributor.groups();
    let mut choice = Choice::new(registers.implemented());
    for (id, irq) in queued(distributor, cpu) {
        if irq.is_wanted(groups) {
            choice.offer(Candidate::new(id, irq));
        }
    }
    if let Some(lpis) = &lpis {
        offer_lpis(&mut choice, lpis.ready(cpu.id(), groups));
    }
    // With a single list register each end must be told, as there is no underflow to notice.
    let watched = choice.left_out && registers.implemented() == 1;
    for candidate in &choice.chosen {
        match (candidate.id, &mut lpis) {
            (IntId::Lpi(lpi), Some(lpis)) => load_lpi(lpis, lpi, watched, registers),
            (id, _) => load(distributor, cpu, id, watched, registers),
        }
    }
    registers.set_maintenance(choice.left_out, choice.active_left_out);
}

/// Moves an interrupt that can be taken into a free list register.
fn load<F: Format>(
    distributor: &mut Distributor,
    cpu: &mut Cpu,
    id: IntId,
    watched: bool,
    registers: &mut ListRegisters<F>,
) {
    // What is active here but routed elsewhere must go there as soon as it is ended.
    let leaving = is_routed_elsewhere(distributor, cpu, id);
    let groups = if leaving { 0 } else { distributor.groups() };
    // What moves to our own list registers is no news to anyone.
    let mut silent = Effects::new();
    let register = update(distributor, cpu, id, &mut silent, |irq, _| {
        irq.load(id, irq.is_deliverable(groups), watched || leaving)
    });
    if let Some(register) = register {
        registers.push(&register);
    }
}

/// [`sync`] and [`flush`] where only private interrupts are concerned: all list registers are in use
/// by such ones, and no other is in the CPU's queue. `groups` are those that are forwarded.
///
/// Nothing was left out of the list registers, so that no end can be unlisted. Returns false if not
/// all interrupts fit now: [`sync`] and [`flush`] must follow.
#[inline]
pub(super) fn refresh_private<F: Format>(
    cpu: &mut Cpu,
    groups: u8,
    registers: &mut ListRegisters<F>,
    effects: &mut Effects,
) -> bool {
    while let Some(register) = registers.pop() {
        cpu.store(&register, effects);
    }
    load_private(cpu, groups, registers)
}

/// The same where LPIs are concerned too, but no shared interrupt.
pub(super) fn refresh_unshared<F: Format>(
    cpu: &mut Cpu,
    lpis: &mut Lpis,
    groups: u8,
    registers: &mut ListRegisters<F>,
    effects: &mut Effects,
) -> bool {
    while let Some(register) = registers.pop() {
        match register.id {
            IntId::Lpi(lpi) => lpis.store(lpi, cpu.id(), register.pending, effects),
            _ => cpu.store(&register, effects),
        }
    }
    load_private(cpu, groups, registers) && load_lpis(cpu.id(), lpis, groups, registers)
}

/// Moves the LPIs that can be taken into free list registers. Returns false if there are too few.
fn load_lpis<F: Format>(
    cpu: CpuId,
    lpis: &mut Lpis,
    groups: u8,
    registers: &mut ListRegisters<F>,
) -> bool {
    while lpis.is_ready(cpu, groups) {
        if registers.are_full() {
            return false;
        }
        if let Some(register) = lpis.load_first(cpu) {
            registers.push(&register);
        }
    }
    true
}

/// Offers as many LPIs as there is room for: they come in the order of their urgency, and there may
/// be any number.
fn offer_lpis(choice: &mut Choice, mut ready: impl Iterator<Item = (Lpi, u8)>) {
    for (lpi, priority) in ready.by_ref().take(choice.room) {
        choice.offer(Candidate {
            priority,
            inactive: true,
            id: lpi.into(),
        });
    }
    choice.left_out |= ready.next().is_some();
}

/// Takes the state back from the list registers and frees them.
pub(super) fn sync<F: Format>(
    distributor: &mut Distributor,
    cpu: &mut Cpu,
    mut lpis: Option<&mut Lpis>,
    registers: &mut ListRegisters<F>,
    effects: &mut Effects,
) {
    for _ in 0..registers.take_unlisted_ends() {
        end_unlisted(distributor, cpu, effects);
    }
    while let Some(register) = registers.pop() {
        match (register.id, &mut lpis) {
            (IntId::Lpi(lpi), Some(lpis)) => {
                lpis.store(lpi, cpu.id(), register.pending, effects);
            }
            _ => store(distributor, cpu, &register, effects),
        }
    }
    registers.set_maintenance(false, false);
}

#[inline(never)]
fn store(
    distributor: &mut Distributor,
    cpu: &mut Cpu,
    register: &ListRegister,
    effects: &mut Effects,
) {
    if let IntId::Spi(spi) = register.id
        && distributor.owner(spi) != Some(cpu.id())
    {
        return;
    }
    match register.id {
        IntId::Spi(spi) => {
            distributor.update(spi, effects, |irq, effects| {
                irq.take_back(register, effects)
            });
        }
        _ => cpu.store(register, effects),
    }
}

/// Ends the most urgent interrupt that is active without a list register.
fn end_unlisted(distributor: &mut Distributor, cpu: &mut Cpu, effects: &mut Effects) {
    let ended = queued(distributor, cpu)
        .filter(|(_, irq)| irq.is_active_now())
        .map(|(id, irq)| Candidate::new(id, irq))
        .min();
    if let Some(ended) = ended {
        update(distributor, cpu, ended.id, effects, |irq, effects| {
            let before = irq.status();
            irq.set_active(false);
            irq.report(before, effects);
        });
    }
}
