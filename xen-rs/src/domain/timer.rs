//! The timers of a vCPU (Arm ARM D12.2).
//!
//! The virtual timer is the hardware's while the vCPU is resident on a CPU. When it fires, it is
//! masked in the hardware, as nothing else takes its interrupt back, and made pending once; a guest
//! that handles it writes the timer's registers anyway. While the vCPU is on no CPU, a deadline of
//! the hypervisor stands in. The physical timer is always a deadline: its registers trap.

use core::sync::atomic::Ordering;

use xen_types::Ppi;

use super::Domain;
use super::vcpu::Vcpu;
use crate::arch::percpu::PerCpu;
use crate::arch::sysreg::{read_sysreg, write_sysreg};
use crate::arch::time::Ticks;
use crate::arch::{barrier, time};
use xen_core::vgic::Effects;

/// `CNTx_CTL`: enabled, its interrupt masked, its condition met.
const ENABLE: u64 = 1;
const MASKED: u64 = 1 << 1;
const MET: u64 = 1 << 2;

/// The interrupts of a domain's timers.
#[derive(Clone, Copy, Debug)]
pub struct TimerInterrupts {
    /// Of the virtual timer.
    pub virtual_timer: Ppi,
    /// Of the physical timer.
    pub physical_timer: Ppi,
}

/// One of a vCPU's timers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The virtual one.
    Virtual,
    /// The physical one.
    Physical,
}

/// A register of a timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Register {
    /// `CNTx_CTL`.
    Control,
    /// `CNTx_CVAL`.
    Compare,
    /// `CNTx_TVAL`.
    Value,
}

/// A timer that is not in the hardware.
#[derive(Default)]
pub struct Timer {
    control: u64,
    compare: u64,
}

impl Timer {
    /// When it interrupts; `None` if it does not.
    pub fn deadline(&self) -> Option<Ticks> {
        (self.control & (ENABLE | MASKED) == ENABLE).then_some(self.compare)
    }

    /// Takes its interrupt if it is due.
    fn fire(&mut self, now: Ticks) -> bool {
        let due = self.deadline().is_some_and(|deadline| deadline <= now);
        if due {
            self.control |= MASKED;
        }
        due
    }
}

/// The physical timer as a guest sees it.
#[derive(Default)]
pub struct PhysicalTimer {
    timer: Timer,
    /// What the guest wrote of the mask: the timer masks itself when it has fired.
    masked: bool,
}

impl PhysicalTimer {
    /// What a register reads.
    pub fn read(&self, register: Register) -> u64 {
        let timer = &self.timer;
        match register {
            Register::Control => {
                let enabled = timer.control & ENABLE;
                let met = enabled != 0 && timer.compare <= time::now();
                enabled | if self.masked { MASKED } else { 0 } | if met { MET } else { 0 }
            }
            Register::Compare => timer.compare,
            // The low half of the difference (D24.12.17).
            Register::Value => timer.compare.wrapping_sub(time::now()) & 0xffff_ffff,
        }
    }

    /// A write of a register.
    pub fn write(&mut self, register: Register, value: u64) {
        match register {
            Register::Control => {
                self.masked = value & MASKED != 0;
                self.timer.control = value & (ENABLE | MASKED);
            }
            Register::Compare => self.set_compare(value),
            Register::Value => {
                let signed = i64::from(value as u32 as i32);
                self.set_compare(time::now().wrapping_add_signed(signed));
            }
        }
    }

    /// A new moment: it may fire again.
    fn set_compare(&mut self, compare: u64) {
        self.timer.compare = compare;
        if !self.masked {
            self.timer.control &= !MASKED;
        }
    }
}

/// The timers of a vCPU.
#[derive(Default)]
pub struct Timers {
    virtual_timer: Timer,
    /// The one that traps.
    pub physical: PhysicalTimer,
}

impl Timers {
    /// The vCPU becomes resident: the hardware gets its virtual timer.
    pub fn enter(&self) {
        write_sysreg!("cntv_cval_el0", self.virtual_timer.compare);
        write_sysreg!("cntv_ctl_el0", self.virtual_timer.control);
    }

    /// The vCPU leaves: its virtual timer is kept here.
    pub fn leave(&mut self) {
        self.virtual_timer.control = read_sysreg!("cntv_ctl_el0") & (ENABLE | MASKED);
        self.virtual_timer.compare = read_sysreg!("cntv_cval_el0");
        write_sysreg!("cntv_ctl_el0", 0);
        barrier::isb();
    }

    /// When a timer that is not in the hardware interrupts.
    pub fn deadline(&self, kind: Kind) -> Option<Ticks> {
        match kind {
            Kind::Virtual => self.virtual_timer.deadline(),
            Kind::Physical => self.physical.timer.deadline(),
        }
    }

    /// Raises the interrupt of a timer that is not in the hardware, if it is due.
    pub fn fire(&mut self, kind: Kind, domain: &Domain, vcpu: &Vcpu, effects: &mut Effects) {
        let interrupts = domain.timers;
        let (timer, ppi) = match kind {
            Kind::Virtual => (&mut self.virtual_timer, interrupts.virtual_timer),
            Kind::Physical => (&mut self.physical.timer, interrupts.physical_timer),
        };
        if timer.fire(time::now()) {
            domain.vgic.inject_private(vcpu.id, ppi, effects);
        }
    }
}

/// The virtual timer of the vCPU that is resident on this CPU has fired.
pub fn expired(cpu: &PerCpu) {
    write_sysreg!("cntv_ctl_el0", read_sysreg!("cntv_ctl_el0") | MASKED);
    barrier::isb();
    let resident = cpu.resident.lock();
    if let Some((domain, id)) = resident.as_ref() {
        let mut effects = Effects::new();
        let ppi = domain.timers.virtual_timer;
        domain.vgic.inject_private(*id, ppi, &mut effects);
        if cpu.running.load(Ordering::Relaxed) {
            effects.unkick(*id);
        }
        domain.carry_out(&mut effects);
    }
}
