//! The life of a domain: who keeps it from running, how it has ended, and what is known of that
//! (Xen's pause counts, `shutdown`, `dying`).
//!
//! A domain runs if nobody holds it: the toolstack by a pause, itself by having shut down, the
//! hypervisor because it is being destroyed.

use xen_abi::Errno;
use xen_abi::sched::ShutdownReason;

/// Whether a domain's vCPUs may run has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "vCPUs run until they are told"]
pub enum Change {
    /// It has not.
    None,
    /// They may not any more.
    Hold,
    /// They may again.
    Release,
}

/// Why the life of a domain cannot change so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LifeError {
    /// Nobody has paused it.
    #[error("the domain is not paused")]
    NotPaused,
    /// It is paused as often as can be counted.
    #[error("the domain is paused too often")]
    PausedTooOften,
    /// It has not shut down.
    #[error("the domain has not shut down")]
    NotShutDown,
    /// It is being destroyed.
    #[error("the domain is being destroyed")]
    Dying,
}

impl From<LifeError> for Errno {
    fn from(_: LifeError) -> Self {
        Self::Invalid
    }
}

/// The state of a domain's life.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Life {
    pauses: u32,
    shutdown: Option<ShutdownReason>,
    dying: bool,
    /// It has run: nothing that has to be said before that can be said any more.
    started: bool,
}

impl Life {
    /// Of a domain that runs at once.
    pub const fn running() -> Self {
        Self {
            pauses: 0,
            shutdown: None,
            dying: false,
            started: true,
        }
    }

    /// Of a domain that its toolstack has yet to build: paused once.
    pub const fn created() -> Self {
        Self {
            pauses: 1,
            started: false,
            ..Self::running()
        }
    }

    /// Whether its vCPUs may not run.
    pub const fn is_held(&self) -> bool {
        self.pauses > 0 || self.shutdown.is_some() || self.dying
    }

    /// Whether the toolstack has paused it.
    pub const fn is_paused(&self) -> bool {
        self.pauses > 0
    }

    /// Why it has shut down, if it has.
    pub const fn shutdown(&self) -> Option<ShutdownReason> {
        self.shutdown
    }

    /// Whether it is being destroyed.
    pub const fn is_dying(&self) -> bool {
        self.dying
    }

    /// Whether it has ever been let run.
    pub const fn has_started(&self) -> bool {
        self.started
    }

    fn change<R>(&mut self, act: impl FnOnce(&mut Self) -> R) -> (R, Change) {
        let before = self.is_held();
        let result = act(self);
        let change = match (before, self.is_held()) {
            (false, true) => Change::Hold,
            (true, false) => {
                self.started = true;
                Change::Release
            }
            _ => Change::None,
        };
        (result, change)
    }

    /// The toolstack pauses it, once more.
    ///
    /// # Errors
    /// [`LifeError::PausedTooOften`].
    pub fn pause(&mut self) -> Result<Change, LifeError> {
        let pauses = self.pauses.checked_add(1);
        let pauses = pauses.ok_or(LifeError::PausedTooOften)?;
        Ok(self.change(|life| life.pauses = pauses).1)
    }

    /// The toolstack takes one pause back.
    ///
    /// # Errors
    /// [`LifeError::NotPaused`].
    pub fn unpause(&mut self) -> Result<Change, LifeError> {
        let pauses = self.pauses.checked_sub(1);
        let pauses = pauses.ok_or(LifeError::NotPaused)?;
        Ok(self.change(|life| life.pauses = pauses).1)
    }

    /// It has shut down, or is made to. The first reason stands. Returns whether it is the first.
    pub fn shut_down(&mut self, reason: ShutdownReason) -> (bool, Change) {
        self.change(|life| {
            let first = life.shutdown.is_none() && !life.dying;
            if first {
                life.shutdown = Some(reason);
            }
            first
        })
    }

    /// One that was suspended goes on.
    ///
    /// # Errors
    /// [`LifeError::NotShutDown`], [`LifeError::Dying`].
    pub fn resume(&mut self) -> Result<Change, LifeError> {
        if self.dying {
            return Err(LifeError::Dying);
        }
        if self.shutdown.is_none() {
            return Err(LifeError::NotShutDown);
        }
        Ok(self.change(|life| life.shutdown = None).1)
    }

    /// It is to be destroyed. Returns whether it was not before.
    pub fn destroy(&mut self) -> (bool, Change) {
        self.change(|life| !core::mem::replace(&mut life.dying, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_domain_waits_for_its_toolstack() {
        let mut life = Life::created();
        assert!(life.is_held() && !life.has_started());
        assert_eq!(life.pause(), Ok(Change::None));
        assert_eq!(life.unpause(), Ok(Change::None));
        assert!(!life.has_started());
        assert_eq!(life.unpause(), Ok(Change::Release));
        assert!(life.has_started());
        assert_eq!(life.unpause(), Err(LifeError::NotPaused));
    }

    #[test]
    fn the_first_reason_of_a_shutdown_stands() {
        let mut life = Life::running();
        let first = life.shut_down(ShutdownReason::Crash);
        assert_eq!(first, (true, Change::Hold));
        let second = life.shut_down(ShutdownReason::PowerOff);
        assert_eq!(second, (false, Change::None));
        assert_eq!(life.shutdown(), Some(ShutdownReason::Crash));
        assert_eq!(life.pause(), Ok(Change::None));
        assert_eq!(life.unpause(), Ok(Change::None));
        assert_eq!(life.resume(), Ok(Change::Release));
        assert_eq!(life.resume(), Err(LifeError::NotShutDown));
    }

    #[test]
    fn a_domain_dies_once_and_stays_so() {
        let mut life = Life::running();
        assert_eq!(life.destroy(), (true, Change::Hold));
        assert_eq!(life.destroy(), (false, Change::None));
        assert_eq!(life.resume(), Err(LifeError::Dying));
        assert_eq!(life.pause(), Ok(Change::None));
        assert_eq!(life.unpause(), Ok(Change::None));
        assert!(life.is_held() && life.is_dying());
        assert_eq!(life.shut_down(ShutdownReason::Crash), (false, Change::None));
    }
}
