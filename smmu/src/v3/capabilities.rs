//! What an SMMUv3 can do, read once from its id registers (IHI 0070, 6.3, SMMU_IDR0 to SMMU_IDR5).

use super::registers::{IDR0, IDR1, IDR3, IDR5};
use crate::{IommuError, Registers, Stage2, Stage2Refused};

/// What becomes of a transaction that faults (IDR0.STALL_MODEL).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StallModel {
    /// It can be ended or stalled.
    Either,
    /// It is ended.
    Terminate,
    /// It is stalled until software ends it.
    Stall,
}

/// What an SMMUv3 that isolates can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// Bits of a stream id, 0 to 32 (IDR1.SIDSIZE).
    pub stream_bits: u32,
    /// Bits of a physical address, 32 to 48 (IDR5.OAS); so many has an IPA at most (3.4).
    pub output_bits: u32,
    /// Bits of a VMID, 8 or 16 (IDR0.VMID16).
    pub vmid_bits: u32,
    /// Whether stream tables may have two levels (IDR0.ST_LEVEL).
    pub two_levels: bool,
    /// Whether tables and queues may lie in cacheable memory (IDR0.COHACC).
    pub coherent: bool,
    /// Whether it can listen to TLB invalidations of CPUs, which this driver forbids (IDR0.BTM).
    pub broadcast: bool,
    /// Whether a command can invalidate a range (IDR3.RIL).
    pub ranges: bool,
    /// What becomes of transactions that fault.
    pub stalls: StallModel,
    /// Whether it can signal by messages, too (IDR0.MSI).
    pub messages: bool,
    /// Whether it has translations of EL2 to forget (IDR0.HYP).
    pub hypervisor: bool,
    /// Whether a stream table entry can override shareability (IDR1.ATTR_TYPES_OVR).
    pub overrides: bool,
    /// log2 of the most commands that its queue can have (IDR1.CMDQS).
    pub command_bits: u32,
    /// log2 of the most events that its queue can have (IDR1.EVENTQS).
    pub event_bits: u32,
}

/// Why an SMMUv3 is of no use for isolation. The machine is then as one without an SMMU.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoIsolation {
    /// No stage 2.
    #[error("it has no stage 2 (IDR0.S2P is 0)")]
    NoStage2,
    /// No tables in the format of AArch64.
    #[error("it does not read page tables of AArch64 (IDR0.TTF is {0})")]
    TableFormat(u32),
    /// No tables in little-endian order.
    #[error("it reads big-endian page tables only (IDR0.TTENDIAN is 3)")]
    BigEndian,
    /// No pages of 4 KiB.
    #[error("it has no 4 KiB granule (IDR5.GRAN4K is 0)")]
    NoGranule,
    /// An address size that is not in the book.
    #[error("its address size is unknown (IDR5.OAS is {0})")]
    AddressSize(u32),
    /// Tables or queues where it wants them.
    #[error("its tables or queues have fixed addresses (IDR1 is {0:#x})")]
    Preset(u32),
}

const fn bits(value: u32, high: u32, low: u32) -> u32 {
    value >> low & ((2 << (high - low)) - 1)
}

const fn bit(value: u32, number: u32) -> bool {
    value >> number & 1 != 0
}

impl Capabilities {
    /// Reads them.
    ///
    /// # Errors
    /// Why this SMMU cannot isolate.
    pub fn read(registers: &impl Registers) -> Result<Self, NoIsolation> {
        let [idr0, idr1, idr3, idr5] = [IDR0, IDR1, IDR3, IDR5].map(|idr| registers.read32(idr));
        refuse_formats(idr0, idr1, idr5)?;
        Ok(Self {
            stream_bits: bits(idr1, 5, 0).min(32),
            output_bits: output_bits(bits(idr5, 2, 0))?,
            vmid_bits: if bit(idr0, 18) { 16 } else { 8 },
            two_levels: bits(idr0, 28, 27) == 1,
            coherent: bit(idr0, 4),
            broadcast: bit(idr0, 5),
            ranges: bit(idr3, 10),
            stalls: match bits(idr0, 25, 24) {
                0b00 => StallModel::Either,
                0b10 => StallModel::Stall,
                _ => StallModel::Terminate,
            },
            messages: bit(idr0, 13),
            hypervisor: bit(idr0, 9),
            overrides: bit(idr1, 27),
            // 19 is the most that the architecture has.
            command_bits: bits(idr1, 25, 21).min(19),
            event_bits: bits(idr1, 20, 16).min(19),
        })
    }

    /// Whether the SMMU can walk this stage 2, as far as its own addresses go. A stream table entry
    /// with one that it cannot walk is ILLEGAL (5.2, S2T0SZ, S2SL0 and S2TTB).
    ///
    /// # Errors
    /// Why not.
    pub fn accept(&self, stage2: Stage2) -> Result<(), IommuError> {
        let (limit, root, walk) = (self.output_bits, stage2.root(), stage2.walk());
        if root.get() >> limit != 0 {
            return Err(Stage2Refused::Address { root, limit }.into());
        }
        // As for CPUs, a walk from level 0 needs 44 bits (Arm ARM D8.2.2, 4 KiB granule).
        if walk.start_level() == 0 && limit.min(walk.output_bits()) < 44 {
            return Err(Stage2Refused::StartLevel { limit }.into());
        }
        if !stage2.vmid().fits(self.vmid_bits) {
            return Err(Stage2Refused::Vmid(stage2.vmid()).into());
        }
        Ok(())
    }
}

fn refuse_formats(idr0: u32, idr1: u32, idr5: u32) -> Result<(), NoIsolation> {
    let (format, preset) = (bits(idr0, 3, 2), bits(idr1, 30, 29));
    match () {
        () if !bit(idr0, 0) => Err(NoIsolation::NoStage2),
        () if format & 0b10 == 0 => Err(NoIsolation::TableFormat(format)),
        () if bits(idr0, 22, 21) == 0b11 => Err(NoIsolation::BigEndian),
        () if !bit(idr5, 4) => Err(NoIsolation::NoGranule),
        () if preset != 0 => Err(NoIsolation::Preset(idr1)),
        () => Ok(()),
    }
}

/// Of the sizes with 52 bits and above, only 48 can be used with the 4 KiB granule.
fn output_bits(code: u32) -> Result<u32, NoIsolation> {
    Ok(match code {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        5..=6 => 48,
        _ => return Err(NoIsolation::AddressSize(code)),
    })
}

#[cfg(test)]
pub(crate) mod tests;
