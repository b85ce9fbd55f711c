//! Dom0's device tree, made from the host's, and what of the host Dom0 therefore gets.
//!
//! Dom0 sees the host's tree without what the hypervisor keeps for itself, with an interrupt
//! controller, a timer, processors, memory and power calls that the hypervisor provides, and with
//! the `hypervisor` node by which Linux finds Xen (devicetree binding arm/xen.txt). What is kept,
//! dropped, replaced and added follows Xen 4.20 (xen/arch/arm/domain_build.c).
//!
//! Stricter than Xen in one thing: a page that holds registers of something that is not Dom0's is
//! never among [`Dom0Resources::mmio`]. A device that needs registers in such a page, an interrupt
//! of such a thing, or memory that nobody may map, is disabled in Dom0's tree and told in
//! [`Dom0Resources::withheld`].

mod cells;
mod check;
mod claims;
mod error;
mod extended;
mod fate;
mod index;
mod interrupts;
mod made;
mod owned;
mod plan;
mod ranges;
mod references;
mod registers;
mod reserved;
mod write;

use alloc::vec::Vec;

use self::claims::claim;
pub use self::claims::{Conflict, Dom0Resources, Withheld};
pub use self::error::Dom0Error;
use self::fate::Fates;
use self::index::Index;
use self::made::Made;
pub(crate) use self::made::{LEVEL_LOW, psci, set, virtual_affinity};
use self::owned::Owned;
pub use self::plan::{Dom0Plan, GuestGic, GuestIts, GuestV2m, HypervisorNode};
pub use self::references::{Master, MasterIds};
use self::reserved::ReservedMemory;
use self::write::{reserved_ram, write};
use crate::{Host, HostTree};

/// Makes Dom0's tree and lists what Dom0 must be given for it. `host` must have been read from
/// `tree`.
///
/// # Errors
///
/// When a path in the plan names no node, when the plan contradicts itself or the host, or when a
/// number does not fit in the cells that the host's tree has for it.
pub fn build(
    tree: &HostTree,
    host: &Host,
    plan: &Dom0Plan<'_>,
) -> Result<(Vec<u8>, Dom0Resources), Dom0Error> {
    check::plan(host, plan)?;
    let dtb = tree.dtb();
    let index = Index::new(dtb.root());
    let mut fates = Fates::new(&dtb, &index, host, plan)?;
    let reserved = ReservedMemory::read(&index)?;
    let owned = Owned::collect(&index, &fates, &reserved, plan)?;
    let resources = claim(&index, &mut fates, &owned, &reserved, plan);
    check::no_collision(&resources, plan)?;
    let regions = extended::regions(&index, &owned, plan);
    let made = Made::new(&index, &fates, host, plan, regions)?;
    let memory = reserved_ram(&resources, &owned);
    let blob = write(&index, &fates, &made, &memory)?;
    Ok((blob, resources))
}

#[cfg(test)]
mod tests;
