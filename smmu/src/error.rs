//! What can go wrong between a driver and its IOMMU.

use crate::{Stage2Refused, StreamId};

/// Why an IOMMU did not do what it was asked for.
///
/// After [`IommuError::TimedOut`], [`IommuError::Refused`] and [`IommuError::Nonsense`] nobody knows
/// what the IOMMU still remembers: nothing that it could reach may be freed, and a device that was
/// to be detached counts as able to reach what it could reach before. The operation can be tried
/// again; [`crate::Iommu::fence`] is the last resort.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IommuError {
    /// The stream id is beyond what the IOMMU or its stream table tells apart.
    #[error("{stream}: this IOMMU tells only {bits} bits of stream ids apart")]
    UnknownStream {
        /// The stream.
        stream: StreamId,
        /// Bits of its table.
        bits: u32,
    },
    /// It cannot walk the domain's tables.
    #[error(transparent)]
    Stage2(#[from] Stage2Refused),
    /// There is no memory for a table or a queue.
    #[error("no memory for {bytes} bytes of {what}")]
    NoMemory {
        /// What for.
        what: &'static str,
        /// How much.
        bytes: u64,
    },
    /// It did not answer in time.
    #[error("{0} did not complete in time")]
    TimedOut(&'static str),
    /// It did not carry out a command.
    #[error("the IOMMU refused command {opcode:#x}: {reason}")]
    Refused {
        /// The command's code.
        opcode: u8,
        /// What it gave as the reason.
        reason: &'static str,
    },
    /// A register holds what it cannot hold, as where the device is gone.
    #[error("{register} reads {value:#x}, which is none of its values")]
    Nonsense {
        /// The register.
        register: &'static str,
        /// What it reads.
        value: u32,
    },
    /// It was fenced: every device behind it is stopped.
    #[error("the IOMMU was fenced off after an error; nothing behind it reaches memory")]
    Fenced,
}
