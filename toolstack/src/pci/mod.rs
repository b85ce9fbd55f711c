//! PCI functions of the machine, and how they leave the control domain and come back to it.
//!
//! The hypervisor keeps the list of assignable functions; Linux has the drivers. A function leaves in
//! this order: its driver is remembered and unbound, then the hypervisor takes the function, then a
//! guest gets it. What fails undoes what came before.

mod address;
mod assign;
mod assignable;
mod coherence;
mod drivers;
#[cfg(test)]
pub(crate) mod fake;
mod remembered;
mod seized;
mod wanted;

pub use address::Sbdf;
pub use assign::{Given, Seizer, attach, give, take};
pub use assignable::{Added, AssignableError, Removed, add, remove};
pub use coherence::{CoherenceError, TREE, is_coherent};
pub use drivers::{Drivers, Sysfs};
pub use remembered::Remembered;
pub use seized::Seized;
pub use wanted::{AssignError, Wanted, check, choose};
