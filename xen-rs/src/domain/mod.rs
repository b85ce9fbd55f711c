//! Domains: what a guest has of the machine, and how it is entered and left.

pub mod boot;
mod complaints;
pub mod context;
mod deadlines;
pub mod dom0;
pub mod events;
mod grants;
pub mod guest;
pub mod hypercall;
mod id_registers;
pub mod interrupts;
mod life;
pub mod memory;
pub mod messages;
pub mod mmio;
mod registers;
mod reservation;
pub mod run;
mod runstate;
pub mod schedule;
mod set_way;
pub mod space;
mod spis;
mod system_registers;
mod table;
mod tables;
mod teardown;
pub mod timer;
pub mod traps;
pub mod trial;
mod vcpu;
mod vcpu_context;
mod vuart;
mod wall_clock;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU8};

use spin::Once;
use xen_abi::DomId;
use xen_core::event::PortTable;
use xen_core::hvm_params::Parameters;
use xen_core::life::Life;
use xen_core::paging::stage2::Attributes;
use xen_core::psci::Power;
use xen_core::vgic::{CpuId, Effects, Physical, Region, Vgic};
use xen_types::{Gpa, GpaRange, IntId, PAGE_SIZE};

use self::complaints::Complaints;
use self::grants::Grants;
use self::interrupts::Masking;
use self::messages::Messages;
pub use self::messages::{MessagesError, take as take_message};
use self::reservation::Pending;
use self::space::{Space, Translation};
use self::table::Reserved;
pub use self::table::lookup;
use self::teardown::Teardown;
use self::timer::TimerInterrupts;
pub use self::vcpu::Vcpu;
use self::vuart::Vuart;
use crate::gic;
use crate::lock::IrqLock;
use crate::memory::page::Page;
use crate::pci::{GuestBus, intx};

/// A domain.
pub struct Domain {
    /// Its id.
    pub id: DomId,
    /// Whether its guest frames are the host's frames with the same numbers.
    pub is_direct_mapped: bool,
    /// What its addresses lead to.
    pub space: IrqLock<Space>,
    /// The registers that name its space.
    pub translation: Translation,
    /// Its interrupt controller.
    pub vgic: Vgic<Masking>,
    /// Which of its vCPUs run.
    pub power: IrqLock<Power>,
    /// Whether it may run, and how it has ended.
    pub life: IrqLock<Life>,
    /// How far its destruction is; away while a CPU is at it.
    pub teardown: IrqLock<Option<Teardown>>,
    /// RAM that is being made ready for it.
    pub populating: IrqLock<Option<Pending>>,
    /// What its toolstack calls it: a UUID.
    pub handle: IrqLock<[u8; 16]>,
    /// What it was created with, as its toolstack is told.
    pub config: Config,
    /// Where it finds its interrupt controller.
    pub gic_frames: Vec<(Region, GpaRange)>,
    /// What it has for messages of its devices.
    pub messages: Messages,
    /// The functions of the machine that it has, if it may have some.
    pub pci: Option<GuestBus>,
    /// Its serial port.
    pub vuart: Once<Vuart>,
    /// Where its timers interrupt.
    pub timers: TimerInterrupts,
    /// Its vCPUs.
    pub vcpus: Vec<Vcpu>,
    /// The number of its vCPU that ran last on each CPU, by the CPU's number.
    pub last_ran: Vec<AtomicU8>,
    /// Its event channels.
    pub ports: IrqLock<PortTable>,
    /// The page that it shares with the hypervisor.
    pub shared_page: Page,
    /// What it grants, and what it has mapped of others' grants.
    pub grants: Grants,
    /// Its parameters.
    pub parameters: IrqLock<Parameters>,
    /// Whether it wants to see when its runstates are being written.
    pub marks_runstate_updates: AtomicBool,
    /// How often it may make the hypervisor log.
    pub complaints: Complaints,
    /// Its id is taken for as long as anybody knows it. The last field: what others name by the id
    /// is gone when it is free.
    pub _place: Reserved,
}

/// What a domain was created with, as far as its toolstack asks for it again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    /// `XEN_DOMCTL_CDF_…`.
    pub flags: u32,
    /// As [`xen_abi::domctl::gic_version`] has it.
    pub gic_version: u8,
    /// Shared interrupts.
    pub spis: u32,
}

