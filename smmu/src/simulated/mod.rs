//! Machines in software with an IOMMU, for tests of drivers and of what uses them.
//!
//! They are as unkind as the architecture allows: stores reach the IOMMU only when a barrier, and
//! where it needs that, cleaning, forces them to; all that it ever fetched it keeps until it is told
//! to forget it, and then until that was waited for. So an order that real hardware forgives most of
//! the time fails every time.

mod memory;
mod smmu_v3;
mod tables;

use std::boxed::Box;
use std::cell::RefCell;
use std::rc::Rc;
use std::string::String;
use std::vec::Vec;

use xen_types::{Gpa, Hpa};

use self::memory::Memory;
use self::smmu_v3::SmmuV3;
pub use self::smmu_v3::{Ids, Pace};
pub use self::tables::Tables;
use crate::{Access, Clock, DmaMemory, Registers, Stage2, StreamId};

/// What came of a device's access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Denied {
    /// Ended.
    Aborted,
    /// Waits for software to end it.
    Stalled,
}

/// Memory, an SMMUv3 and a clock. Clones are the same machine: one for the driver, one for the test.
#[derive(Clone)]
pub struct Machine(Rc<RefCell<State>>);

struct State {
    memory: Memory,
    smmu: SmmuV3,
    microseconds: u64,
    on_write: Option<Box<Observer>>,
}

type Observer = dyn Fn(&Observed<'_>);

/// What a test sees after a store of the driver ([`Machine::on_write`]).
pub struct Observed<'a> {
    memory: &'a Memory,
    smmu: &'a SmmuV3,
}

impl Observed<'_> {
    /// All stage 2 translations that the SMMU might do for a stream: for every mixture of words that
    /// its entry had since the SMMU last forgot it, `S2VMID` and `S2TTB`; and whether one would let it
    /// pass untranslated.
    pub fn possible_translations(&self, stream: StreamId) -> Vec<(u16, Hpa)> {
        self.smmu.possible_translations(self.memory, stream)
    }
}

impl Machine {
    /// A machine whose SMMU has these id registers and is as firmware left it: off, and all passes.
    pub fn new(ids: Ids) -> Self {
        Self(Rc::new(RefCell::new(State {
            memory: Memory::new(ids.is_coherent()),
            smmu: SmmuV3::new(ids),
            microseconds: 0,
            on_write: None,
        })))
    }

    /// A device reads or writes `address`: where that leads.
    ///
    /// # Errors
    /// It was stopped.
    pub fn dma(&self, stream: StreamId, address: Gpa, access: Access) -> Result<Hpa, Denied> {
        let State { memory, smmu, .. } = &mut *self.0.borrow_mut();
        smmu.transaction(memory, stream, address, access)
    }

    /// How fast commands are carried out from now on.
    pub fn set_pace(&self, pace: Pace) {
        self.0.borrow_mut().smmu.set_pace(pace);
    }

    /// The next `count` reads of commands fail.
    pub fn fail_command_fetches(&self, count: u32) {
        self.0.borrow_mut().smmu.fail_fetches(count);
    }

    /// From now on updates of control registers are not acknowledged.
    pub fn stop_acknowledging(&self) {
        self.0.borrow_mut().smmu.stop_acknowledging();
    }

    /// From now on all registers read as ones, as where the device is gone.
    pub fn remove(&self) {
        self.0.borrow_mut().smmu.remove();
    }

    /// Raises these bits of GERROR.
    pub fn raise(&self, errors: u32) {
        self.0.borrow_mut().smmu.raise(errors);
    }

    /// Whether the SMMU's line for events or that for errors is up, and not what it stands for read.
    pub fn wants_service(&self) -> bool {
        self.0.borrow().smmu.wants_service()
    }

    /// Stalled transactions that nobody has ended.
    pub fn stalled(&self) -> usize {
        self.0.borrow().smmu.stalled()
    }

