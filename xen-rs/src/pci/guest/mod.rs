//! A guest's PCI: a virtual host bridge with one bus, and on it the functions of the machine that the
//! guest is given (`vpci`).
//!
//! - `access`: what the guest loads and stores where nothing is mapped.
//! - `settle`: what has to happen because of that.
//! - `messages`: MSI and MSI-X as hardware has them.
//! - `given`: the machine's side of a function.
//!
//! A store to config space changes the guest's registers at once. What follows from it, such as mapping a
//! large BAR or a reset, is done a part at a time: until all of it is done, whatever the guest does with
//! its PCI does a part, and is tried again. So the guest sees it done, takes interrupts in between, and
//! nothing is to be done at any other time.

mod access;
mod given;
mod messages;
mod settle;

use alloc::vec::Vec;

pub use self::access::{Answer, GuestPlace};
use self::given::Given;
pub use self::messages::Source;
use pci_host::config::Function;
use pci_host::reset::quiesce;
use pci_host::{Device, HostSbdf, RequesterId, Sbdf};
use vpci::GuestSbdf;
use vpci::bus::{BusError, GuestPci};
use vpci::guest::{GuestFunction, GuestWindows, Interrupts};
use xen_abi::layout::{self, Region};
use xen_types::{Gpa, GpaRange, HpaRange};

use super::{PCI, Pci};
use crate::domain::{Domain, space};
use crate::lock::IrqLock;
use crate::memory::device::MapError;

/// A device number on the guest's bus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(u8);

impl Slot {
    /// `None` for what is no device number.
    pub fn new(number: u8) -> Option<Self> {
        (number < 32).then_some(Self(number))
    }
}

/// Why a function does not come to a guest's bus.
#[derive(Debug, thiserror::Error)]
pub enum AddError {
    /// There is no room for it.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// The hypervisor does not reach its table of messages.
    #[error("its MSI-X table: {0}")]
    Map(#[from] MapError),
}

/// A guest's PCI.
pub struct GuestBus {
    state: IrqLock<State>,
}

struct State {
    functions: GuestPci,
    /// What is known of each of them.
    given: Vec<Given>,
    /// Something has still to happen because of what was written to this function.
    unsettled: Option<GuestSbdf>,
    /// How many functions are on their way to it.
    arriving: usize,
    /// No more come: the guest is being destroyed.
    closed: bool,
}

/// A function is on its way to a guest, which is not destroyed before that is over.
pub struct Arrival<'a>(&'a GuestBus);

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.arriving = state.arriving.saturating_sub(1);
    }
}

/// The name of a function of the only bus.
pub fn sbdf(devfn: u8) -> GuestSbdf {
    GuestSbdf(Sbdf::new(0, RequesterId::ari(0, devfn)))
}

/// What the host bridge forwards, as far as stage 2 reaches on this machine.
fn windows() -> GuestWindows {
    let reach = 1 << space::geometry().input_bits();
    let window = |region: Region| GpaRange::new(Gpa::new(region.base), region.size);
    let windows = [layout::VPCI_MEMORY, layout::VPCI_PREFETCH];
    let within = windows.into_iter().filter(|region| region.end() <= reach);
    GuestWindows {
        memory: within.filter_map(window).collect(),
        io: None,
    }
}

impl GuestBus {
    /// An empty bus.
    pub fn new() -> Self {
        Self {
            state: IrqLock::new(State {
                functions: GuestPci::new([windows()]),
                given: Vec::new(),
                unsettled: None,
                arriving: 0,
                closed: false,
            }),
        }
    }

