//! Call chains from frame records (AAPCS64 6.4.6), with the names that the build appended.

use core::fmt;

use xen_core::symbols::SymbolTable;

use super::percpu;
use crate::image;
use crate::memory::ram;

/// The most callers that are followed.
const DEPTH: usize = 32;

/// A code address that prints as `function+offset`.
pub struct CodeAddress(pub u64);

impl fmt::Display for CodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)?;
        let offset = self
            .0
            .checked_sub(image::start().get())
            .and_then(|offset| u32::try_from(offset).ok());
        match offset.and_then(|offset| symbols()?.lookup(offset)) {
            Some(symbol) => write!(f, " {}+{:#x}", symbol.name, symbol.offset),
            None => Ok(()),
        }
    }
}

fn symbols() -> Option<SymbolTable<'static>> {
    SymbolTable::parse(ram::read_only(image::symbol_table()?)).ok()
}

/// The return addresses above the frame record at `frame_pointer`, nearest first. Only records on
/// this CPU's stacks are read, so a broken chain ends and does not fault.
pub fn callers(frame_pointer: u64) -> impl Iterator<Item = CodeAddress> {
    let mut record = frame_pointer;
    core::iter::from_fn(move || {
        let on_stack = percpu::try_this().is_some_and(|cpu| cpu.holds_frame_record(record));
        if !on_stack || !record.is_multiple_of(16) {
            return None;
        }
        // SAFETY: 16 bytes at an aligned address inside a stack of this CPU, which is mapped for
        // as long as the CPU runs; any bit pattern is a valid pair of integers.
        let [next, return_address] = unsafe { core::ptr::read(record as *const [u64; 2]) };
        let older = next > record;
        record = if older { next } else { 0 };
        (return_address != 0).then_some(CodeAddress(return_address))
    })
    .take(DEPTH)
}
