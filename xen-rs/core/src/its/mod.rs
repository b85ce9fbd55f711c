//! The host's interrupt translation services and the LPIs that they raise (IHI 0069, chapter 5).
//!
//! [`Its`] drives one ITS: its tables, its command queue, the devices that it knows. [`Lpis`] is
//! what all of them share: which LPIs are in use, and their configuration. [`Owners`] says whose
//! an LPI is when it arrives. [`Services`] has all of them together. Hardware is reached through [`Registers`], [`Memory`] and [`Clock`];
//! `simulated` has a twin that walks the tables which the driver wrote.
//!
//! | module | |
//! |---|---|
//! | [`layout`], [`command`] | registers and commands as the specification spells them |
//! | `table` | tables in memory, and how they are cached |
//! | `queue` | the command queue: room, time-outs, stalls |
//! | `device` | what is known about a device |
//! | `driver` | an ITS as a whole |
//! | `lpi`, `lpis` | which LPIs are free; tables of LPIs |
//! | `owners` | from an LPI to its domain |
//! | `services` | all ITSs together |

extern crate alloc;

pub mod command;
mod device;
mod driver;
mod error;
pub mod layout;
mod lpi;
mod lpis;
mod owners;
mod queue;
mod services;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
mod table;
#[cfg(test)]
mod tests;

use xen_types::Hpa;

pub use self::command::{CollectionId, DeviceId, EventId, Target};
pub use self::driver::{Config, Its, Progress, Redistributor};
pub use self::error::ItsError;
pub use self::lpi::{LpiAllocator, LpiRange};
pub use self::lpis::Lpis;
pub use self::owners::{Owner, Owners};
pub use self::services::{Services, Source};

/// The registers of an ITS, or of a redistributor's first frame.
pub trait Registers {
    /// Reads the 32 bits at `offset` bytes.
    fn read32(&self, offset: u32) -> u32;
    /// Writes them.
    fn write32(&self, offset: u32, value: u32);
    /// Reads the 64 bits at `offset` bytes.
    fn read64(&self, offset: u32) -> u64;
    /// Writes them. Whatever was written to memory before is seen by the device that takes note of
    /// this write.
    fn write64(&self, offset: u32, value: u64);
}

/// Memory for tables that an ITS or a redistributor reads.
pub trait Memory {
    /// `size` bytes of zeros at a multiple of `align`, a power of two; `None` if there are none.
    fn allocate(&mut self, size: u64, align: u64) -> Option<Hpa>;
    /// Takes back what was allocated with this size, which is no smaller than the alignment was.
    fn free(&mut self, at: Hpa, size: u64);
    /// Writes a byte of allocated memory.
    fn write8(&mut self, at: Hpa, value: u8);
    /// Writes 8 bytes of allocated memory, little-endian.
    fn write64(&mut self, at: Hpa, value: u64);
    /// Writes what the caches have of a range back to memory, for a reader that sees no caches.
    fn clean(&mut self, at: Hpa, size: u64);
}

/// Time.
pub trait Clock {
    /// Microseconds since some moment.
    fn microseconds(&mut self) -> u64;
}

/// What a driver needs besides registers.
pub trait Host: Memory + Clock {}

impl<T: Memory + Clock> Host for T {}
