//! Instructions made at run time: for encodings that no assembler takes.

use core::cell::UnsafeCell;

use crate::mmu;

/// Instructions that one [`Code::run_all`] takes.
pub const CAPACITY: usize = 256;
/// `ret`
const RET: u32 = 0xd65f_03c0;
/// Words of an instruction's place: it, and returns for an exception handler that skips a word,
/// whether or not the exception's return address is already behind the instruction.
const PLACE: usize = 4;

#[repr(C, align(64))]
struct Buffer(UnsafeCell<[u32; CAPACITY * PLACE]>);

// SAFETY: only `Code` reaches it, which the guest makes once, on its first CPU.
unsafe impl Sync for Buffer {}

static BUFFER: Buffer = Buffer(UnsafeCell::new([RET; CAPACITY * PLACE]));

/// A list of instructions, each of which may use x0 to x3 as it likes.
#[derive(Default)]
pub struct Code {
    used: usize,
}

impl Code {
    /// Adds an instruction; true if the list is full now.
    pub fn push(&mut self, instruction: u32) -> bool {
        // SAFETY: `used` is below the capacity, and nobody runs the code meanwhile.
        unsafe {
            (*BUFFER.0.get())[self.used * PLACE] = instruction;
        }
        self.used += 1;
        self.used == CAPACITY
    }

    /// Runs the instructions in order, each with the registers that `arguments` gives, and empties
    /// the list. Returns how many there were.
    pub fn run_all(&mut self, mut arguments: impl FnMut() -> [u64; 4]) -> u64 {
        let start = BUFFER.0.get() as u64;
        let place = (PLACE * size_of::<u32>()) as u64;
        mmu::publish_code(start, self.used as u64 * place);
        for number in 0..self.used as u64 {
            let [x0, x1, x2, x3] = arguments();
            let address = start + number * place;
            // SAFETY: the place holds an instruction and `ret`; whoever pushed the instruction
            // vouches for what it does, and the exception handler survives the rest.
            let call = unsafe {
                core::mem::transmute::<u64, extern "C" fn(u64, u64, u64, u64) -> u64>(address)
            };
            call(x0, x1, x2, x3);
        }
        core::mem::take(&mut self.used) as u64
    }
}
