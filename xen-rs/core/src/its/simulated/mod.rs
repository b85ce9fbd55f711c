//! Simulated ITSs and redistributors (IHI 0069, chapter 5): they walk the tables that the driver
//! wrote, cache what they read until a command invalidates it, and fail as they are told.
//!
//! What the architecture leaves to implementations (the format of table entries, what happens with
//! a wrong command) is as in a strict one: garbage in a table is a violation, and so is an access
//! to memory that was never given or was freed. [`Machine::violations`] has them.

mod its;
mod memory;
mod redistributor;

use core::cell::RefCell;

use super::alloc::rc::Rc;
use super::alloc::string::String;
use super::alloc::vec::Vec;

use xen_types::Hpa;

use super::command::{Command, DeviceId, EventId};
use super::driver::Redistributor;
use super::layout::{PageSize, Typer};
use super::{Clock, Memory, Registers};
use its::ItsModel;
use memory::Ram;
use redistributor::RedistributorModel;

/// What kind of ITS is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// What it says about itself.
    pub typer: Typer,
    /// Whether its device table can have two levels.
    pub indirect: bool,
    /// The only page size that it has, if there is only one.
    pub only_page: Option<PageSize>,
    /// Whether it sees the CPUs' caches.
    pub coherent: bool,
    /// Whether it stalls at wrong commands, or else ignores them.
    pub stalls: bool,
    /// Commands that it executes for each look at `GITS_CREADR`.
    pub speed: usize,
}

impl Default for Kind {
    /// Like QEMU's, with addresses for targets.
    fn default() -> Self {
        Self {
            typer: Typer {
                entry_size: 12,
                event_bits: 16,
                device_bits: 16,
                targets_are_addresses: true,
                held_collections: 0,
                collection_bits: 16,
            },
            indirect: true,
            only_page: None,
            coherent: true,
            stalls: true,
            speed: 1,
        }
    }
}

/// Everything that is simulated; clones are the same machine.
#[derive(Clone, Debug)]
pub struct Machine(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    ram: Ram,
    now: u64,
    itss: Vec<ItsModel>,
    redistributors: Vec<RedistributorModel>,
}

impl Machine {
    /// A machine with these ITSs and as many redistributors.
    pub fn new(kinds: &[Kind], redistributors: u16) -> Self {
        let coherent = kinds.iter().all(|kind| kind.coherent);
        Self(Rc::new(RefCell::new(State {
            ram: Ram::default(),
            now: 0,
            itss: kinds.iter().map(|kind| ItsModel::new(*kind)).collect(),
            redistributors: (0..redistributors)
                .map(|_| RedistributorModel::new(coherent))
                .collect(),
        })))
    }

    /// The registers of an ITS.
    pub fn its(&self, index: usize) -> ItsRegisters {
        ItsRegisters(self.clone(), index)
    }

    /// The registers of a redistributor.
    pub fn redistributor(&self, number: u16) -> RedistributorRegisters {
        RedistributorRegisters(self.clone(), number.into())
    }

    /// How commands name a redistributor.
    pub fn name_of(&self, number: u16) -> Redistributor {
        Redistributor {
            number,
            frames: Hpa::new(redistributor::FRAMES + u64::from(number) * redistributor::STRIDE),
        }
    }

    /// A device writes a message to an ITS.
    pub fn message(&self, its: usize, device: DeviceId, event: EventId) {
        self.with_its(its, |model, ram, redistributors| {
            model.message(ram, redistributors, device, event);
        });
    }

    /// A CPU takes the most urgent LPI that is pending and enabled at its redistributor.
    pub fn take(&self, redistributor: u16) -> Option<u32> {
        let state = &mut *self.0.borrow_mut();
        let model = state.redistributors.get_mut(usize::from(redistributor))?;
        model.take(&mut state.ram)
    }

    /// Whether an INTID is pending at a redistributor, enabled or not.
    pub fn is_pending(&self, redistributor: u16, intid: u32) -> bool {
        let state = self.0.borrow();
        let model = state.redistributors.get(usize::from(redistributor));
        model.is_some_and(|model| model.pending.contains(&intid))
    }

    /// Has an ITS execute nothing, or execute again.
    pub fn hang(&self, its: usize, hangs: bool) {
        self.with_its(its, |model, _, _| model.hangs = hangs);
    }

    /// Has an ITS take no notice of being stopped, or take it again.
    pub fn never_rest(&self, its: usize, restless: bool) {
        self.with_its(its, |model, _, _| model.restless = restless);
    }

