//! A host bridge as the hardware domain finds it.
//!
//! Its registers are never mapped: each access is trapped and carried out. Nor are its windows as a
//! whole: registers of functions appear in them as the functions decode. Elsewhere in the windows reads
//! give ones, as on a bus where nobody answers.
//!
//! A function that nothing is known of is looked for when it is first accessed: so those are found that
//! are plugged in, enabled as virtual functions, or reached by other bus numbers.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use pci_host::bar::BarKind;
use pci_host::bridge::ecam::Layout;
use pci_host::bridge::{Bridge, Description, HostBridge, Registers as _, Sharing};
use pci_host::config::{Access, Function};
use pci_host::enumerate::{BusNumbers, NumbersFault};
use pci_host::newcomer::{self, Newcomer};
use pci_host::reach::{Overlay, Reach};
use pci_host::registry::{Entry, Owner, Registry};
use pci_host::{ConfigOffset, Device, HostSbdf, Width};
use vpci::access::{GuestAccess, Lane};
use vpci::effect::{Effect, Piece};
use vpci::hardware::{Dependents, HardwareFunction, HardwarePci, RCarWindow, SharedPages, Target};
use xen_abi::DomId;
use xen_core::paging::stage2::Attributes;
use xen_types::{Gpa, GpaRange, HpaRange};

use super::registers::Aborting;
use super::{PCI, Pci, VIEWS, told};
use crate::domain::{Domain, space};
use crate::lock::IrqLock;
use crate::memory::device;

/// Bus numbers of a bridge, as an offset.
const BUS_NUMBERS: u16 = 0x18;
/// The dwords that say what a bridge forwards: bus numbers and windows.
const FORWARDING: RangeInclusive<u16> = 6..=12;

/// A host bridge as the hardware domain finds it.
pub struct View {
    pci: &'static Pci,
    bridge: &'static Bridge,
    /// Its registers, or config space.
    registers: GpaRange,
    /// What it forwards.
    windows: Vec<GpaRange>,
    shape: Shape,
    state: IrqLock<State>,
}

/// What is at the registers.
enum Shape {
    /// Config space.
    Memory(Layout),
    /// The registers of a controller.
    Controller(Aborting, IrqLock<RCarWindow>),
}

struct State {
    functions: HardwarePci,
    pages: SharedPages,
    /// Where functions of others have registers.
    foreign: Vec<HpaRange>,
}

/// What is at an address of the hardware domain.
#[derive(Clone, Copy)]
pub enum Place {
    /// Registers of a host bridge, at an offset.
    Registers(&'static View, u64),
    /// A window, as far as nothing is mapped there.
    Window,
}

/// What is at an address of the hardware domain; `None` where no host bridge is.
#[inline]
pub fn find(address: Gpa) -> Option<Place> {
    VIEWS.get()?.iter().find_map(|view| {
        if view.registers.contains(address) {
            let offset = address.get().wrapping_sub(view.registers.start().get());
            return Some(Place::Registers(view, offset));
        }
        let mut windows = view.windows.iter();
        let forwarded = windows.any(|window| window.contains(address));
        forwarded.then_some(Place::Window)
    })
}

/// The hardware domain is made: it gets the functions that are its own.
pub fn introduce(domain: &Domain) {
    for view in VIEWS.get().into_iter().flatten() {
        view.fill(domain);
    }
    super::quarantine::mute_hidden(domain);
}

impl Place {
    /// A load.
    pub fn read(self, domain: &Domain, bytes: u16) -> u64 {
        match self {
            Self::Registers(view, offset) => view.read(domain, offset, bytes),
            Self::Window => u64::MAX,
        }
    }

