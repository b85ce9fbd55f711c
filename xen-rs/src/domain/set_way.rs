//! Maintenance of caches by set and way, which guests do before they turn their caches off.
//!
//! By set and way a CPU reaches its own caches only, and those of every owner: with stage 2 and vCPUs
//! that move, the instruction cannot do what the guest means. What it means is that its memory shall
//! hold what its caches do; so the guest's RAM is cleaned by address, in steps between which the
//! vCPU can be interrupted.

use xen_types::{Gpa, HpaRange};

use super::run::Running;
use crate::arch::cache;

/// Bytes of a step at most.
const STEP: u64 = 1 << 20;
/// Blocks and pages of a step at most.
const BLOCKS: usize = 256;

/// Cleans and invalidates the next part of the domain's RAM. Returns whether nothing was left.
pub fn clean_some(running: &mut Running<'_>) -> bool {
    let space = running.domain.space.lock();
    let mut left = STEP;
    for _ in 0..BLOCKS {
        let from = Gpa::new(*running.cleaned);
        let Some(leaf) = space.next_ram(from) else {
            *running.cleaned = 0;
            return true;
        };
        let start = leaf.input.max(from.get());
        let size = (leaf.input + leaf.size - start).min(left);
        let output = leaf.output.checked_add(start - leaf.input);
        if let Some(range) = output.and_then(|output| HpaRange::new(output, size)) {
            cache::clean_and_invalidate(range);
        }
        *running.cleaned = start + size;
        left -= size;
        if left == 0 {
            break;
        }
    }
    false
}
