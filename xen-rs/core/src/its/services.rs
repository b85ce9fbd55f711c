//! All ITSs of the host, and what they share: LPIs and whose they are.
//!
//! Each ITS has a collection for each CPU, of the CPU's number. All LPIs that a device has are
//! enabled and of one priority: what its domain masks is decided in the domain's own interrupt
//! controller.

use core::sync::atomic::{AtomicBool, Ordering};

use platform_dt::MappedId;
use xen_types::Lpi;

use super::alloc::vec::Vec;
use super::layout::{LpiConfig, Typer};
use super::{
    CollectionId, DeviceId, EventId, Host, Its, ItsError, LpiRange, Lpis, Owner, Owners, Progress,
    Redistributor, Registers,
};
use crate::vgic::{Lock, Locking};

/// The priority of all interrupts that are the hypervisor's to give.
const ENABLED: LpiConfig = LpiConfig {
    enabled: true,
    priority: 0xa0,
};

/// An event of a device of the host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Source {
    /// Which of the host's ITSs.
    pub its: usize,
    /// Which device.
    pub device: DeviceId,
    /// Which event.
    pub event: EventId,
    /// The host's LPI that is meant for it.
    pub lpi: Lpi,
}

/// An ITS among others.
struct Service<R, L: Locking> {
    typer: Typer,
    /// By which the device tree names it.
    phandle: Option<u32>,
    its: L::Lock<Its<R>>,
    /// Whether the collection of each CPU goes there.
    ready: Vec<AtomicBool>,
}

/// The ITSs of the host, in an order that stays.
pub struct Services<R, L: Locking> {
    lpis: L::Lock<Lpis>,
    owners: Owners,
    cpus: usize,
    services: Vec<Service<R, L>>,
}

impl<R: Registers, L: Locking> Services<R, L> {
    /// None yet, on a host with so many CPUs.
    ///
    /// # Errors
    /// [`ItsError::NoMemory`].
    pub fn new(lpis: Lpis, cpus: usize) -> Result<Self, ItsError> {
        Ok(Self {
            owners: Owners::new(lpis.count())?,
            lpis: L::Lock::new(lpis),
            cpus,
            services: Vec::new(),
        })
    }

    /// Adds an ITS that was started with a collection for each CPU. Returns its number.
    ///
    /// # Errors
    /// [`ItsError::NoMemory`].
    pub fn add(&mut self, its: Its<R>, phandle: Option<u32>) -> Result<usize, ItsError> {
        let what = "what is known of an ITS";
        let size = self.cpus as u64;
        let no_memory = ItsError::NoMemory { what, size };
        let mut ready = Vec::new();
        ready.try_reserve_exact(self.cpus).map_err(|_| no_memory)?;
        ready.resize_with(self.cpus, AtomicBool::default);
        self.services.try_reserve(1).map_err(|_| no_memory)?;
        self.services.push(Service {
            typer: its.typer(),
            phandle,
            its: L::Lock::new(its),
            ready,
        });
        Ok(self.services.len() - 1)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.services.len()
    }

    /// What an ITS says about itself.
    pub fn typer(&self, its: usize) -> Option<Typer> {
        Some(self.services.get(its)?.typer)
    }

    /// The ITS that a requester's messages go to, and what it calls the requester.
    pub fn route(&self, requester: MappedId) -> Option<(usize, DeviceId)> {
        let is_its = |service: &Service<R, L>| service.phandle == Some(requester.controller);
        let its = self.services.iter().position(is_its)?;
        Some((its, DeviceId(requester.id)))
    }

    /// Has a CPU take LPIs. `registers` are those of its redistributor, which `name` names. An ITS
    /// that cannot send them there is `refused`.
    ///
    /// # Errors
    /// [`ItsError`]: it takes none.
    pub fn enable_on(
        &self,
        host: &mut impl Host,
        cpu: usize,
        registers: &impl Registers,
        name: Redistributor,
        mut refused: impl FnMut(usize, ItsError),
    ) -> Result<(), ItsError> {
        self.lpis.with(|lpis| lpis.enable_on(registers, host))?;
        let collection = CollectionId(cpu as u16);
        for (number, service) in self.services.iter().enumerate() {
            let mapped = service
                .its
                .with(|its| its.map_collection(host, collection, name));
            match (mapped, service.ready.get(cpu)) {
                (Ok(()), Some(ready)) => ready.store(true, Ordering::Release),
                (Ok(()), None) => refused(number, ItsError::UnknownCollection(collection)),
                (Err(error), _) => refused(number, error),
            }
        }
        Ok(())
    }