    /// A store.
    pub fn write(self, domain: &Domain, bytes: u16, value: u64) {
        if let Self::Registers(view, offset) = self {
            view.write(domain, offset, bytes, value);
        }
    }
}

/// The same addresses in a domain whose memory is the host's.
fn direct(range: HpaRange) -> Option<GpaRange> {
    GpaRange::new(Gpa::new(range.start().get()), range.size())
}

impl View {
    /// A bridge without functions. `None` if its registers cannot be trapped.
    pub fn new(bridge: &'static Bridge) -> Option<Self> {
        let pci = PCI.get()?;
        let description = bridge.description();
        let registers = *description.registers.first()?;
        let shape = match bridge.driver().sharing() {
            Sharing::Memory(layout) => Shape::Memory(layout),
            Sharing::Sequence => {
                let window = RCarWindow::new(description.segment, description.buses.first());
                let registers = device::map(registers).ok()?;
                Shape::Controller(Aborting(registers), IrqLock::new(window))
            }
        };
        let windows = description.windows.iter();
        Some(Self {
            pci,
            bridge,
            registers: direct(registers)?,
            windows: windows.filter_map(|window| direct(window.host)).collect(),
            shape,
            state: IrqLock::new(State {
                functions: HardwarePci::default(),
                pages: SharedPages::new(),
                foreign: Vec::new(),
            }),
        })
    }

    fn config(&self) -> &'static dyn HostBridge {
        self.bridge.driver()
    }

