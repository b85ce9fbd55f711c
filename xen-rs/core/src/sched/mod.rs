//! Which vCPU each CPU runs.
//!
//! [`Scheduler`] decides, and the loop of each CPU carries out: it asks [`Scheduler::pick`] what to
//! run when its vCPU blocks, yields, is switched off or must give way. Anyone may wake a vCPU
//! ([`Scheduler::wake`]), from interrupt handlers too; what is returned are the CPUs to kick.
//!
//! A vCPU's registers stay on the CPU where it ran until that CPU runs another: it is *resident*
//! there, and runs nowhere else until the CPU says that it has saved them ([`Scheduler::saved`]). A
//! vCPU that blocks and wakes on an otherwise idle CPU switches no register.
//!
//! Two policies:
//! - time sharing: by weight, with a virtual clock for each CPU; a vCPU that wakes goes to an idle
//!   CPU, a CPU without work takes what waits elsewhere, and one that gives way moves to the CPU with
//!   the least load. A CPU with a single vCPU has no tick.
//! - null: each vCPU has a CPU to itself for as long as it is on; more than there are CPUs wait.
//!
//! Lock order: a unit, then a queue; never two of a kind.

mod cpus;
mod kicks;
mod policy;
mod queue;
mod runstate;
mod scheduler;
#[cfg(test)]
mod tests;
mod unit;

extern crate alloc;

pub use self::cpus::{CpuSet, MAX_CPUS};
pub use self::kicks::Kicks;
pub use self::policy::{Policy, Tuning, UnknownPolicy};
pub use self::runstate::{Doing, Runstate};
pub use self::scheduler::{AddError, Choice, DEFAULT_WEIGHT, InUse, Scheduler, Settings, Why};
pub use self::unit::SlotId;