/// The domain that has the machine's interrupts.
static DOM0: Once<Arc<Domain>> = Once::new();

impl Domain {
    /// Whether a guest address is RAM.
    pub fn is_ram(&self, address: Gpa) -> bool {
        let found = self.space.lock().lookup(address.frame());
        found.is_some_and(|(_, attributes)| attributes == Attributes::Ram)
    }

    /// Whether it is the control domain.
    pub fn is_control(&self) -> bool {
        self.id == DomId::new(0)
    }

    /// Pages of RAM that are its own, whether or not it has them mapped.
    pub fn pages(&self) -> u64 {
        self.space.lock().quota().pages
    }

    /// The vCPU with a number.
    pub fn vcpu(&self, id: CpuId) -> Option<&Vcpu> {
        self.vcpus.get(id.get())
    }

    /// Starts a vCPU from reset.
    pub fn start(&self, id: CpuId, entry: Gpa, argument: u64) {
        if let Some(vcpu) = self.vcpu(id) {
            *vcpu.start.lock() = Some((entry, argument));
            schedule::start(vcpu);
        }
    }

    /// Does what the interrupt controller asks for.
    #[inline]
    pub fn carry_out(&self, effects: &mut Effects) {
        if !effects.is_empty() {
            self.carry_out_now(effects);
        }
    }

    fn carry_out_now(&self, effects: &mut Effects) {
        if effects.has_physical() {
            carry_out_physical(self.id, effects);
        }
        for id in effects.take_kicks() {
            if let Some(vcpu) = self.vcpu(id) {
                tell(vcpu);
            }
        }
    }
}

/// Mostly there is one to tell: the loop above prepares for no more.
#[inline(never)]
fn tell(vcpu: &Vcpu) {
    schedule::has_news(vcpu);
}

#[inline(never)]
fn carry_out_physical(domain: DomId, effects: &mut Effects) {
    for request in effects.take_physical() {
        match request {
            Physical::Enable(id) => gic::enable(id),
            Physical::Disable(id) => gic::disable(id),
            Physical::Deactivate(id) => gic::deactivate(id),
            Physical::Configure(id, trigger) => gic::configure(id, trigger),
            Physical::Ended(spi) => intx::ended(domain, spi),
        }
    }
}

/// Gives the machine's interrupts to a domain.
pub fn set_owner_of_interrupts(domain: Arc<Domain>) {
    DOM0.call_once(|| domain);
}

/// The control domain, once it is made.
pub fn dom0_domain() -> Option<&'static Arc<Domain>> {
    DOM0.get()
}

/// A physical interrupt that is no one's here arrived: a domain takes it. False if none does.
pub fn take_interrupt(id: IntId) -> bool {
    let IntId::Spi(spi) = id else {
        return false;
    };
    let inject = |domain: &Domain, spi| {
        let mut effects = Effects::new();
        domain.vgic.inject(spi, &mut effects);
        domain.carry_out(&mut effects);
    };
    match spis::owner(spi) {
        None => DOM0.get().map(|domain| inject(domain, spi)).is_some(),
        Some((guest, own)) => {
            let guest = table::lookup(guest);
            guest.map(|guest| inject(&guest, own)).is_some()
        }
    }
}

/// Something is typed at the serial port of a domain.
pub fn type_at(domain: DomId, bytes: impl Iterator<Item = u8>) {
    if let Some(domain) = table::lookup(domain) {
        domain.type_at_vuart(bytes);
    }
}

/// Logs the domains and what their vCPUs do.
pub fn show() {
    let mut next = table::next(DomId::new(0));
    if next.is_none() {
        log::info!("there is no domain");
    }
    while let Some(domain) = next {
        let memory = domain.pages() * PAGE_SIZE;
        let life = domain.life.lock().clone();
        let state = match (life.is_dying(), life.shutdown()) {
            (true, _) => ", is being destroyed",
            (_, Some(_)) => ", has shut down",
            _ if life.is_paused() => ", is paused",
            _ => "",
        };
        log::info!("{}: {} MiB{state}", domain.id, memory >> 20);
        for vcpu in &domain.vcpus {
            log::info!("  vcpu{}: {}", vcpu.id.get(), schedule::describe(vcpu));
        }
        let after = domain.id.get().checked_add(1).map(DomId::new);
        next = after.and_then(table::next);
    }
}
