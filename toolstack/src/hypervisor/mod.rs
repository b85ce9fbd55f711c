//! The hypervisor, as a toolstack sees it.
//!
//! [`Hypervisor`] has a method for each call that a toolstack makes, in a trait for each kind. [`Xen`] makes them through Linux's
//! drivers; [`Simulated`] answers them itself, as strictly as Xen 4.20 does, for tests.

mod device;
mod error;
mod events;
mod functions;
mod fuse;
mod info;
mod simulated;
mod xen;

pub use device::{PAGE_SIZE, SharedMemory};
pub use error::HypervisorError;
pub use events::{Events, Port};
pub use functions::{DeviceSupport, FunctionInfo, FunctionState, GuestBdf, Messages};
pub use fuse::VARIABLE as DIE_AFTER;
pub use info::{DomainInfo, EndReason, Machine, NewDomain, Scheduler, VcpuInfo, Version};
pub use simulated::Simulated;
pub use xen::Xen;

use std::io::{self, Read};

use xen_abi::DomId;
use xen_abi::domctl::Context;
use xen_abi::hvm::Param;
use xen_abi::sched::ShutdownReason;

use crate::pci::Sbdf;

/// What a call returns.
pub type Result<T> = std::result::Result<T, HypervisorError>;

/// Memory of a guest that is mapped.
pub trait GuestMemory {
    /// Copies bytes into it.
    ///
    /// # Errors
    /// If they reach out of it.
    fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()>;

    /// Fills bytes from a reader.
    ///
    /// # Errors
    /// If they reach out of it, or the reader's.
    fn fill(&mut self, offset: usize, length: usize, from: &mut dyn Read) -> io::Result<()>;
}

impl GuestMemory for SharedMemory {
    fn write(&mut self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        SharedMemory::write(self, offset, bytes)
    }

    fn fill(&mut self, offset: usize, length: usize, from: &mut dyn Read) -> io::Result<()> {
        SharedMemory::fill(self, offset, length, from)
    }
}

/// The calls of a toolstack.
pub trait Hypervisor: Host + Domains + Functions + Ram + Wiring {}

impl<H: Host + Domains + Functions + Ram + Wiring> Hypervisor for H {}

/// The machine and what runs on it. All errors are [`HypervisorError`]s that name the call.
#[allow(clippy::missing_errors_doc)]
pub trait Host {
    /// What runs.
    fn version(&self) -> Result<Version>;
    /// What it runs on.
    fn machine(&self) -> Result<Machine>;
    /// How vCPUs share CPUs.
    fn scheduler(&self) -> Result<Scheduler>;
    /// The hypervisor's log; forgotten if `clear`.
    fn log(&self, clear: bool) -> Result<Vec<u8>>;
    /// All domains, by id.
    fn domains(&self) -> Result<Vec<DomainInfo>>;
}

