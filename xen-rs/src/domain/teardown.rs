//! The end of a domain: what it had goes back, a part at a time, in an order in which nothing that is
//! still there leads to what is gone.
//!
//! 1. Its vCPUs leave their CPUs for good.
//! 2. The machine's functions that it has go back to quarantine, and reach its memory no more.
//! 3. No device's message arrives for it any more.
//! 4. Its event channels are closed, so that nobody writes to its pages any more.
//! 5. What it has mapped of others' grants is given back.
//! 6. Its space is closed: nothing is mapped any more; then what is goes, block by block.
//!
//! Then nobody can name it any more, unless another domain has mapped a grant of its: it stays as one
//! that is dying until the last is given back. Frames that others have mapped are free when the last
//! of them lets go; what the hypervisor keeps for the domain goes with the last who knows it.

use xen_core::event::{self, Virq};
use xen_core::paging::Unreachable;
use xen_types::{Gpa, HpaRange};

use super::events::{self, All};
use super::grants::Memory;
use super::{Domain, schedule, table};
use crate::memory::frames;
use crate::pci;

/// Ports, mappings of grants, and blocks of memory in one go.
const PORTS: u32 = 64;
const MAPPINGS: usize = 32;
const BLOCKS: usize = 64;
/// Bytes of a block that are freed in one go.
const STEP: u64 = 2 << 20;

/// How far the destruction of a domain is.
#[derive(Debug, Default)]
pub struct Teardown {
    step: Step,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Vcpus,
    Devices,
    Messages,
    Ports,
    /// Handles below this are free.
    Mappings(u32),
    Space,
    Memory {
        /// Above this nothing has been looked at.
        from: Gpa,
        /// A block that is not in the space any more, and that is being freed.
        block: Option<Unreachable<HpaRange>>,
    },
    Done,
}

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The domain has nothing any more.
    Done,
    /// There is more to do, or another CPU is at it.
    Again,
}

/// Goes on with the destruction of a domain, which [`Domain::doom`] has begun.
pub fn go_on(domain: &Domain) -> Progress {
    let taken = domain.teardown.lock().take();
    let Some(mut teardown) = taken else {
        return Progress::Again;
    };
    teardown.step = perform(domain, core::mem::take(&mut teardown.step));
    let done = matches!(teardown.step, Step::Done);
    *domain.teardown.lock() = Some(teardown);
    if !done {
        return Progress::Again;
    }
    reap(domain);
    Progress::Done
}

/// Forgets a domain that has nothing any more, unless somebody has mapped a grant of its.
pub fn reap(domain: &Domain) {
    if is_empty(domain) && domain.grants.table.lock().is_idle() && table::remove(domain.id) {
        events::raise(Virq::DOM_EXC);
    }
}

/// Whether a destroyed domain has nothing any more.
fn is_empty(domain: &Domain) -> bool {
    let teardown = domain.teardown.lock();
    let done = |teardown: &Teardown| matches!(teardown.step, Step::Done);
    teardown.as_ref().is_some_and(done)
}

/// Does a part of a step. Returns where to go on.
fn perform(domain: &Domain, step: Step) -> Step {
    match step {
        Step::Vcpus => {
            if !domain.vcpus.iter().all(schedule::is_off_cpus) {
                return Step::Vcpus;
            }
            schedule::dismiss(domain);
            domain.ports.lock().retire();
            Step::Devices
        }
        Step::Devices => match pci::take_back_all(domain) {
            pci::Progress::Done(()) => Step::Messages,
            pci::Progress::Again => Step::Devices,
        },
        Step::Messages if domain.take_some_messages() => Step::Messages,
        Step::Messages => {
            domain.disconnect_vectors();
            Step::Ports
        }
        Step::Ports if event::close_some(&All, domain.id, PORTS) => Step::Ports,
        Step::Ports => Step::Mappings(0),
        Step::Mappings(from) => match give_back_some(domain, from) {
            Some(from) => Step::Mappings(from),
            None => Step::Space,
        },
        Step::Space => {
            domain.space.lock().close();
            let pending = domain.populating.lock().take();
            if let Some(pending) = pending {
                pending.cancel(domain);
            }
            Step::Memory {
                from: Gpa::new(0),
                block: None,
            }
        }
        Step::Memory { from, block } => free_some(domain, from, block),
        Step::Done => Step::Done,
    }
}

/// Gives back what the domain has mapped of others' grants, by handles from `from` on. Returns where
/// to go on if there may be more.
fn give_back_some(domain: &Domain, from: u32) -> Option<u32> {
    let mut from = from;
    for _ in 0..MAPPINGS {
        let begun = domain.grants.maptrack.lock().begin_unmap_any(from);
        let unmap = begun?;
        from = unmap.handle().get();
        let (gfn, mfn) = (unmap.gfn(), unmap.pin().mfn());
        // Where the domain has put something else there is nothing to take away; and no table is
        // needed to take a page away that a grant was mapped at. What may still be reached stays its
        // granter's for ever.
        let Ok(frame) = domain.space.lock().remove_granted(gfn, mfn) else {
            continue;
        };
        let granter = table::lookup(unmap.pin().granter());
        let mut maptrack = domain.grants.maptrack.lock();
        match granter {
            Some(granter) => {
                let mut table = granter.grants.table.lock();
                let entries = &granter.grants.entries;
                maptrack.commit_unmap(&mut table, entries, &Memory, unmap, frame);
                drop(table);
                drop(maptrack);
                reap(&granter);
            }
            // A domain that grants what is mapped is there until it is not.
            None => drop(unmap),
        }
    }
    Some(from)
}

fn free_some(domain: &Domain, from: Gpa, block: Option<Unreachable<HpaRange>>) -> Step {
    if let Some(block) = block {
        let rest = free_part(domain, block);
        return Step::Memory { from, block: rest };
    }
    let mut from = from;
    for _ in 0..BLOCKS {
        let taken = domain.space.lock().take_next(from);
        let Some((range, ram)) = taken else {
            return Step::Done;
        };
        from = range.end();
        if let Some(block) = ram {
            let large = block.held().size() >= STEP;
            let rest = free_part(domain, block);
            if rest.is_some() || large {
                return Step::Memory { from, block: rest };
            }
        }
    }
    Step::Memory { from, block: None }
}

/// Frees the first part of a block; returns the rest.
fn free_part(domain: &Domain, block: Unreachable<HpaRange>) -> Option<Unreachable<HpaRange>> {
    let (part, rest) = block.split_at(STEP);
    frames::give_up(part, domain.id);
    rest
}

impl Drop for Domain {
    fn drop(&mut self) {
        // Made ready by a CPU that did not know yet that the domain is gone.
        let pending = self.populating.lock().take();
        if let Some(pending) = pending {
            pending.cancel(self);
        }
    }
}