    /// Whose an LPI is that has arrived.
    #[inline]
    pub fn owner_of(&self, lpi: Lpi) -> Option<Owner> {
        self.owners.of(lpi)
    }

    /// Lets a device send messages of so many events, none of which is mapped. Returns the LPIs that
    /// its events can be mapped to.
    ///
    /// # Errors
    /// [`ItsError`]; nothing has changed.
    pub fn attach(
        &self,
        host: &mut impl Host,
        its: usize,
        device: DeviceId,
        events: u32,
    ) -> Result<LpiRange, ItsError> {
        let service = self.service(its, device)?;
        let no_lpis = ItsError::NoMemory {
            what: "LPIs",
            size: events.into(),
        };
        let lpis = self.lpis.with(|lpis| lpis.allocate(events));
        let lpis = lpis.ok_or(no_lpis)?;
        let configured = (0..events)
            .filter_map(|event| lpis.get(event))
            .try_for_each(|lpi| self.lpis.with(|all| all.configure(host, lpi, ENABLED)));
        let added =
            configured.and_then(|()| service.its.with(|its| its.add_device(host, device, events)));
        if let Err(error) = added {
            self.lpis.with(|all| all.free(lpis));
            return Err(error);
        }
        Ok(lpis)
    }

    /// Ends that. Its LPIs are free, unless the ITS does not do it.
    ///
    /// # Errors
    /// [`ItsError`]; the device and its LPIs stay as they are.
    pub fn detach(
        &self,
        host: &mut impl Host,
        its: usize,
        device: DeviceId,
        lpis: LpiRange,
    ) -> Result<(), ItsError> {
        let service = self.service(its, device)?;
        while service.its.with(|its| its.remove_device(host, device))? == Progress::More {}
        for lpi in (0..lpis.count()).filter_map(|event| lpis.get(event)) {
            self.owners.set(lpi, None);
        }
        self.lpis.with(|all| all.free(lpis));
        Ok(())
    }

    /// Has an event's messages arrive for an owner, at a CPU or another that takes them.
    ///
    /// # Errors
    /// [`ItsError`]; no message arrives.
    pub fn map(
        &self,
        host: &mut impl Host,
        source: Source,
        owner: Owner,
        cpu: usize,
    ) -> Result<(), ItsError> {
        let Source {
            its,
            device,
            event,
            lpi,
        } = source;
        let service = self.service(its, device)?;
        let to = service.collection(cpu);
        self.owners.set(lpi, Some(owner));
        let mapped = service
            .its
            .with(|its| its.map_event(host, device, event, lpi, to));
        if mapped.is_err() {
            self.owners.set(lpi, None);
        }
        mapped
    }

    /// Ends that: none arrives any more.
    ///
    /// # Errors
    /// [`ItsError`].
    pub fn unmap(&self, host: &mut impl Host, source: Source) -> Result<(), ItsError> {
        let discarded = self.with_event(host, source, Its::discard_event);
        self.owners.set(source.lpi, None);
        discarded
    }

    /// Has an event's messages arrive at a CPU, or at another that takes them.
    ///
    /// # Errors
    /// [`ItsError`]; they arrive where they did.
    pub fn send_to(
        &self,
        host: &mut impl Host,
        source: Source,
        cpu: usize,
    ) -> Result<(), ItsError> {
        let to = self.service(source.its, source.device)?.collection(cpu);
        self.with_event(host, source, |its, host, device, event| {
            its.move_event(host, device, event, to)
        })
    }

    /// Takes back a message that has not arrived.
    ///
    /// # Errors
    /// [`ItsError`].
    pub fn clear(&self, host: &mut impl Host, source: Source) -> Result<(), ItsError> {
        self.with_event(host, source, Its::clear)
    }

    fn with_event<H: Host>(
        &self,
        host: &mut H,
        source: Source,
        call: impl FnOnce(&mut Its<R>, &mut H, DeviceId, EventId) -> Result<(), ItsError>,
    ) -> Result<(), ItsError> {
        let service = self.service(source.its, source.device)?;
        service
            .its
            .with(|its| call(its, host, source.device, source.event))
    }

    fn service(&self, its: usize, device: DeviceId) -> Result<&Service<R, L>, ItsError> {
        self.services
            .get(its)
            .ok_or(ItsError::UnknownDevice(device))
    }
}

impl<R, L: Locking> Service<R, L> {
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