    /// Has an ITS stall at its next command, right or wrong, each time it is tried.
    pub fn stall_next(&self, its: usize) {
        self.with_its(its, |model, _, _| model.stall_next = true);
    }

    /// The commands that an ITS executed since the last call.
    pub fn take_executed(&self, its: usize) -> Vec<Command> {
        self.with_its(its, |model, _, _| core::mem::take(&mut model.executed))
    }

    /// Bytes that are allocated.
    pub fn allocated(&self) -> u64 {
        self.0.borrow().ram.allocated()
    }

    /// Has allocations fail after this many.
    pub fn fail_allocations_after(&self, count: Option<usize>) {
        self.0.borrow_mut().ram.allocations_left = count;
    }

    /// What the hardware was made to do that the architecture does not allow.
    pub fn violations(&self) -> Vec<String> {
        self.0.borrow().ram.violations.clone()
    }

    fn with_its<T: Default>(
        &self,
        index: usize,
        call: impl FnOnce(&mut ItsModel, &mut Ram, &mut [RedistributorModel]) -> T,
    ) -> T {
        let state = &mut *self.0.borrow_mut();
        state.itss.get_mut(index).map_or_else(T::default, |model| {
            call(model, &mut state.ram, &mut state.redistributors)
        })
    }
}

impl Memory for Machine {
    fn allocate(&mut self, size: u64, align: u64) -> Option<Hpa> {
        self.0.borrow_mut().ram.allocate(size, align)
    }

    fn free(&mut self, at: Hpa, size: u64) {
        self.0.borrow_mut().ram.free(at, size);
    }

    fn write8(&mut self, at: Hpa, value: u8) {
        self.0.borrow_mut().ram.cpu_write(at, &[value]);
    }

    fn write64(&mut self, at: Hpa, value: u64) {
        self.0.borrow_mut().ram.cpu_write(at, &value.to_le_bytes());
    }

    fn clean(&mut self, at: Hpa, size: u64) {
        self.0.borrow_mut().ram.clean(at, size);
    }
}

impl Clock for Machine {
    /// Each look takes a while, so that patience ends soon.
    fn microseconds(&mut self) -> u64 {
        let mut state = self.0.borrow_mut();
        state.now += 1000;
        state.now
    }
}

/// The registers of a simulated ITS.
#[derive(Clone, Debug)]
pub struct ItsRegisters(Machine, usize);

impl Registers for ItsRegisters {
    fn read32(&self, offset: u32) -> u32 {
        let call = |model: &mut ItsModel, _: &mut _, _: &mut _| model.read32(offset);
        self.0.with_its(self.1, call)
    }

    fn write32(&self, offset: u32, value: u32) {
        let call = |model: &mut ItsModel, _: &mut _, _: &mut _| model.write32(offset, value);
        self.0.with_its(self.1, call);
    }

    fn read64(&self, offset: u32) -> u64 {
        let call = |model: &mut ItsModel, ram: &mut Ram, others: &mut [_]| {
            model.read64(ram, others, offset)
        };
        self.0.with_its(self.1, call)
    }

    fn write64(&self, offset: u32, value: u64) {
        let call = |model: &mut ItsModel, _: &mut _, _: &mut _| model.write64(offset, value);
        self.0.with_its(self.1, call);
    }
}

/// The registers of a simulated redistributor.
#[derive(Clone, Debug)]
pub struct RedistributorRegisters(Machine, usize);

impl RedistributorRegisters {
    fn with<T: Default>(&self, call: impl FnOnce(&mut RedistributorModel) -> T) -> T {
        let state = &mut *self.0.0.borrow_mut();
        let model = state.redistributors.get_mut(self.1);
        model.map_or_else(T::default, call)
    }

    /// Has LPIs enabled already, and for good if `stuck`.
    pub fn enable_before(&self, stuck: bool) {
        self.with(|model| model.enable_before(stuck));
    }

    /// Has no LPIs.
    pub fn remove_lpis(&self) {
        self.with(|model| model.has_lpis = false);
    }
}

impl Registers for RedistributorRegisters {
    fn read32(&self, offset: u32) -> u32 {
        self.with(|model| model.read32(offset))
    }

    fn write32(&self, offset: u32, value: u32) {
        self.with(|model| model.write32(offset, value));
    }

    fn read64(&self, offset: u32) -> u64 {
        self.with(|model| model.read64(offset))
    }

    fn write64(&self, offset: u32, value: u64) {
        self.with(|model| model.write64(offset, value));
    }
}
