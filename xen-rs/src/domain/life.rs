//! Pausing a domain, its end by its own will, and what its control domain hears of that.

use log::Level;
use xen_abi::sched::ShutdownReason;
use xen_core::event::Virq;
use xen_core::life::{Change, LifeError};

use super::{Domain, events, schedule};
use crate::arch::barrier;

impl Domain {
    /// Does what a change in the domain's life asks for.
    fn carry_out_change(&self, change: Change) {
        match change {
            Change::None => (),
            Change::Hold => schedule::hold(self, true),
            Change::Release => schedule::hold(self, false),
        }
    }

    /// Pauses the domain, once more, and waits until none of its vCPUs is on a CPU. The caller is
    /// another domain's vCPU: then no CPU that the wait is for waits for this one.
    ///
    /// # Errors
    /// [`LifeError`].
    pub fn pause(&self) -> Result<(), LifeError> {
        let change = self.life.lock().pause()?;
        self.carry_out_change(change);
        while !self.vcpus.iter().all(schedule::is_off_cpus) {
            barrier::yield_hint();
        }
        Ok(())
    }

    /// Takes one pause back.
    ///
    /// # Errors
    /// [`LifeError`].
    pub fn unpause(&self) -> Result<(), LifeError> {
        let change = self.life.lock().unpause()?;
        self.carry_out_change(change);
        Ok(())
    }

    /// The domain ends, by itself or because its control domain says so. It stays as it is until it is
    /// destroyed.
    pub fn shut_down(&self, reason: ShutdownReason) {
        let (first, change) = self.life.lock().shut_down(reason);
        self.carry_out_change(change);
        if first {
            let what = match reason {
                ShutdownReason::PowerOff => "power off",
                ShutdownReason::Reboot => "reboot",
                ShutdownReason::Suspend => "suspend",
                ShutdownReason::Crash => "the kernel has crashed",
                ShutdownReason::Watchdog => "the watchdog was not fed",
                ShutdownReason::SoftReset => "soft reset",
            };
            self.report(Level::Info, format_args!("{}: {what}", self.id));
            events::raise(Virq::DOM_EXC);
        }
    }

    /// A domain that has shut down goes on.
    ///
    /// # Errors
    /// [`LifeError`].
    pub fn resume(&self) -> Result<(), LifeError> {
        let change = self.life.lock().resume()?;
        self.carry_out_change(change);
        Ok(())
    }

    /// The domain is to be destroyed. Returns whether it was not before.
    pub fn doom(&self) -> bool {
        let (first, change) = self.life.lock().destroy();
        self.carry_out_change(change);
        first
    }
}
