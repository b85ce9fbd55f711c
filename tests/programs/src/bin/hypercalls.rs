//! Random hypercalls through privcmd: `hypercalls COUNT SEED [THREADS]`.
//!
//! Numbers, operations and arguments are random, mostly near what means something; structures that
//! they point to are random as well, lie across page borders, and end where memory ends.
//!
//! Left out is what ends the machine or this Linux by design: `sched_op` shutdown for a reason that a
//! control domain can have, and polls without an end; closing, resetting and moving the ports that
//! Linux opened for itself; registering a runstate, which the hypervisor would write into whichever
//! program is there later; output on the console. Frames of Linux's own RAM are not named.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use dom0_programs::device::PAGE_SIZE;
use dom0_programs::privcmd::Privcmd;
use xen_abi::event_channel::EventChannelOp;
use xen_abi::hypercall::Hypercall;
use xen_abi::sched::SchedOp;
use xen_abi::vcpu::VcpuOp;

fn main() -> Result<()> {
    let numbers: Vec<u64> = std::env::args()
        .skip(1)
        .map(|argument| argument.parse())
        .collect::<Result<_, _>>()
        .context("usage: hypercalls COUNT SEED [THREADS]")?;
    let (count, seed) = (numbers.first(), numbers.get(1));
    let (&count, &seed) = count
        .zip(seed)
        .context("usage: hypercalls COUNT SEED [THREADS]")?;
    let threads = numbers.get(2).copied().unwrap_or(1).max(1);
    let workers: Vec<_> = (0..threads)
        .map(|number| thread::spawn(move || work(count / threads, seed + number)))
        .collect();
    let mut accepted = 0;
    for worker in workers {
        accepted += worker.join().expect("it does not panic")?;
    }
    println!("HYPERCALLS: {count} calls, {accepted} of them accepted");
    Ok(())
}

/// Makes calls; returns how many were accepted.
fn work(count: u64, seed: u64) -> Result<u64> {
    let xen = Privcmd::open()?;
    let mut random = Random(seed | 1);
    let mut accepted = 0;
    for number in 0..count {
        if number % 64 == 0 {
            fill(&xen, &mut random);
        }
        let (hypercall, arguments) = random.call(&xen);
        if spared(&xen, hypercall, arguments) {
            continue;
        }
        accepted += u64::from(xen.call(hypercall, arguments).is_ok());
        if number % 4096 == 0 {
            let version = xen.call(Hypercall::XenVersion.number(), [0; 5])?;
            ensure!(
                version == 0x4_0014,
                "after {number} calls the version is {version:#x}"
            );
        }
    }
    Ok(accepted)
}

/// Whether a call is one by which a control domain ends the machine or harms itself.
fn spared(xen: &Privcmd, hypercall: u64, arguments: [u64; 5]) -> bool {
    let [operation, pointer, ..] = arguments;
    let word = |offset| read_word(xen, pointer, offset);
    match Hypercall::from_number(hypercall) {
        Some(Hypercall::SchedOp) => match SchedOp::from_number(operation) {
            Some(SchedOp::Shutdown) => word(0).is_some_and(ends_the_machine),
            // Waits until a moment that may never come.
            Some(SchedOp::Poll) => word(0).is_some(),
            _ => false,
        },
        Some(Hypercall::EventChannelOp) => match EventChannelOp::from_number(operation) {
            Some(EventChannelOp::Close | EventChannelOp::BindVcpu) => {
                word(0).is_some_and(|port| port < PORTS_OF_LINUX)
            }
            Some(EventChannelOp::Reset) => {
                word(0).is_some_and(|domain| matches!(domain & 0xffff, 0 | 0x7ff0))
            }
            _ => false,
        },
        // The hypervisor goes on writing there, whichever program is at the address by then.
        Some(Hypercall::VcpuOp) => {
            VcpuOp::from_number(operation) == Some(VcpuOp::RegisterRunstateMemoryArea)
        }
        // Noise on the console that the test reads.
        Some(Hypercall::ConsoleIo) => operation == 0,
        _ => false,
    }
}

/// Ports that Linux may have opened for itself.
const PORTS_OF_LINUX: u32 = 64;

/// Whether a domain that shuts down for a reason takes the machine with it: off, reset, crashed, or
/// stopped by its watchdog.
fn ends_the_machine(reason: u32) -> bool {
    matches!(reason, 0 | 1 | 3 | 4)
}

/// The number at an offset from where an argument points, if any of it can be read: a structure may
/// end with memory.
fn read_word(xen: &Privcmd, pointer: u64, offset: u64) -> Option<u32> {
    let start = pointer.checked_sub(xen.buffer().address())?;
    let start = usize::try_from(start.checked_add(offset)?).ok()?;
    let bytes = xen.buffer().read(start, 4);
    let number = bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u32::from(*byte));
    (!bytes.is_empty()).then_some(number)
}

/// Whether a call takes numbers of guest frames. Where its structures are aligned, each number is a
/// whole one of those that [`fill`] wrote, and none of them is a frame of RAM that Linux uses.
fn takes_frames(hypercall: u64) -> bool {
    matches!(
        Hypercall::from_number(hypercall),
        Some(Hypercall::MemoryOp | Hypercall::GrantTableOp | Hypercall::VcpuOp)
    )
}

/// Fills the buffer with numbers that structures may hold.
fn fill(xen: &Privcmd, random: &mut Random) {
    for place in (0..2 * PAGE_SIZE).step_by(8) {
        xen.buffer().write(place, &random.field(xen).to_le_bytes());
    }
}

/// Numbers that are the same for the same seed (Marsaglia's xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end
    }

    /// A hypercall and its arguments.
    fn call(&mut self, xen: &Privcmd) -> (u64, [u64; 5]) {
        let number = match self.below(8) {
            0 => self.next(),
            1 => self.below(64),
            _ => Hypercall::ALL[self.below(Hypercall::ALL.len() as u64) as usize].number(),
        };
        let operation = match self.below(16) {
            0 => self.next(),
            1 => self.below(1 << 12),
            _ => self.below(40),
        };
        let mut arguments = [operation, 0, 0, 0, 0];
        let alignment = if takes_frames(number) { 8 } else { 1 };
        for argument in &mut arguments[1..] {
            *argument = match self.below(4) {
                0 => self.next() | 1 << 62,
                1 => self.below(70),
                _ => self.pointer(xen) & !(alignment - 1),
            };
        }
        (number, arguments)
    }

    /// Somewhere in the buffer, often near its end.
    fn pointer(&mut self, xen: &Privcmd) -> u64 {
        let size = 2 * PAGE_SIZE as u64;
        let offset = match self.below(4) {
            0 => size - self.below(160),
            1 => PAGE_SIZE as u64 - self.below(64),
            _ => self.below(size) & !7,
        };
        xen.buffer().address() + offset
    }

    /// A word of a structure: numbers that are no frame of RAM, ids of domains, pointers.
    fn field(&mut self, xen: &Privcmd) -> u64 {
        match self.below(8) {
            0 => self.next() | 1 << 62,
            1 => self.pointer(xen),
            2 => 0x7ff0 | self.below(16),
            3 => self.below(16) << 32 | 0x7ff0,
            4 => self.below(1 << 16) << 48 | self.below(1 << 8),
            _ => self.below(1 << 10),
        }
    }
}
