//! Numbers and pointers, some of which make sense.

use core::ptr;

use guests::machine::Machine;
use guests::mmu;
use guests::random::Random;
use xen_abi::DomId;
use xen_abi::hypercall::Hypercall;

use super::scratch::{self, PAGE, PAGES};

/// Makes arguments.
pub struct Values {
    scratch: u64,
}

impl Values {
    pub fn new(machine: &Machine) -> Self {
        Self {
            scratch: scratch::start(machine),
        }
    }

    /// Puts memory where calls have taken it away.
    pub fn refill(&self) {
        scratch::refill(self.scratch);
    }

    /// A number of any kind.
    pub fn number(&self, random: &mut Random) -> u64 {
        loop {
            let number = match random.below(12) {
                0..=2 => random.below(64),
                3 => 0,
                4 => 1 << random.below(64),
                5 => (1_u64 << random.below(64)).wrapping_sub(random.below(3)),
                6 => domain(random),
                // Two fields of a structure.
                7 => domain(random) | random.below(16) << 32,
                8 => self.scratch / PAGE + random.below(PAGES),
                9 => u64::MAX - random.below(64),
                10 => random.next() & 0xffff_ffff,
                _ => random.next(),
            };
            if is_harmless(number) {
                return number;
            }
        }
    }

    /// A pointer: good, not aligned, across pages, to where nothing or a device is, or none at all.
    pub fn pointer(&self, random: &mut Random) -> u64 {
        match random.below(12) {
            0..=4 => self.good_pointer(random),
            5 => self.scratch + random.below((PAGES - 1) * PAGE),
            6 => self.scratch + (1 + random.below(PAGES - 2)) * PAGE - random.below(16),
            7 => self.scratch + PAGES * PAGE - random.below(64),
            8 => self.bad_pointer(random),
            9 => random.next() | 1 << 56,
            10 => random.below(8),
            // Below RAM: devices, if anything.
            _ => random.below(1 << 30),
        }
    }

    /// An aligned pointer to scratch memory where some numbers were just written.
    fn good_pointer(&self, random: &mut Random) -> u64 {
        // A page is left behind for what a call writes.
        let first = random.below((PAGES - 1) * PAGE / 8);
        let start = self.scratch + first * 8;
        for word in 0..8 {
            // SAFETY: scratch memory; if a call has taken the page away, the abort skips the store.
            unsafe { ptr::write_volatile((start + word * 8) as *mut u64, self.number(random)) }
        }
        start
    }

    /// A pointer that stage 1 does not translate.
    pub fn bad_pointer(&self, random: &mut Random) -> u64 {
        mmu::UNMAPPED + random.below(mmu::UNMAPPED)
    }

    /// A number or a pointer.
    pub fn any(&self, random: &mut Random) -> u64 {
        match random.below(3) {
            0 => random.below(4),
            1 => self.number(random),
            _ => self.pointer(random),
        }
    }
}

/// The id of a domain: this one's, DOMID_SELF, those reserved for other meanings, or none.
fn domain(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => 0,
        1 => DomId::SELF.get().into(),
        2 => 0x7ff0 + random.below(16),
        _ => random.below(1 << 16),
    }
}

/// Whether the hypervisor may take the number as an address to write to, as a frame to take away, or
/// as a call inside a multicall without a legitimate end of this guest: its own memory is not for
/// that, and `sched_op` can end the machine.
fn is_harmless(number: u64) -> bool {
    let own = mmu::image();
    let is_own = |address: u64| own.contains(&address);
    let frame = number.checked_mul(PAGE);
    !is_own(number)
        && !frame.is_some_and(is_own)
        && number as u32 != Hypercall::SchedOp.number() as u32
}
