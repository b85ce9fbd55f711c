//! The machine's IOMMUs, and who is behind them.
//!
//! From the moment that they are found every stream is aborted ([`stop_all`]). A domain's devices are
//! attached to its stage 2 one by one: those of the device tree when the domain is made, PCI
//! functions when they are known. Where an IOMMU cannot isolate, what is behind it reaches all
//! memory, as on a machine without one; the log says so.

mod events;
mod hardware;

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicBool, Ordering};

use log::{error, info, warn};
use pci_host::HostSbdf;
use platform_dt::{Dtb, MappedId, Master, MasterIds, SmmuV3, TreeError};
use smmu::v3::{self, Capabilities, NoIsolation, Setup, Smmu};
use smmu::{Iommu, IommuError, Stage2, StreamId};
use spin::Once;
use xen_abi::DomId;
use xen_core::cmdline::IommuOption;
use xen_types::Interrupt;

pub use self::events::{look, look_at, show, take_interrupt, take_wish};
use self::hardware::Machine;
use crate::gic;
use crate::lock::IrqLock;
use crate::memory::device::{self, MapError};
use crate::pci;

/// An IOMMU of the machine.
struct Unit {
    path: String,
    phandle: Option<u32>,
    interrupts: Vec<Interrupt>,
    /// Whether it is to be looked at again, with its interrupts masked until then.
    awaits_look: AtomicBool,
    state: State,
    /// Who each attached stream is.
    owners: IrqLock<BTreeMap<StreamId, Owner>>,
}

/// What an IOMMU does.
enum State {
    /// It translates.
    Isolates(IrqLock<Smmu<Machine>>),
    /// It cannot, and lets everything pass.
    Passes,
    /// It does not work: nothing is known to reach memory through it.
    Broken,
}

/// Who a stream is, and whose.
#[derive(Clone, Debug)]
struct Owner {
    who: Who,
    domain: DomId,
}

/// A device behind an IOMMU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Who {
    /// A PCI function.
    Function(HostSbdf),
    /// A device of the device tree, by its path.
    Node(String),
}

/// Why a device is not attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Its IOMMU is none of those that are driven.
    #[error("no driver for its IOMMU (phandle {0:#x})")]
    NoDriver(u32),
    /// Its IOMMU did not start.
    #[error("its IOMMU {0} does not work")]
    Broken(String),
    /// Its IOMMU does nothing.
    #[error("its IOMMU {0} lets everything pass")]
    Passes(String),
    /// Its IOMMU knows it by something else than a stream id.
    #[error("its IOMMU {0} knows it by {1} numbers, not by one")]
    Cells(String, usize),
    /// Its IOMMU refuses.
    #[error("its IOMMU {0}: {1}")]
    Refused(String, IommuError),
}

static UNITS: Once<Vec<Unit>> = Once::new();
/// Whether the log has who is attached to what.
static VERBOSE: AtomicBool = AtomicBool::new(false);
/// Whether an IOMMU reads page tables past the caches.
static READS_MEMORY: AtomicBool = AtomicBool::new(false);

/// Has every IOMMU abort everything, before anything else of the machine is looked at.
///
/// # Errors
/// The tree describes one that cannot be.
pub fn stop_all(tree: &Dtb<'_>) -> Result<(), TreeError> {
    for node in SmmuV3::all(tree)? {
        let stopped = registers(&node)
            .map_err(|error| error.to_string())
            .and_then(|machine| v3::abort_all(machine).map_err(|error| error.to_string()));
        if let Err(error) = stopped {
            error!("iommu: {}: cannot be stopped: {error}", node.path);
        }
    }
    Ok(())
}

/// Why there is no start.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The tree contradicts itself.
    #[error("{0}")]
    Tree(#[from] TreeError),
    /// One that does not isolate is not what the command line wants.
    #[error(
        "{0}: it does not hold devices back, and the command line requires that (iommu=required)"
    )]
    NoIsolation(String),
    /// The command line wants one.
    #[error(
        "the machine: it has no IOMMU that is driven, and the command line requires one (iommu=required)"
    )]
    None,
}

