//! PCI functions of the machine, and how they leave the control domain and come back to it.
//!
//! The hypervisor keeps the list of assignable functions; Linux has the drivers. A function leaves in
//! this order: its driver is remembered and unbound, then the hypervisor takes the function. What
//! fails undoes what came before.

mod address;
mod assignable;
mod drivers;
mod remembered;

pub use address::Sbdf;
pub use assignable::{Added, AssignableError, Removed, add, remove};
pub use drivers::{Drivers, Sysfs};
pub use remembered::Remembered;