    fn description(&self) -> &'static Description {
        self.bridge.description()
    }

    /// Whether a function is behind the bridge.
    pub fn has(&self, sbdf: HostSbdf) -> bool {
        let description = self.description();
        description.segment == sbdf.segment() && description.buses.contains(sbdf.bus())
    }

    /// Adds all functions of the hardware domain.
    fn fill(&self, domain: &Domain) {
        let mut state = self.state.lock();
        let registry = self.pci.registry.lock();
        let own = |entry: &&Entry<DomId>| {
            entry.owner() == Owner::HardwareDomain && self.has(entry.sbdf())
        };
        let mut names = Vec::new();
        for entry in registry.iter().filter(own) {
            let function = HardwareFunction::new(self.config(), entry.device());
            names.push(function.sbdf());
            state.functions.add(function);
        }
        self.note_owners(&mut state, &registry);
        drop(registry);
        drop(state);
        names.into_iter().for_each(|sbdf| self.settle(domain, sbdf));
    }

    /// Notes what others than the hardware domain have.
    fn note_owners(&self, state: &mut State, registry: &Registry<DomId>) {
        let foreign = |entry: &&Entry<DomId>| {
            entry.owner() != Owner::HardwareDomain && self.has(entry.sbdf())
        };
        let foreign: Vec<&Entry<DomId>> = registry.iter().filter(foreign).collect();
        state.foreign = foreign.iter().flat_map(|entry| self.pages(entry)).collect();
        let bridges = registry.iter().map(Entry::device);
        let depended_on = |device: &&Device| {
            self.has(device.sbdf) && (device.is_bridge() || device.sr_iov.is_some())
        };
        for device in bridges.filter(depended_on) {
            let sbdf = device.sbdf;
            let mut all = foreign.iter();
            let behind = all.any(|entry| registry.is_behind(entry.sbdf(), sbdf));
            let mut all = foreign.iter();
            let virtual_functions = all.any(|entry| entry.device().physical == Some(sbdf));
            let dependents = Dependents {
                behind,
                virtual_functions,
            };
            if let Some(function) = state.functions.get_mut(sbdf) {
                function.set_dependents(self.config(), device, dependents);
            }
        }
    }

    /// The pages with registers of a function.
    fn pages(&self, entry: &Entry<DomId>) -> Vec<HpaRange> {
        let bars = entry.device().bars.iter().flatten();
        let ranges = bars.filter_map(|bar| {
            let io = !bar.kind.is_memory();
            let range = self.description().to_host(io, bar.address?, bar.size)?;
            range.page_aligned_outwards()
        });
        ranges.collect()
    }

    #[inline]
    fn read(&self, domain: &Domain, offset: u64, bytes: u16) -> u64 {
        match &self.shape {
            Shape::Memory(layout) => self
                .config_place(*layout, offset, bytes)
                .map_or(u64::MAX, |(sbdf, access)| {
                    self.read_config(domain, sbdf, access)
                }),
            Shape::Controller(registers, window) => {
                self.read_controller(domain, registers, window, offset, bytes)
            }
        }
    }

    fn write(&self, domain: &Domain, offset: u64, bytes: u16, value: u64) {
        match &self.shape {
            Shape::Memory(layout) => {
                if let Some((sbdf, access)) = self.config_place(*layout, offset, bytes) {
                    self.write_config(domain, sbdf, access, value);
                }
            }
            Shape::Controller(registers, window) => {
                self.write_controller(domain, registers, window, offset, bytes, value);
            }
        }
    }

    /// The function and the access that an access to config space means.
    #[inline]
    fn config_place(
        &self,
        layout: Layout,
        offset: u64,
        bytes: u16,
    ) -> Option<(HostSbdf, GuestAccess)> {
        let description = self.description();
        let (requester, offset) = layout.locate(description.buses, offset)?;
        let sbdf = HostSbdf::new(description.segment, requester);
        Some((sbdf, GuestAccess::new(offset, bytes)?))
    }

    #[inline]
    fn read_config(&self, domain: &Domain, sbdf: HostSbdf, access: GuestAccess) -> u64 {
        let state = self.state.lock();
        match state.functions.get(sbdf) {
            Some(function) => function.read(self.config(), access),
            None => {
                drop(state);
                self.read_unknown(domain, sbdf, access)
            }
        }
    }

    /// Reads a function that the domain does not have: it may have one since.
    #[cold]
    #[inline(never)]
    fn read_unknown(&self, domain: &Domain, sbdf: HostSbdf, access: GuestAccess) -> u64 {
        match self.look(domain, sbdf) {
            Presence::NotReady => self.read_not_ready(sbdf, access),
            Presence::Absent | Presence::Here => {
                self.state
                    .lock()
                    .functions
                    .read(self.config(), sbdf, access)
            }
        }
    }

    /// What a function says that is not ready yet.
    fn read_not_ready(&self, sbdf: HostSbdf, access: GuestAccess) -> u64 {
        let width = Width::from_bytes(access.bytes());
        let access_there = width.and_then(|width| Access::new(access.offset(), width));
        access_there.map_or(access.ones(), |access| {
            Function::new(self.config(), sbdf)
                .read_access(access)
                .into()
        })
    }

    /// Looks whether a function that the domain does not have has appeared, and gives it to the domain.
    pub fn look(&self, domain: &Domain, sbdf: HostSbdf) -> Presence {
        let mut state = self.state.lock();
        if state.functions.get(sbdf).is_some() {
            return Presence::Here;
        }
        let mut registry = self.pci.registry.lock();
        if registry.get(sbdf).is_err() {
            let known = registry.iter().map(Entry::device);
            let root_bus = self.description().buses.first();
            let device = match newcomer::look(self.config(), known, root_bus, sbdf) {
                Newcomer::Nobody => return Presence::Absent,
                Newcomer::NotReady => return Presence::NotReady,
                Newcomer::Function(device) => *device,
            };
            let stream = |device: &Device| self.pci.stream_number(device);
            if let Err(error) = registry.add(Vec::from([device]), stream) {
                domain.complain(format_args!("pci: {error}"));
                return Presence::Absent;
            }
        }
        let Ok(entry) = registry.get(sbdf) else {
            return Presence::Absent;
        };
        if entry.owner() != Owner::HardwareDomain {
            return Presence::Absent;
        }
        let function = HardwareFunction::new(self.config(), entry.device());
        state.functions.add(function);
        self.note_owners(&mut state, &registry);
        drop(registry);
        drop(state);
        self.settle(domain, sbdf);
        Presence::Here
    }

    fn write_config(&self, domain: &Domain, sbdf: HostSbdf, access: GuestAccess, value: u64) {
        let mut state = self.state.lock();
        if state.functions.get(sbdf).is_none() {
            return;
        }
        if !state.foreign.is_empty() && self.would_lead_to_others(sbdf, access, value) {
            domain.complain(format_args!(
                "pci: {sbdf}: it would forward what is not this domain's"
            ));
            return;
        }
        if let Some(fault) = self.misnumbered(sbdf, access, value) {
            domain.complain(format_args!("pci: {sbdf} keeps its bus numbers: {fault}"));
            return;
        }
        state.functions.write(self.config(), sbdf, access, value);
        drop(state);
        self.settle(domain, sbdf);
        self.follow(domain, sbdf, access);
    }

    /// Why a bridge cannot have the bus numbers that a write would give it. It would lead requests
    /// for config space where nobody, or more than one, answers them.
    #[inline]
    fn misnumbered(&self, sbdf: HostSbdf, access: GuestAccess, value: u64) -> Option<NumbersFault> {
        let mut lanes = access.lanes();
        let numbers = lanes.find(|placed| placed.lane.dword() == BUS_NUMBERS / 4)?;
        self.number_fault(sbdf, numbers.lane, numbers.from_access(value))
    }

    #[cold]
    #[inline(never)]
    fn number_fault(&self, sbdf: HostSbdf, lane: Lane, value: u32) -> Option<NumbersFault> {
        let registry = self.pci.registry.lock();
        let bridge = registry.get(sbdf).map(Entry::device).ok()?;
        let offset = ConfigOffset::new(BUS_NUMBERS).filter(|_| bridge.is_bridge())?;
        let before = Function::new(self.config(), sbdf).read_access(Access::dword(offset));
        let numbers = BusNumbers::from_bits(lane.insert(before, value));
        let beside = registry.on_bus(sbdf.segment(), sbdf.bus());
        let beside = beside.map(Entry::device);
        let buses = self.description().buses;
        let checked = numbers.check(self.config(), sbdf, bridge.parent, buses, beside);
        checked.err()
    }

    /// Whether a bridge would lead to functions of others that are not behind it.
    #[cold]
    #[inline(never)]
    fn would_lead_to_others(&self, sbdf: HostSbdf, access: GuestAccess, value: u64) -> bool {
        let registry = self.pci.registry.lock();
        let is_bridge = registry
            .get(sbdf)
            .is_ok_and(|entry| entry.device().is_bridge());
        if !is_bridge {
            return false;
        }
        let foreign = || {
            registry.iter().filter(|entry| {
                entry.owner() != Owner::HardwareDomain
                    && self.has(entry.sbdf())
                    && !registry.is_behind(entry.sbdf(), sbdf)
            })
        };
        let mut forwarding = access
            .lanes()
            .filter(|placed| FORWARDING.contains(&placed.lane.dword()));
        forwarding.any(|placed| {
            let (dword, lane) = (placed.lane.dword(), placed.lane);
            let Some(offset) = ConfigOffset::new(4 * dword) else {
                return false;
            };
            let before = Function::new(self.config(), sbdf).read_access(Access::dword(offset));
            let after = lane.insert(before, placed.from_access(value));
            let overlay = Overlay::new(self.config(), sbdf, dword, after);
            let reach = Reach::read(Function::new(&overlay, sbdf));
            foreign().any(|entry| reach.leads_to(entry.device()))
        })
    }

    /// Carries out what a write asks for.
    fn settle(&self, domain: &Domain, sbdf: HostSbdf) {
        loop {
            let mut state = self.state.lock();
            let State {
                functions,
                pages,
                foreign,
            } = &mut *state;
            let foreign = &*foreign;
            let locate =
                |kind: BarKind, address: u64, size: u64| self.locate(foreign, kind, address, size);
            match functions.next_effect(self.config(), sbdf, &locate) {
                None => return,
                Some(Effect::Map(piece)) => {
                    if !map(domain, pages, &piece)
                        && let Some(function) = functions.get_mut(sbdf)
                    {
                        function.fail(piece);
                    }
                }
                Some(Effect::Unmap(piece)) => unmap(domain, pages, &piece),
                // Its interrupts are its own.
                Some(Effect::Msi(_) | Effect::MsiX(_) | Effect::Reset) => {}
            }
        }
    }

    /// Where the processor has an address of the bus, if nobody else has registers in the same pages.
    fn locate(
        &self,
        foreign: &[HpaRange],
        kind: BarKind,
        address: u64,
        size: u64,
    ) -> Option<HpaRange> {
        let range = self
            .description()
            .to_host(!kind.is_memory(), address, size)?;
        let pages = range.page_aligned_outwards()?;
        let free = !foreign.iter().any(|other| other.overlaps(pages));
        free.then_some(range)
    }

    /// Follows what a write to config space means for other functions.
    fn follow(&self, domain: &Domain, sbdf: HostSbdf, access: GuestAccess) {
        let gone = self.lost_by(sbdf, access);
        if gone.is_empty() {
            return;
        }
        told::forget(domain, &gone);
        let mut state = self.state.lock();
        let mut registry = self.pci.registry.lock();
        for sbdf in gone {
            self.forget(domain, &mut state, &mut registry, sbdf);
        }
    }

    /// The functions that are not where they were since a write: those behind a bridge whose bus has
    /// another number, and virtual ones that are disabled.
    fn lost_by(&self, sbdf: HostSbdf, access: GuestAccess) -> Vec<HostSbdf> {
        let mut state = self.state.lock();
        let registry = self.pci.registry.lock();
        let Ok(entry) = registry.get(sbdf) else {
            return Vec::new();
        };
        let device = entry.device();
        let others = || registry.iter().map(Entry::device);
        let mut lost: Vec<HostSbdf> = Vec::new();
        let mut lanes = access.lanes();
        if device.is_bridge() && lanes.any(|placed| placed.lane.dword() == BUS_NUMBERS / 4) {
            let numbers = BusNumbers::read(Function::new(self.config(), sbdf));
            let moved = others().any(|other| {
                other.parent == Some(sbdf)
                    && other.physical.is_none()
                    && other.sbdf.bus() != numbers.secondary
            });
            let behind = others().filter(|other| registry.is_behind(other.sbdf, sbdf));
            lost.extend(behind.filter(|_| moved).map(|other| other.sbdf));
        }
        if let Some(function) = state.functions.get_mut(sbdf)
            && let Some(placement) = function.take_virtual_functions(self.config(), device)
            && placement.count == 0
        {
            let virtuals = others().filter(|other| other.physical == Some(sbdf));
            lost.extend(virtuals.map(|other| other.sbdf));
        }
        lost
    }

    /// Forgets a function that is not there any more, and all behind it.
    fn forget(
        &self,
        domain: &Domain,
        state: &mut State,
        registry: &mut Registry<DomId>,
        sbdf: HostSbdf,
    ) {
        let stream = |device: &Device| self.pci.stream_number(device);
        for sbdf in registry.remove(sbdf, stream).unwrap_or_default() {
            if let Some(function) = state.functions.remove(sbdf) {
                for piece in function.into_mapped() {
                    unmap(domain, &mut state.pages, &piece);
                }
            }
        }
    }

    /// Whether something stands in the place of a function for those beside it.
    pub fn is_placeholder(&self, sbdf: HostSbdf) -> bool {
        let state = self.state.lock();
        state.functions.get(sbdf).is_none() && state.functions.stands_for_others(sbdf)
    }

    /// Whether the hardware domain has a function, as far as is known.
    pub fn is_own(&self, sbdf: HostSbdf) -> bool {
        let registry = self.pci.registry.lock();
        let owner = registry.get(sbdf).map(Entry::owner);
        owner.is_err() || owner == Ok(Owner::HardwareDomain)
    }

    /// The hardware domain says that a function is gone. What still answers will be found again.
    pub fn forget_if_own(&self, domain: &Domain, sbdf: HostSbdf) {
        let mut state = self.state.lock();
        let mut registry = self.pci.registry.lock();
        let owner = registry.get(sbdf).map(Entry::owner);
        if owner == Ok(Owner::HardwareDomain) {
            self.forget(domain, &mut state, &mut registry, sbdf);
        }
    }

    /// Takes a function from the hardware domain: nothing of it is mapped any more, and it is absent.
    pub fn withdraw(&self, domain: Option<&Domain>, sbdf: HostSbdf) {
        let mut state = self.state.lock();
        if let Some(function) = state.functions.get_mut(sbdf) {
            function.withdraw(self.config());
        }
        drop(state);
        if let Some(domain) = domain {
            self.settle(domain, sbdf);
        }
        self.state.lock().functions.remove(sbdf);
    }

    /// Somebody else has a function than before.
    pub fn owners_changed(&self) {
        let mut state = self.state.lock();
        let registry = self.pci.registry.lock();
        self.note_owners(&mut state, &registry);
    }

    fn read_controller(
        &self,
        domain: &Domain,
        registers: &Aborting,
        window: &IrqLock<RCarWindow>,
        offset: u64,
        bytes: u16,
    ) -> u64 {
        let Some(width) = Width::from_bytes(bytes) else {
            return u64::MAX;
        };
        let target = window.lock().read(offset, width);
        match target {
            Target::Value(value) => value.into(),
            Target::Config(sbdf, access) => self.read_config(domain, sbdf, access),
            Target::Controller { clear, set } => {
                (registers.read(offset, width) & !clear | set).into()
            }
        }
    }

    fn write_controller(
        &self,
        domain: &Domain,
        registers: &Aborting,
        window: &IrqLock<RCarWindow>,
        offset: u64,
        bytes: u16,
        value: u64,
    ) {
        let Some(width) = Width::from_bytes(bytes) else {
            return;
        };
        let exists = |sbdf| match self.has(sbdf) {
            true => self.look(domain, sbdf) != Presence::Absent,
            false => false,
        };
        let target = window.lock().write(offset, width, value as u32, exists);
        match target {
            Target::Value(_) => {}
            Target::Config(sbdf, access) => self.write_config(domain, sbdf, access, value),
            Target::Controller { set, .. } => registers.write(offset, width, set),
        }
    }
}