/// What lets devices reach all memory.
#[derive(Debug, thiserror::Error)]
pub enum NotGuarded {
    /// The machine.
    #[error("there is no IOMMU that isolates")]
    Nothing,
    /// An IOMMU.
    #[error("{0} lets everything pass")]
    Iommu(&'static str),
    /// A host bridge.
    #[error("{0} has no IOMMU before it (no iommu-map)")]
    Bridge(&'static str),
}

/// Starts every IOMMU, with all streams aborted.
///
/// # Errors
/// [`InitError`].
pub fn init(tree: &Dtb<'_>, wanted: IommuOption) -> Result<(), InitError> {
    VERBOSE.store(wanted.verbose, Ordering::Relaxed);
    let nodes = SmmuV3::all(tree)?;
    let units = nodes.into_iter().map(|node| start(tree, node, wanted));
    let units = units.collect::<Result<Vec<_>, _>>()?;
    if wanted.required {
        check_all_isolate(&units)?;
    }
    if !units.is_empty() && wanted.enabled {
        for bridge in pci::unguarded() {
            warn!("iommu: {bridge}: no IOMMU holds its devices back (no iommu-map)");
        }
    }
    let units = UNITS.call_once(|| units);
    for interrupt in units.iter().flat_map(|unit| &unit.interrupts) {
        gic::configure(interrupt.id, interrupt.trigger);
        gic::enable(interrupt.id);
    }
    Ok(())
}

fn check_all_isolate(units: &[Unit]) -> Result<(), InitError> {
    let passing = |unit: &&Unit| !matches!(unit.state, State::Isolates(_));
    match units.iter().find(passing) {
        Some(unit) => Err(InitError::NoIsolation(unit.path.clone())),
        None if units.is_empty() => Err(InitError::None),
        None => Ok(()),
    }
}

fn registers(node: &SmmuV3) -> Result<Machine, MapError> {
    Ok(Machine(device::map(node.registers)?))
}

/// Why an IOMMU is not used.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error("{0}")]
    Map(#[from] MapError),
    #[error("{0}")]
    NoIsolation(#[from] NoIsolation),
    #[error("it is off by the command line (iommu=no)")]
    Unwanted,
    #[error("{0}")]
    Iommu(#[from] IommuError),
}

fn start(tree: &Dtb<'_>, node: SmmuV3, wanted: IommuOption) -> Result<Unit, TreeError> {
    let setup = Setup {
        stream_bits: node.stream_bits(tree)?,
        coherent: node.coherent,
    };
    let path = &node.path;
    let state = match start_smmu(&node, setup, wanted) {
        Ok(smmu) => {
            announce(path, &smmu);
            State::Isolates(IrqLock::new(smmu))
        }
        Err(reason @ (StartError::NoIsolation(_) | StartError::Unwanted)) => {
            warn!("iommu: {path}: {reason}: no isolation, its devices reach all memory");
            State::Passes
        }
        Err(error) => {
            error!("iommu: {path}: {error}: its devices cannot be used");
            State::Broken
        }
    };
    let mut interrupts: Vec<Interrupt> = node.events.into_iter().chain(node.errors).collect();
    interrupts.dedup();
    if !matches!(state, State::Isolates(_)) {
        interrupts.clear();
    }
    Ok(Unit {
        path: node.path,
        phandle: node.phandle,
        interrupts,
        awaits_look: AtomicBool::new(false),
        state,
        owners: IrqLock::new(BTreeMap::new()),
    })
}

fn start_smmu(
    node: &SmmuV3,
    setup: Setup,
    wanted: IommuOption,
) -> Result<Smmu<Machine>, StartError> {
    let machine = registers(node)?;
    if !wanted.enabled {
        v3::pass_all(machine)?;
        return Err(StartError::Unwanted);
    }
    match Capabilities::read(&machine) {
        Ok(capabilities) => Ok(Smmu::start(machine, capabilities, setup)?),
        Err(reason) => {
            v3::pass_all(machine)?;
            Err(reason.into())
        }
    }
}

fn announce(path: &str, smmu: &Smmu<Machine>) {
    let capabilities = smmu.capabilities();
    if !smmu.sees_caches() {
        READS_MEMORY.store(true, Ordering::Relaxed);
    }
    info!(
        "iommu: {path}: SMMUv3, stage 2, {}-bit stream ids, {}-bit addresses, {}-bit VMIDs{}",
        smmu.stream_bits(),
        capabilities.output_bits,
        capabilities.vmid_bits,
        if smmu.sees_caches() {
            ""
        } else {
            ", past the caches"
        },
    );
}

fn units() -> impl Iterator<Item = &'static Unit> {
    UNITS.get().into_iter().flatten()
}

/// Whether devices are behind an IOMMU that translates what they access.
pub fn translates() -> bool {
    units().any(|unit| matches!(unit.state, State::Isolates(_)))
}

/// Whether every PCI function, and every device of which the tree says that an IOMMU is before it, is
/// held back.
///
/// # Errors
/// What is not.
pub fn check_all_guarded() -> Result<(), NotGuarded> {
    if !translates() {
        return Err(NotGuarded::Nothing);
    }
    if let Some(unit) = units().find(|unit| matches!(unit.state, State::Passes)) {
        return Err(NotGuarded::Iommu(&unit.path));
    }
    let bridge = pci::unguarded().next();
    bridge.map_or(Ok(()), |bridge| Err(NotGuarded::Bridge(bridge)))
}

/// Whether an IOMMU reads page tables past the caches: a descriptor must then be cleaned to memory.
#[inline]
pub fn reads_memory() -> bool {
    READS_MEMORY.load(Ordering::Relaxed)
}

/// Attaches the devices of the device tree that become a domain's. What cannot be attached stays
/// aborted, and is told.
pub fn attach_nodes(masters: &[Master], domain: DomId, stage2: Stage2) {
    for master in masters {
        // A host bridge's functions are attached as they are found.
        let MasterIds::Cells(cells) = &master.ids else {
            continue;
        };
        let who = Who::Node(master.path.clone());
        let attached = find(master.iommu).and_then(|unit| match **cells {
            [stream] => unit.attach(StreamId::new(stream), who, domain, stage2),
            _ => Err(AttachError::Cells(unit.path.clone(), cells.len())),
        });
        if let Err(error) = attached {
            warn!("iommu: {}: its DMA is blocked: {error}", master.path);
        }
    }
}

/// Whether an IOMMU holds back what a PCI function does by a stream.
///
/// # Errors
/// [`AttachError`].
pub fn check_isolates(stream: MappedId) -> Result<(), AttachError> {
    let unit = find(stream.controller)?;
    match unit.state {
        State::Isolates(_) => Ok(()),
        State::Passes => Err(AttachError::Passes(unit.path.clone())),
        State::Broken => Err(AttachError::Broken(unit.path.clone())),
    }
}

/// Attaches a stream of a PCI function to a domain.
///
/// # Errors
/// [`AttachError`]: it reaches nothing.
pub fn attach_function(
    function: HostSbdf,
    stream: MappedId,
    domain: DomId,
    stage2: Stage2,
) -> Result<(), AttachError> {
    let who = Who::Function(function);
    find(stream.controller)?.attach(StreamId::new(stream.id), who, domain, stage2)
}

/// Takes a stream of a PCI function from its domain: it reaches nothing any more.
///
/// # Errors
/// [`AttachError`]: it may still reach what it did.
pub fn detach_function(stream: MappedId) -> Result<(), AttachError> {
    find(stream.controller)?.detach(StreamId::new(stream.id))
}

/// Visits every IOMMU that may remember translations. One that does not do what it is told is fenced:
/// nothing behind it reaches memory any more, whatever it remembers.
///
/// # Errors
/// That of the first that cannot even be fenced.
pub fn each(
    visit: &mut dyn FnMut(&mut dyn Iommu) -> Result<(), IommuError>,
) -> Result<(), IommuError> {
    let mut outcome = Ok(());
    for unit in units() {
        let State::Isolates(smmu) = &unit.state else {
            continue;
        };
        let mut smmu = smmu.lock();
        let done = match visit(&mut *smmu) {
            Ok(()) | Err(IommuError::Fenced) => Ok(()),
            Err(error) => {
                error!(
                    "iommu: {}: {error}: everything behind it is stopped",
                    unit.path
                );
                smmu.fence().inspect_err(|error| {
                    error!("iommu: {}: {error}: it cannot be stopped", unit.path);
                })
            }
        };
        outcome = outcome.and(done);
    }
    outcome
}

fn find(phandle: u32) -> Result<&'static Unit, AttachError> {
    units()
        .find(|unit| unit.phandle == Some(phandle))
        .ok_or(AttachError::NoDriver(phandle))
}

impl Unit {
    fn attach(
        &self,
        stream: StreamId,
        who: Who,
        domain: DomId,
        stage2: Stage2,
    ) -> Result<(), AttachError> {
        let smmu = match &self.state {
            State::Isolates(smmu) => smmu,
            State::Passes => return Ok(()),
            State::Broken => return Err(AttachError::Broken(self.path.clone())),
        };
        let attached = smmu.lock().attach(stream, stage2);
        attached.map_err(|error| AttachError::Refused(self.path.clone(), error))?;
        if VERBOSE.load(Ordering::Relaxed) {
            info!("iommu: {}: {stream} is {who} of {domain}", self.path);
        }
        self.owners.lock().insert(stream, Owner { who, domain });
        Ok(())
    }

    fn detach(&self, stream: StreamId) -> Result<(), AttachError> {
        let State::Isolates(smmu) = &self.state else {
            return Ok(());
        };
        let detached = smmu.lock().detach(stream);
        detached.map_err(|error| AttachError::Refused(self.path.clone(), error))?;
        if VERBOSE.load(Ordering::Relaxed) {
            info!("iommu: {}: {stream} is nobody's", self.path);
        }
        self.owners.lock().remove(&stream);
        Ok(())
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(function) => write!(f, "{function}"),
            Self::Node(path) => f.write_str(path),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.who, self.domain)
    }
}
