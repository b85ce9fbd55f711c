//! The host's interrupt translation services and LPIs (IHI 0069, chapter 5): set up at boot, used by
//! domains whose devices send messages.
//!
//! There is a collection for each CPU, of the CPU's number. All LPIs that a device has are enabled
//! and of one priority: what its domain masks is decided in the domain's own interrupt controller.

mod hardware;

use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use log::{info, warn};
use platform_dt::{GicV3 as Node, Its as ItsNode};
use spin::Once;
use xen_core::its::layout::{GITS_TRANSLATER, LpiConfig, Typer};
use xen_core::its::{
    CollectionId, Config, DeviceId, EventId, Its, ItsError, LpiRange, Lpis, Owner, Owners,
    Progress, Redistributor,
};
use xen_core::vits::Source;
use xen_types::{Hpa, HpaRange, Lpi, PAGE_SIZE};

use self::hardware::{Frames, Tables};
use crate::arch::percpu;
use crate::lock::IrqLock;
use crate::memory::device::{self, MapError, Registers};

/// `GICD_TYPER`: LPIs are there, and bits of INTIDs less one (12.9.38).
const LPIS: u32 = 1 << 17;
const ID_BITS_SHIFT: u32 = 19;
const ID_BITS: u32 = 0x1f;

/// The priority of all interrupts that are ours to give.
const ENABLED: LpiConfig = LpiConfig {
    enabled: true,
    priority: 0xa0,
};