/// Whether the hardware domain finds a function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Presence {
    /// It does.
    Here,
    /// It does not: there is none, or it is somebody else's.
    Absent,
    /// It says that it is not ready yet.
    NotReady,
}

/// Maps a piece; false if that fails.
fn map(domain: &Domain, pages: &mut SharedPages, piece: &Piece) -> bool {
    if !pages.map(piece) {
        return true;
    }
    let reach = 1 << space::geometry().input_bits();
    if piece.guest.end().get() > reach {
        domain.complain(format_args!(
            "pci: {} is beyond what stage 2 reaches here",
            piece.host
        ));
        pages.unmap(piece);
        return false;
    }
    let mapped = domain
        .space
        .lock()
        .map(piece.guest, piece.host.start(), Attributes::Device);
    if let Err(error) = mapped {
        domain.complain(format_args!("pci: {}: {error}", piece.host));
        pages.unmap(piece);
        return false;
    }
    true
}

fn unmap(domain: &Domain, pages: &mut SharedPages, piece: &Piece) {
    if !pages.unmap(piece) {
        return;
    }
    if let Err(error) = domain.space.lock().unmap(piece.guest) {
        domain.complain(format_args!("pci: {}: {error}", piece.host));
    }
}

/// The view that a function is in.
pub fn of(sbdf: HostSbdf) -> Option<&'static View> {
    VIEWS.get()?.iter().find(|view| view.has(sbdf))
}