/// Domains: made, set up, run and ended. All errors are [`HypervisorError`]s that name the call.
#[allow(clippy::missing_errors_doc)]
pub trait Domains {
    /// A domain, if there is one with that id.
    fn domain(&self, domain: DomId) -> Result<Option<DomainInfo>>;
    /// A vCPU; `None` if the domain has no such.
    fn vcpu(&self, domain: DomId, vcpu: u32) -> Result<Option<VcpuInfo>>;
    /// Makes a domain, which has nothing yet and is paused. Returns its id and what `new` has become.
    fn create(&self, new: &NewDomain) -> Result<(DomId, NewDomain)>;
    /// Makes its vCPUs.
    fn set_vcpus(&self, domain: DomId, count: u32) -> Result<()>;
    /// Sets how much memory it may have, in KiB.
    fn set_max_memory(&self, domain: DomId, kib: u64) -> Result<()>;
    /// Sets aside memory for its translation tables, in bytes.
    fn set_paging_pool(&self, domain: DomId, bytes: u64) -> Result<()>;
    /// Makes it a domain of 64 bits.
    fn set_64_bit(&self, domain: DomId) -> Result<()>;
    /// Sets where a vCPU may run and where it should; all but those that are named.
    fn set_affinity(
        &self,
        domain: DomId,
        vcpu: u32,
        hard: Option<&[u32]>,
        soft: Option<&[u32]>,
    ) -> Result<()>;
    /// Sets its share of the CPUs.
    fn set_share(
        &self,
        domain: DomId,
        scheduler: Scheduler,
        weight: Option<u16>,
        cap: Option<u16>,
    ) -> Result<()>;
    /// Sets the registers of a vCPU.
    fn set_context(&self, domain: DomId, vcpu: u32, context: &Context) -> Result<()>;
    /// Keeps it from running.
    fn pause(&self, domain: DomId) -> Result<()>;
    /// Lets it run.
    fn unpause(&self, domain: DomId) -> Result<()>;
    /// Ends it as if it had ended itself.
    fn shut_down(&self, domain: DomId, reason: ShutdownReason) -> Result<()>;
    /// Takes back all that it has.
    fn destroy(&self, domain: DomId) -> Result<()>;
}

/// PCI functions, and the list of those that guests can have. All errors are [`HypervisorError`]s that
/// name the call.
#[allow(clippy::missing_errors_doc)]
pub trait Functions {
    /// All functions of the machine that the hypervisor knows, in the order of their names.
    fn functions(&self) -> Result<Vec<FunctionInfo>>;
    /// One of them; `None` if there is none of that name.
    fn function(&self, function: Sbdf) -> Result<Option<FunctionInfo>>;
    /// Takes a function from the control domain to the list, or gives it back. A refusal is
    /// [`HypervisorError::Refused`] where the hypervisor says why.
    fn set_assignable(&self, function: Sbdf, assignable: bool) -> Result<()>;
    /// Gives an assignable function to a domain, in a slot of its bus if one is wanted. Returns where
    /// the domain sees it.
    fn assign(&self, domain: DomId, function: Sbdf, slot: Option<u8>) -> Result<GuestBdf>;
    /// Takes a function back from a domain; it is assignable then.
    fn deassign(&self, domain: DomId, function: Sbdf) -> Result<()>;
    /// What devices of a domain have.
    fn device_support(&self, domain: DomId) -> Result<DeviceSupport>;
}

/// Memory of domains. All errors are [`HypervisorError`]s that name the call.
#[allow(clippy::missing_errors_doc)]
pub trait Ram {
    /// Memory of a guest that is mapped, until it is dropped.
    type Memory: GuestMemory;

    /// Gives it memory at these guest frames, 2^`order` pages at each. Returns for how many there was
    /// any.
    fn populate(&self, domain: DomId, order: u32, frames: &[u64]) -> Result<usize>;
    /// Maps guest frames of it, in this order.
    fn map(&self, domain: DomId, frames: &[u64]) -> Result<Self::Memory>;
    /// Maps the first page of its grant table.
    fn map_grant_table(&self, domain: DomId) -> Result<Self::Memory>;
    /// Cleans the data caches of guest frames.
    fn clean_caches(&self, domain: DomId, first: u64, count: u64) -> Result<()>;
}

/// What domains talk by: ports, pages and consoles. All errors are [`HypervisorError`]s that name the call.
#[allow(clippy::missing_errors_doc)]
pub trait Wiring {
    /// Makes a port of it that `remote` may bind to.
    fn allocate_port(&self, domain: DomId, remote: DomId) -> Result<u32>;
    /// Sets a parameter of it.
    fn set_param(&self, domain: DomId, param: Param, value: u64) -> Result<()>;
    /// Reads a parameter of it.
    fn param(&self, domain: DomId, param: Param) -> Result<u64>;
    /// Gives it a virtual UART whose ring is at a guest frame. Returns the port of the other end.
    fn init_vuart(&self, domain: DomId, frame: u64, console: DomId) -> Result<u32>;
}