    /// Codes of the commands that were carried out, since the last call.
    pub fn take_commands(&self) -> Vec<u8> {
        self.0.borrow_mut().smmu.take_commands()
    }

    /// What the driver did that the architecture forbids.
    pub fn violations(&self) -> Vec<String> {
        let state = self.0.borrow();
        [state.smmu.violations(), state.memory.violations()].concat()
    }

    /// Why the frame or table at `start` may still be reached by a device.
    pub fn reachable(&self, start: Hpa, bytes: u64) -> Option<String> {
        self.0.borrow().smmu.remembers(start, bytes)
    }

    /// Only so many allocations more succeed.
    pub fn limit_allocations(&self, count: usize) {
        self.0.borrow_mut().memory.limit_allocations(count);
    }

    /// The next allocation is from `start` on.
    pub fn allocate_from(&self, start: Hpa) {
        self.0.borrow_mut().memory.allocate_from(start);
    }

    /// Bytes that are allocated.
    pub fn allocated(&self) -> u64 {
        self.0.borrow().memory.allocated()
    }

    /// Calls `observe` after every store of the driver.
    pub fn on_write(&self, observe: impl Fn(&Observed<'_>) + 'static) {
        self.0.borrow_mut().on_write = Some(Box::new(observe));
    }

    /// Loads or stores of the driver to registers, since the last call.
    pub fn take_accesses(&self) -> u64 {
        self.0.borrow_mut().smmu.take_accesses()
    }

    /// What a driver that was told of `stage2` has to write in `S2VMID` and `S2TTB`.
    pub fn translation_of(stage2: Stage2) -> (u16, Hpa) {
        (stage2.vmid().get(), stage2.root())
    }
}

impl Registers for Machine {
    fn read32(&self, offset: u32) -> u32 {
        let State { memory, smmu, .. } = &mut *self.0.borrow_mut();
        smmu.read32(memory, offset)
    }

    fn read64(&self, offset: u32) -> u64 {
        let low = self.read32(offset);
        u64::from(self.read32(offset + 4)) << 32 | u64::from(low)
    }

    fn write32(&mut self, offset: u32, value: u32) {
        let State { memory, smmu, .. } = &mut *self.0.borrow_mut();
        smmu.write32(memory, offset, value);
    }

    fn write64(&mut self, offset: u32, value: u64) {
        self.0.borrow_mut().smmu.write64(offset, value);
    }
}

impl DmaMemory for Machine {
    fn allocate(&mut self, bytes: u64) -> Option<Hpa> {
        self.0.borrow_mut().memory.allocate(bytes)
    }

    fn free(&mut self, start: Hpa, bytes: u64) {
        let remembered = self.reachable(start, bytes);
        assert_eq!(remembered, None, "{start} is freed too early");
        self.0.borrow_mut().memory.free(start, bytes);
    }

    fn read(&self, at: Hpa) -> u64 {
        self.0.borrow_mut().memory.read(at)
    }

    fn write(&mut self, at: Hpa, word: u64) {
        let state = &mut *self.0.borrow_mut();
        let former = state.memory.write(at, word);
        state.smmu.note_write(at, former);
        if let Some(observe) = &state.on_write {
            let (memory, smmu) = (&state.memory, &state.smmu);
            observe(&Observed { memory, smmu });
        }
    }

    fn clean(&mut self, start: Hpa, bytes: u64) {
        self.0.borrow_mut().memory.clean(start, bytes);
    }

    fn discard(&mut self, start: Hpa, bytes: u64) {
        self.0.borrow_mut().memory.discard(start, bytes);
    }

    fn barrier(&mut self) {
        self.0.borrow_mut().memory.barrier();
    }
}

impl Clock for Machine {
    fn microseconds(&self) -> u64 {
        let mut state = self.0.borrow_mut();
        state.microseconds += 1000;
        state.microseconds
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Machine")
    }
}
