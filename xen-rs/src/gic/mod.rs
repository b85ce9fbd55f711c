//! The host's interrupt controller: which one it is, and the interrupts that are ours.
//!
//! GICv2 (IHI 0048) and GICv3 (IHI 0069) differ in how CPUs are named and where the CPU interface
//! is; what a distributor and the private part of a CPU have in common is in `frame`.

mod frame;
pub mod its;
mod v2;
pub mod v2m;
mod v3;

use core::sync::atomic::Ordering;

use log::{info, warn};
use platform_dt::{Gic as GicNode, Timer};
use spin::Once;
use xen_types::{IntId, Interrupt, Lpi, Sgi, Trigger};

use crate::arch::{barrier, interrupts, percpu, time};
use crate::memory::device::{MapError, Registers};
use crate::pci::intx;
use crate::{console, domain, iommu};

/// What an interrupt controller must do for the rest of the hypervisor.
trait Controller: Send + Sync {
    /// The frame that controls virtual CPU interfaces, where system registers do not.
    fn virtual_interface(&self) -> Option<Registers> {
        None
    }
    /// Brings the calling CPU's private part and its interface up. Its interrupts stay disabled.
    fn init_cpu(&self) -> Result<(), GicError>;
    /// Enables an interrupt; a private one for the calling CPU only.
    fn enable(&self, id: IntId);
    /// How many shared interrupts there are.
    fn shared_interrupts(&self) -> usize;
    /// Takes the most urgent pending interrupt; `None` if there is none.
    fn acknowledge(&self) -> Option<Acknowledged>;
    /// Disables an interrupt; a private one for the calling CPU only.
    fn disable(&self, id: IntId);
    /// Makes an interrupt edge- or level-triggered.
    fn configure(&self, id: IntId, trigger: Trigger);
    /// Makes an interrupt not pending.
    fn forget(&self, id: IntId);
    /// Lets interrupts of the same priority through again. The interrupt stays active.
    fn drop_priority(&self, interrupt: Acknowledged);
    /// Ends an interrupt that stayed active.
    fn deactivate(&self, register: u32);
    /// Sends an SGI to the CPU that recorded `target` in [`Controller::init_cpu`].
    fn send(&self, sgi: Sgi, target: u64);
    /// Sends an SGI to every CPU but the calling one.
    fn send_to_others(&self, sgi: Sgi);
}

/// An acknowledged interrupt with what its end needs to know.
#[derive(Clone, Copy)]
struct Acknowledged {
    intid: u32,
    register: u32,
}

/// Why the interrupt controller cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GicError {
    /// Its registers cannot be mapped.
    #[error("gic: {0}")]
    Map(#[from] MapError),
    /// No redistributor names this CPU.
    #[error("gic: no redistributor for the CPU with affinity {0}")]
    NoRedistributor(xen_types::Affinity),
    /// The redistributor did not wake up.
    #[error("gic: the redistributor of the CPU with affinity {0} stays asleep")]
    Asleep(xen_types::Affinity),
    /// A register write did not take effect in time.
    #[error("gic: the distributor does not accept writes")]
    Stuck,
    /// Firmware keeps the system registers of the CPU interface for itself.
    #[error("gic: firmware does not let EL2 use the GICv3 system registers (ICC_SRE)")]
    NoSystemRegisters,
    /// There is nothing at the address.
    #[error("gic: no GICv{expected} at {at} (GICD_PIDR2 {found:#x})")]
    NotThere {
        /// Version that the device tree names.
        expected: u8,
        /// Address of the distributor.
        at: xen_types::Hpa,
        /// What the identification register reads.
        found: u32,
    },
}

static CONTROLLER: Once<&'static dyn Controller> = Once::new();
static OWN: Once<Own> = Once::new();

/// The private interrupts that every CPU takes for the hypervisor.
struct Own {
    timer: Interrupt,
    /// The virtual timer of the vCPU that is resident.
    virtual_timer: Interrupt,
    /// Its INTID.
    virtual_timer_intid: u32,
    /// A virtual CPU interface needs attention: see `domain::interrupts`.
    maintenance: Option<Interrupt>,
}