    /// Says that a function is on its way. `None` if the guest is being destroyed.
    pub fn expect(&self) -> Option<Arrival<'_>> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.arriving = state.arriving.saturating_add(1);
        Some(Arrival(self))
    }

    /// No more functions come. False if some are still on their way.
    pub fn close(&self) -> bool {
        let mut state = self.state.lock();
        state.closed = true;
        state.arriving == 0
    }

    /// Whether there is a place for one more function, as far as is known now.
    ///
    /// # Errors
    /// [`BusError`].
    pub fn check_slot(&self, slot: Option<Slot>) -> Result<(), BusError> {
        let Some(Slot(number)) = slot else {
            return Ok(());
        };
        let place = sbdf(number << 3);
        match self.state.lock().functions.get(place) {
            Some(_) => Err(BusError::Occupied(place)),
            None => Ok(()),
        }
    }

    /// Where a function will be, of which nothing is known but the slot that is wanted for it.
    ///
    /// # Errors
    /// [`BusError`].
    pub fn place_for(&self, device: &Device, slot: Option<Slot>) -> Result<GuestSbdf, BusError> {
        match slot {
            Some(Slot(number)) => self.check_slot(slot).map(|()| sbdf(number << 3)),
            None => self.state.lock().functions.free_place(0, device.sbdf),
        }
    }

    /// Puts a function on the bus, which is reset and quiet. Its messages go to `source`; without one
    /// the guest finds that it has none. It has INTx if `intx` says so, and is held off.
    ///
    /// # Errors
    /// [`AddError`]; nothing has changed.
    pub(in crate::pci) fn add(
        &self,
        pci: &'static Pci,
        place: GuestSbdf,
        device: Device,
        source: Option<Source>,
        intx: bool,
    ) -> Result<(), AddError> {
        let interrupts = Interrupts {
            intx,
            messages: source.is_some(),
        };
        let description = pci.description(device.sbdf);
        let host = |bar: &pci_host::bar::Bar| -> Option<HpaRange> {
            description?.to_host(!bar.kind.is_memory(), bar.address?, bar.size)
        };
        let mut function = GuestFunction::new(&pci.bridges, &device, interrupts, host);
        function.mask_intx(&pci.bridges, true);
        let given = Given::new(place, device, &function, source)?;
        let mut state = self.state.lock();
        state.functions.add_at(place, function)?;
        state.given.push(given);
        Ok(())
    }

    /// Whether a function asserts its pin, unless it is held off.
    pub(super) fn asserts_intx(&self, pci: &Pci, place: GuestSbdf) -> bool {
        let state = self.state.lock();
        let function = state.functions.get(place);
        function.is_some_and(|function| function.asserts_intx(&pci.bridges))
    }

    /// Holds a function's INTx off, or lets the guest decide.
    pub(super) fn hold_intx(&self, pci: &Pci, place: GuestSbdf, off: bool) {
        if let Some(function) = self.state.lock().functions.get_mut(place) {
            function.mask_intx(&pci.bridges, off);
        }
    }

    /// Where a function of the machine is on the bus.
    pub fn find_function(&self, host: HostSbdf) -> Option<GuestSbdf> {
        let state = self.state.lock();
        let mut functions = state.functions.iter();
        functions.find_map(|(place, function)| (function.host() == host).then_some(place))
    }

    /// The last function on the bus: function 0 of a device goes last.
    pub fn last(&self) -> Option<HostSbdf> {
        let state = self.state.lock();
        let last = state.functions.iter().last();
        last.map(|(_, function)| function.host())
    }

    /// Goes on with taking a function from the guest, who does not find it any more: nothing of it is
    /// mapped when this returns true, and it makes no requests.
    ///
    /// # Errors
    /// [`BusError`]: other functions of the device have to leave first.
    pub fn withdraw(&self, domain: &Domain, place: GuestSbdf) -> Result<bool, BusError> {
        let Some(pci) = PCI.get() else {
            return Ok(true);
        };
        let mut state = self.state.lock();
        state.functions.check_removal(place)?;
        // What the guest has begun, a reset perhaps, comes to its end first.
        let leaves = state.functions.get(place).map(GuestFunction::is_withdrawn);
        let others = state.unsettled != Some(place) || leaves == Some(false);
        if others && !state.settle(pci, domain) {
            return Ok(false);
        }
        if leaves == Some(false)
            && let Some(function) = state.functions.get_mut(place)
        {
            function.withdraw(&pci.bridges);
        }
        state.unsettled = Some(place);
        Ok(state.settle(pci, domain))
    }

    /// Takes a function off the bus of which nothing is mapped any more, and has it make no requests
    /// and send no messages. False if somebody else has done that.
    pub fn remove(&self, place: GuestSbdf) -> bool {
        let Some(pci) = PCI.get() else {
            return false;
        };
        let mut state = self.state.lock();
        if state.functions.remove(place).is_err() {
            return false;
        }
        if state.unsettled == Some(place) {
            state.unsettled = None;
        }
        let number = state.given.iter().position(|given| given.place == place);
        if let Some(number) = number {
            let given = state.given.swap_remove(number);
            let function = Function::new(&pci.bridges, given.device.sbdf);
            quiesce(function, &given.device);
        }
        true
    }
}
