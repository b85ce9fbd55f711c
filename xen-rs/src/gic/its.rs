//! Interrupt translation services: found and described; commands come with message interrupts.

use log::{info, warn};
use platform_dt::Its;

use crate::memory::device;

const GITS_TYPER: usize = 0x0008;
const GITS_PIDR2: usize = 0xffe8;

/// Logs each ITS with the width of the ids that it translates (IHI 0069, 12.19.7).
pub fn report(nodes: &[Its]) {
    for node in nodes {
        match device::map(node.registers) {
            Ok(registers) if matches!((registers.read32(GITS_PIDR2) >> 4) & 0xf, 3 | 4) => {
                let typer = registers.read64(GITS_TYPER);
                info!(
                    "its: {} at {}, {}-bit device ids, {}-bit event ids",
                    node.path,
                    node.registers.start(),
                    ((typer >> 13) & 0x1f) + 1,
                    ((typer >> 8) & 0x1f) + 1,
                );
            }
            Ok(_) => warn!("its: {}: there is no ITS at its address", node.path),
            Err(error) => warn!("its: {}: {error}", node.path),
        }
    }
}