/// Why messages of devices do not arrive.
#[derive(Debug, thiserror::Error)]
enum SetUpError {
    #[error("{0}")]
    Map(#[from] MapError),
    #[error("{0}")]
    Its(#[from] ItsError),
}

/// The services, and what all of them share.
struct Messages {
    lpis: IrqLock<Lpis>,
    owners: Owners,
    services: Vec<Service>,
    /// Which CPUs take LPIs, by number.
    ready: Vec<AtomicBool>,
}

/// An ITS.
pub struct Service {
    /// The path of its node.
    pub path: alloc::string::String,
    /// Its registers.
    pub registers: HpaRange,
    /// What it says about itself.
    pub typer: Typer,
    its: IrqLock<Its<Frames>>,
}

impl Service {
    /// The page of the register that devices write to.
    pub fn doorbell(&self) -> HpaRange {
        let page = u64::from(GITS_TRANSLATER) & !(PAGE_SIZE - 1);
        let start = Hpa::new(self.registers.start().get().wrapping_add(page));
        HpaRange::new(start, PAGE_SIZE).unwrap_or(self.registers)
    }
}

static MESSAGES: Once<Messages> = Once::new();

/// Sets up what the tree names; `typer` is `GICD_TYPER`. What does not work is left alone and said.
pub fn init(node: &Node, typer: u32, cpus: usize) {
    if node.its.is_empty() {
        info!("its: none: devices have no message interrupts");
        return;
    }
    match set_up(&node.its, typer, cpus) {
        Ok(messages) => {
            MESSAGES.call_once(|| messages);
        }
        Err(error) => warn!("its: {error}: devices have no message interrupts"),
    }
}

fn set_up(nodes: &[ItsNode], typer: u32, cpus: usize) -> Result<Messages, ItsError> {
    if typer & LPIS == 0 {
        return Err(ItsError::NoLpis);
    }
    let id_bits = (typer >> ID_BITS_SHIFT & ID_BITS) as u8 + 1;
    let lpis = Lpis::new(&mut Tables, id_bits, true)?;
    let owners = Owners::new(lpis.count())?;
    let mut services = Vec::new();
    for node in nodes {
        match Service::start(node, cpus) {
            Ok(service) => services.push(service),
            Err(error) => warn!("its: {}: {error}", node.path),
        }
    }
    Ok(Messages {
        lpis: IrqLock::new(lpis),
        owners,
        services,
        ready: (0..cpus).map(|_| AtomicBool::new(false)).collect(),
    })
}

impl Service {
    fn start(node: &ItsNode, cpus: usize) -> Result<Self, SetUpError> {
        let registers = device::map(node.registers)?;
        let config = Config {
            coherent: true,
            collections: cpus as u16,
        };
        let its = Its::start(Frames(registers), &mut Tables, config)?;
        let typer = its.typer();
        info!(
            "its: {} at {}, {}-bit device ids, {}-bit event ids",
            node.path,
            node.registers.start(),
            typer.device_bits,
            typer.event_bits,
        );
        Ok(Self {
            path: node.path.clone(),
            registers: node.registers,
            typer,
            its: IrqLock::new(its),
        })
    }
}

/// Has the calling CPU take LPIs. `frame` is its redistributor's first, which is at an address.
pub fn init_cpu(frame: &Registers, redistributor: Redistributor) {
    let Some(messages) = MESSAGES.get() else {
        return;
    };
    let cpu = percpu::this().id;
    match messages.enable_on(cpu.index(), frame, redistributor) {
        Ok(()) => {
            if let Some(ready) = messages.ready.get(cpu.index()) {
                ready.store(true, Ordering::Release);
            }
        }
        Err(error) => warn!("its: {cpu} takes no message interrupts: {error}"),
    }
}

/// The services of the host, in an order that stays.
pub fn services() -> &'static [Service] {
    MESSAGES.get().map_or(&[], |messages| &messages.services)
}

/// Whose an LPI is that has arrived.
pub fn owner_of(lpi: Lpi) -> Option<Owner> {
    MESSAGES.get()?.owners.of(lpi)
}

/// Lets a device send messages of so many events, none of which is mapped. Returns the LPIs that its
/// events can be mapped to.
///
/// # Errors
/// [`ItsError`]; nothing has changed.
pub fn attach(its: usize, device: DeviceId, events: u32) -> Result<LpiRange, ItsError> {
    let (messages, service) = find(its).ok_or(ItsError::UnknownDevice(device))?;
    let no_lpis = ItsError::NoMemory {
        what: "LPIs",
        size: events.into(),
    };
    let lpis = messages.lpis.lock().allocate(events).ok_or(no_lpis)?;
    for lpi in (0..events).filter_map(|event| lpis.get(event)) {
        messages.lpis.lock().configure(&mut Tables, lpi, ENABLED)?;
    }
    let added = service.its.lock().add_device(&mut Tables, device, events);
    if let Err(error) = added {
        messages.lpis.lock().free(lpis);
        return Err(error);
    }
    Ok(lpis)
}

/// Ends that. Its LPIs are free, unless the ITS does not do it.
///
/// # Errors
/// [`ItsError`]; the device and its LPIs stay as they are.
pub fn detach(its: usize, device: DeviceId, lpis: LpiRange) -> Result<(), ItsError> {
    let (messages, service) = find(its).ok_or(ItsError::UnknownDevice(device))?;
    while service.its.lock().remove_device(&mut Tables, device)? == Progress::More {}
    messages.lpis.lock().free(lpis);
    Ok(())
}

/// Has an event's messages arrive at a CPU for an owner.
///
/// # Errors
/// [`ItsError`]; no message arrives.
pub fn map(source: Source, owner: Owner, cpu: usize) -> Result<(), ItsError> {
    let Source {
        its,
        device,
        event,
        lpi,
    } = source;
    let (messages, service) = find(its).ok_or(ItsError::UnknownDevice(device))?;
    let to = messages.collection(cpu);
    messages.owners.set(lpi, Some(owner));
    let mut its = service.its.lock();
    let mapped = its.map_event(&mut Tables, device, event, lpi, to);
    if mapped.is_err() {
        messages.owners.set(lpi, None);
    }
    mapped
}

/// Ends that: none arrives any more.
///
/// # Errors
/// [`ItsError`].
pub fn unmap(source: Source) -> Result<(), ItsError> {
    let discarded = with_event(source, Its::discard_event);
    if let Some(messages) = MESSAGES.get() {
        messages.owners.set(source.lpi, None);
    }
    discarded
}

/// Has an event's messages arrive at another CPU.
///
/// # Errors
/// [`ItsError`].
pub fn send_to(source: Source, cpu: usize) -> Result<(), ItsError> {
    with_event(source, |its, tables, device, event| {
        let to = MESSAGES
            .get()
            .map_or(CollectionId(0), |messages| messages.collection(cpu));
        its.move_event(tables, device, event, to)
    })
}

/// Takes back a message that has not arrived.
///
/// # Errors
/// [`ItsError`].
pub fn clear(source: Source) -> Result<(), ItsError> {
    with_event(source, Its::clear)
}

fn with_event(
    source: Source,
    call: impl FnOnce(&mut Its<Frames>, &mut Tables, DeviceId, EventId) -> Result<(), ItsError>,
) -> Result<(), ItsError> {
    let Source {
        its, device, event, ..
    } = source;
    let (_, service) = find(its).ok_or(ItsError::UnknownDevice(device))?;
    call(&mut service.its.lock(), &mut Tables, device, event)
}

fn find(its: usize) -> Option<(&'static Messages, &'static Service)> {
    let messages = MESSAGES.get()?;
    Some((messages, messages.services.get(its)?))
}

impl Messages {
    fn enable_on(
        &self,
        cpu: usize,
        frame: &Registers,
        redistributor: Redistributor,
    ) -> Result<(), ItsError> {
        self.lpis.lock().enable_on(&Frames(*frame), &mut Tables)?;
        let collection = CollectionId(cpu as u16);
        for service in &self.services {
            let mut its = service.its.lock();
            its.map_collection(&mut Tables, collection, redistributor)?;
        }
        Ok(())
    }

    /// The collection of a CPU, or of another where that takes no LPIs.
    fn collection(&self, cpu: usize) -> CollectionId {
        let is_ready = |cpu: &usize| {
            let ready = self.ready.get(*cpu);
            ready.is_some_and(|ready| ready.load(Ordering::Acquire))
        };
        let instead = || (0..self.ready.len()).find(is_ready);
        let chosen = Some(cpu).filter(is_ready).or_else(instead);
        CollectionId(chosen.unwrap_or(0) as u16)
    }
}
