//! The command queue (IHI 0070, 3.5, chapter 4, 7.1). What commands are to forget is forgotten when
//! the CMD_SYNC after them is carried out, and not a moment before.

use std::{format, mem};

use super::super::memory::Memory;
use super::{CMDQ_ERR, CMDQEN, Pace, SmmuV3};
use crate::StreamId;

/// `CMDQ_CONS.ERR`.
const ILLEGAL: u32 = 1;
const ABORT: u32 = 2;

impl SmmuV3 {
    pub(super) fn consume_at_once(&mut self, memory: &mut Memory) {
        if self.pace == Pace::Immediate {
            self.consume(memory, u32::MAX);
        }
    }

    /// Carries out at most `count` commands.
    pub(super) fn consume(&mut self, memory: &mut Memory, count: u32) {
        for _ in 0..count {
            let stopped = (self.gerror ^ self.gerrorn) & CMDQ_ERR != 0;
            if self.cr0_ack & CMDQEN == 0 || stopped || self.commands.is_empty() {
                return;
            }
            if let Err(error) = self.consume_one(memory) {
                self.command_error = error;
                self.gerror ^= CMDQ_ERR;
                return;
            }
            self.commands.consumer = self.commands.consumer.wrapping_add(1) & self.commands.mask();
        }
    }

    fn consume_one(&mut self, memory: &mut Memory) -> Result<(), u32> {
        if let Some(left) = self.failing_fetches.checked_sub(1) {
            self.failing_fetches = left;
            return Err(ABORT);
        }
        let entry = self.commands.entry(self.commands.consumer, 16);
        let second = xen_types::Hpa::new(entry.get() + 8);
        let read = |at| memory.device_read(at).ok_or(ABORT);
        let command = [read(entry)?, read(second)?];
        self.check(command)?;
        match command[0] as u8 {
            0x46 => {
                for begun in mem::take(&mut self.begun) {
                    self.complete(memory, begun);
                }
            }
            0x44 => {
                let (stream, tag) = ((command[0] >> 32) as u32, command[1] as u16);
                self.waiting.retain(|waiting| *waiting != (stream, tag));
            }
            _ => self.begun.push(command),
        }
        self.done.push(command[0] as u8);
        Ok(())
    }

    fn check(&mut self, [first, second]: [u64; 2]) -> Result<(), u32> {
        let hypervisor = self.ids.0[0] >> 9 & 1 == 1;
        let range = (first >> 12 & 0x1f, first >> 20 & 0x1f, second >> 8 & 0b1111);
        let legal = match first as u8 {
            0x03 | 0x28 | 0x30 | 0x44 => true,
            0x04 => second & 0x1f == 31,
            0x20 => hypervisor,
            // No granule, no range; with the granule of 4 KiB, not a range of one page without a hint.
            0x2a => match range {
                (0, 0, 0) => true,
                (num, scale, 0b0100) => self.ids.has_ranges() && (num, scale) != (0, 0),
                _ => false,
            },
            // CS: none.
            0x46 => first >> 12 & 0b11 == 0,
            _ => false,
        };
        if !legal {
            self.violation(&format!("illegal command {first:#x}, {second:#x}"));
            return Err(ILLEGAL);
        }
        Ok(())
    }

    fn complete(&mut self, memory: &Memory, [first, second]: [u64; 2]) {
        let (high, leaf) = ((first >> 32) as u32, second & 1 == 1);
        let shape = self.shape();
        match first as u8 {
            0x03 => {
                self.configurations
                    .forget(memory, &shape, StreamId::new(high), leaf);
            }
            0x04 => self.configurations.forget_all(),
            0x28 => self.translations.forget_domain(high as u16),
            0x2a => {
                let pages = if second >> 10 & 0b11 == 0 {
                    1
                } else {
                    ((first >> 12 & 0x1f) + 1) << (first >> 20 & 0x1f)
                };
                let address = second & 0x000f_ffff_ffff_f000;
                self.translations
                    .forget_range(high as u16, address, pages << 12, leaf);
            }
            0x30 => self.translations.forget_all(),
            _ => {}
        }
    }
}
