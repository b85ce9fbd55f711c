//! Numbers and pointers, some of which make sense.

use core::cell::UnsafeCell;

use guests::machine::Machine;
use guests::mmu;
use guests::random::Random;
use xen_abi::hypercall::Hypercall;

const PAGE: u64 = 4096;
const PAGES: u64 = 16;

/// Memory that calls may read and write, and frames that they may give away.
#[repr(C, align(4096))]
struct Scratch(UnsafeCell<[u64; (PAGES * PAGE / 8) as usize]>);

// SAFETY: only `Values` writes it, from one CPU; what the hypervisor writes there meanwhile is of no
// account.
unsafe impl Sync for Scratch {}

static SCRATCH: Scratch = Scratch(UnsafeCell::new([0; (PAGES * PAGE / 8) as usize]));

/// Where the scratch memory starts.
fn scratch() -> u64 {
    SCRATCH.0.get() as u64
}

/// Makes arguments.
pub struct Values {
    ram_end: u64,
}

impl Values {
    pub fn new(machine: &Machine) -> Self {
        Self {
            ram_end: machine.ram_end,
        }
    }

    /// A number of any kind.
    pub fn number(&self, random: &mut Random) -> u64 {
        loop {
            let number = match random.below(10) {
                0..=2 => random.below(64),
                3 => 1 << random.below(64),
                4 => (1_u64 << random.below(64)).wrapping_sub(random.below(3)),
                // DOMID_SELF and its neighbours.
                5 => 0x7ff0 + random.below(16),
                6 => scratch() / PAGE + random.below(PAGES),
                7 => u64::MAX - random.below(64),
                8 => random.next() & 0xffff_ffff,
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
            5 => scratch() + random.below((PAGES - 1) * PAGE),
            6 => scratch() + (1 + random.below(PAGES - 2)) * PAGE - random.below(16),
            7 => self.ram_end - random.below(64),
            8 => self.bad_pointer(random),
            9 => random.next() | 1 << 56,
            10 => random.below(8),
            // Below RAM: devices, if anything.
            _ => random.below(1 << 30),
        }
    }

    /// An aligned pointer to scratch memory where some numbers were just written.
    fn good_pointer(&self, random: &mut Random) -> u64 {
        let words = PAGES * PAGE / 8;
        let first = random.below(words - 512);
        for word in first..first + 8 {
            let number = self.number(random);
            // SAFETY: within the scratch memory, which is ours.
            unsafe {
                (SCRATCH.0.get() as *mut u64)
                    .add(word as usize)
                    .write(number)
            };
        }
        scratch() + first * 8
    }

    /// A pointer that stage 1 does not translate.
    pub fn bad_pointer(&self, random: &mut Random) -> u64 {
        mmu::UNMAPPED + random.below(mmu::UNMAPPED)
    }

    /// A number or a pointer.
    pub fn any(&self, random: &mut Random) -> u64 {
        if random.once_in(2) {
            self.number(random)
        } else {
            self.pointer(random)
        }
    }
}

/// Whether the hypervisor may take the number as an address to write to, as a frame to take away, or
/// as a call inside a multicall without a legitimate end of this guest: its own memory is not for
/// that, and `sched_op` can end the machine.
fn is_harmless(number: u64) -> bool {
    let own = mmu::image();
    let scratch = scratch()..scratch() + PAGES * PAGE;
    let is_own = |address: u64| own.contains(&address) && !scratch.contains(&address);
    let frame = number.checked_mul(PAGE);
    !is_own(number)
        && !frame.is_some_and(is_own)
        && number as u32 != Hypercall::SchedOp.number() as u32
}