impl Own {
    fn all(&self) -> impl Iterator<Item = Interrupt> {
        let timers = [self.timer, self.virtual_timer];
        timers.into_iter().chain(self.maintenance)
    }
}

/// The receiver arms its timer: the self-test of interrupts between CPUs.
const PING: Sgi = Sgi::new(0).expect("0 to 15 are SGIs");
/// The receiver stops for good: another CPU reports the end.
const STOP: Sgi = Sgi::new(1).expect("0 to 15 are SGIs");

/// The receiver leaves its guest, or its sleep, to look at what changed.
const KICK: Sgi = Sgi::new(2).expect("0 to 15 are SGIs");

/// How soon after a ping the timer fires.
const TICK_MICROSECONDS: u64 = 20;

/// Brings up the distributor and the calling CPU's part.
///
/// # Errors
/// [`GicError`]: the controller is not what the tree says, or does not work.
pub fn init(node: &GicNode, timer: &Timer) -> Result<(), GicError> {
    let controller: &'static dyn Controller = match node {
        GicNode::V2(node) => alloc::boxed::Box::leak(v2::GicV2::new(node)?),
        GicNode::V3(node) => alloc::boxed::Box::leak(v3::GicV3::new(node)?),
    };
    let maintenance = match node {
        GicNode::V2(node) => {
            v2m::init(&node.v2m_frames);
            node.maintenance
        }
        GicNode::V3(node) => node.maintenance,
    };
    CONTROLLER.call_once(|| controller);
    OWN.call_once(|| Own {
        timer: timer.hyp,
        virtual_timer: timer.virt,
        virtual_timer_intid: timer.virt.id.get(),
        maintenance,
    });
    init_cpu()
}

/// Brings up the calling CPU's part and lets the hypervisor's own interrupts through.
///
/// # Errors
/// [`GicError`]: this CPU's part does not work.
pub fn init_cpu() -> Result<(), GicError> {
    if let (Some(controller), Some(own)) = (CONTROLLER.get(), OWN.get()) {
        controller.init_cpu()?;
        for sgi in [PING, STOP, KICK] {
            controller.enable(sgi.into());
        }
        for interrupt in own.all() {
            controller.configure(interrupt.id, interrupt.trigger);
            controller.enable(interrupt.id);
        }
    }
    Ok(())
}

/// The IRQ vector: handles what is pending.
pub fn handle_irq() {
    let Some(controller) = CONTROLLER.get() else {
        return;
    };
    let cpu = percpu::this();
    while let Some(interrupt) = controller.acknowledge() {
        controller.drop_priority(interrupt);
        // A domain's interrupt stays active until the domain is done with it.
        if dispatch(cpu, interrupt) == Done::Here {
            controller.deactivate(interrupt.register);
        }
        // Mostly that was all, and it is cheaper to see here. What comes in this moment is taken
        // as the next exception.
        if !interrupts::is_irq_pending() {
            break;
        }
    }
}

/// Who is done with an interrupt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Done {
    /// The hypervisor.
    Here,
    /// The domain that got it will be.
    ByDomain,
}

/// Handles an interrupt: first the frequent ones.
#[inline]
fn dispatch(cpu: &percpu::PerCpu, interrupt: Acknowledged) -> Done {
    const KICK_INTID: u32 = KICK.intid();
    match interrupt.intid {
        // It took the CPU out of its guest or its sleep, which was its purpose.
        KICK_INTID => Done::Here,
        intid @ 16..32 if take_own(cpu, intid) => Done::Here,
        _ => dispatch_other(cpu, interrupt),
    }
}

/// Gives a message's interrupt to its owner. It has no active state to end (IHI 0069, 4.1.2). One that
/// is nobody's was sent before its event was discarded.
fn take_message(lpi: Lpi) -> Done {
    if let Some(owner) = its::owner_of(lpi) {
        domain::take_message(owner);
    }
    Done::ByDomain
}

