//! The scheduler and shutdown (`sched.h`).

use crate::{DomId, GuestHandle};

/// The most ports that a [`Poll`] may name.
pub const MAX_POLL_PORTS: u32 = 128;

numbers! {
    /// Sub-operations of `sched_op` (`SCHEDOP_…`).
    pub enum SchedOp: u64 {
        /// Lets others run.
        Yield = 0,
        /// Enables events and waits for one.
        Block = 1,
        /// Ends the caller: [`Shutdown`].
        Shutdown = 2,
        /// Waits for one of some ports: [`Poll`].
        Poll = 3,
        /// Ends another domain: [`RemoteShutdown`].
        RemoteShutdown = 4,
        /// Says why a shutdown is coming: [`Shutdown`].
        ShutdownCode = 5,
        /// A timer that ends the domain: [`Watchdog`].
        Watchdog = 6,
        /// Binds a vCPU to a physical one for a time.
        PinOverride = 7,
    }

    /// Why a domain ends (`SHUTDOWN_…`).
    pub enum ShutdownReason: u32 {
        /// It is done.
        PowerOff = 0,
        /// It wants to start again.
        Reboot = 1,
        /// It wants to be saved.
        Suspend = 2,
        /// It failed.
        Crash = 3,
        /// Its watchdog was not fed.
        Watchdog = 4,
        /// It wants to start again in the same memory.
        SoftReset = 5,
    }
}

layout! {
    /// `sched_shutdown`.
    pub struct Shutdown: 4 {
        /// A [`ShutdownReason`].
        0 reason: u32,
    }

    /// `sched_poll`.
    pub struct Poll: 24 {
        /// Ports, `u32` each.
        0 ports: GuestHandle,
        /// How many.
        8 nr_ports: u32,
        /// Padding.
        12 pad: u32,
        /// Nanoseconds of system time at which to stop waiting; 0 never.
        16 timeout: u64,
    }

    /// `sched_remote_shutdown`.
    pub struct RemoteShutdown: 8 {
        /// Which domain.
        0 domain_id: DomId,
        /// Padding.
        2 pad: u16,
        /// A [`ShutdownReason`].
        4 reason: u32,
    }

    /// `sched_watchdog`.
    pub struct Watchdog: 8 {
        /// Which timer; 0 asks for a new one.
        0 id: u32,
        /// Seconds from now; 0 stops it.
        4 timeout: u32,
    }
}
