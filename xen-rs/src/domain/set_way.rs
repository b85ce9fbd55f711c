//! Maintenance of caches by set and way, which guests do before they turn their caches off.
//!
//! By set and way a CPU reaches its own caches only, and those of every owner: with stage 2 and vCPUs
//! that move, the instruction cannot do what the guest means. What it means is that its memory shall
//! hold what its caches do; so the guest's RAM is cleaned by address, in steps between which the
//! vCPU can be interrupted.

use xen_core::paging::stage2::Attributes;
use xen_types::{Gpa, GpaRange, HpaRange, PAGE_SIZE};

use super::run::Running;
use crate::arch::cache;

/// Bytes of a step.
const STEP: u64 = 1 << 20;

/// Cleans and invalidates the next part of the domain's RAM. Returns whether nothing was left.
pub fn clean_some(running: &mut Running<'_>) -> bool {
    let Some(part) = part_at(&running.domain.ram, *running.cleaned) else {
        *running.cleaned = 0;
        return true;
    };
    let space = running.domain.space.lock();
    let pages = (part.start().get()..part.start().get() + part.size()).step_by(PAGE_SIZE as usize);
    for page in pages {
        let frame = space.lookup(Gpa::new(page).frame());
        let ram = frame.filter(|(_, attributes)| *attributes == Attributes::Ram);
        let start = ram.and_then(|(frame, _)| frame.address());
        if let Some(range) = start.and_then(|start| HpaRange::new(start, PAGE_SIZE)) {
            cache::clean_and_invalidate(range);
        }
    }
    *running.cleaned += part.size();
    false
}

/// The step that starts `done` bytes into the banks.
fn part_at(banks: &[GpaRange], done: u64) -> Option<GpaRange> {
    let mut before = done;
    for bank in banks {
        if before < bank.size() {
            let rest = bank.size() - before;
            return GpaRange::new(bank.start().checked_add(before)?, rest.min(STEP));
        }
        before -= bank.size();
    }
    None
}