#[inline(never)]
fn dispatch_other(cpu: &percpu::PerCpu, interrupt: Acknowledged) -> Done {
    match IntId::new(interrupt.intid) {
        Some(IntId::Sgi(PING)) => {
            cpu.pings.fetch_add(1, Ordering::Release);
            time::arm_timer(time::ticks(TICK_MICROSECONDS));
        }
        Some(IntId::Sgi(STOP)) => crate::report::halt(),
        Some(IntId::Lpi(lpi)) => return take_message(lpi),
        Some(id) if console::input::take_interrupt(id) => (),
        Some(id) if iommu::take_interrupt(id) => (),
        Some(id) if intx::take_interrupt(id) => (),
        Some(id) if domain::take_interrupt(id) => return Done::ByDomain,
        _ => warn!(
            "gic: {} took INTID {}, which nobody asked for",
            cpu.id, interrupt.register
        ),
    }
    Done::Here
}

/// Handles a private interrupt, if it is the hypervisor's.
fn take_own(cpu: &percpu::PerCpu, intid: u32) -> bool {
    let Some(own) = OWN.get() else {
        return false;
    };
    if intid == own.virtual_timer_intid {
        domain::timer::expired(cpu);
    } else if intid == own.timer.id.get() {
        time::stop_timer();
        cpu.ticks.fetch_add(1, Ordering::Release);
        barrier::dsb_ish();
        barrier::sev();
    } else {
        // Maintenance: it took the vCPU out, whose list registers are looked at before it goes on.
        return own.maintenance.is_some_and(|own| own.id.get() == intid);
    }
    true
}

/// Has another CPU look at what its vCPU must do.
pub fn kick(cpu: &percpu::PerCpu) {
    if let Some(controller) = CONTROLLER.get() {
        controller.send(KICK, cpu.sgi_target.load(Ordering::Relaxed));
    }
}

/// Enables a domain's interrupt.
pub fn enable(id: IntId) {
    if let Some(controller) = CONTROLLER.get() {
        controller.enable(id);
    }
}

/// Disables a domain's interrupt.
pub fn disable(id: IntId) {
    if let Some(controller) = CONTROLLER.get() {
        controller.disable(id);
    }
}

/// Makes a domain's interrupt edge- or level-triggered.
pub fn configure(id: IntId, trigger: Trigger) {
    if let Some(controller) = CONTROLLER.get() {
        controller.configure(id, trigger);
    }
}

/// Makes an interrupt not pending, which may have come before somebody was to get it.
pub fn forget(id: IntId) {
    if let Some(controller) = CONTROLLER.get() {
        controller.forget(id);
    }
}

/// Deactivates an interrupt that its domain is done with.
pub fn deactivate(id: IntId) {
    if let Some(controller) = CONTROLLER.get() {
        controller.deactivate(id.get());
    }
}

/// The frame that controls virtual CPU interfaces (GICH); `None` where system registers do.
pub fn virtual_interface() -> Option<Registers> {
    CONTROLLER.get()?.virtual_interface()
}

/// Shared interrupts of the machine.
pub fn shared_interrupts() -> usize {
    CONTROLLER
        .get()
        .map_or(0, |controller| controller.shared_interrupts())
}

/// Pings a CPU: it answers by taking a timer interrupt soon after.
pub fn ping(cpu: &percpu::PerCpu) {
    if let Some(controller) = CONTROLLER.get() {
        controller.send(PING, cpu.sgi_target.load(Ordering::Relaxed));
    }
}

/// Stops all other CPUs, as far as they still take interrupts.
pub fn stop_other_cpus() {
    if let Some(controller) = CONTROLLER.get() {
        controller.send_to_others(STOP);
    }
}

/// One line about what was found.
fn announce(version: u8, lines: u32, rest: core::fmt::Arguments<'_>) {
    info!("gic: GICv{version}, {lines} interrupt lines, {rest}");
}
