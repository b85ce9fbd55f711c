//! Why an operation on grants fails.

use xen_abi::DomId;
use xen_abi::grant_table::GrantStatus;
use xen_types::Gfn;

/// Why an operation on grants fails. Nothing has changed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GrantError {
    /// The flags ask for no mapping that the CPU can use.
    #[error("mapping flags {0:#x} ask for nothing: set GNTMAP_host_map")]
    NothingToMap(u32),
    /// The flags ask for a mapping of a kind that is not on Arm.
    #[error("mapping flags {0:#x} ask for a kind of mapping that does not exist here")]
    UnsupportedFlags(u32),
    /// Not the address of a page.
    #[error("{0:#x} is not the address of a page")]
    BadAddress(u64),
    /// All handles are in use.
    #[error("no handle is left for another mapping")]
    NoHandle,
    /// The reference is outside the table.
    #[error("there is no grant reference {0}")]
    NoReference(u32),
    /// The entry does not grant access to this domain.
    #[error("grant reference {reference} does not grant access to {grantee}")]
    NotGranted {
        /// Which.
        reference: u32,
        /// Who wanted access.
        grantee: DomId,
    },
    /// The entry grants reading only.
    #[error("grant reference {0} is for reading only")]
    ReadOnly(u32),
    /// The granting domain changes the entry all the time.
    #[error("the entry of grant reference {0} does not hold still")]
    Unstable(u32),
    /// The entry is in use as often as can be counted.
    #[error("grant reference {0} is in use too often")]
    TooOften(u32),
    /// The granted frame is not memory that can be shared.
    #[error("guest frame {0} is not RAM of the granting domain, or not writable")]
    NotMemory(Gfn),
    /// No mapping has this handle.
    #[error("there is no mapping with handle {0}")]
    NoMapping(u32),
    /// The mapping is not at this address.
    #[error("mapping {handle} is not at {address:#x}")]
    NotThere {
        /// Which mapping.
        handle: u32,
        /// Where it was said to be.
        address: u64,
    },
    /// A copy would leave its page.
    #[error("{len} bytes from offset {offset} are not in one page")]
    OutOfPage {
        /// First byte.
        offset: u16,
        /// How many.
        len: u16,
    },
    /// A copy names a frame, not a reference, of another domain.
    #[error("frames of {0} can be named by grant reference only")]
    FrameOfOther(DomId),
    /// The table has as many frames as the domain may have.
    #[error("the grant table may not have more than {0} frames")]
    TooManyFrames(u32),
    /// No memory for it.
    #[error("no memory for more grants")]
    NoMemory,
}

impl GrantError {
    /// What the guest is told of this one operation.
    pub const fn status(self) -> GrantStatus {
        match self {
            Self::NothingToMap(_) | Self::NoReference(_) => GrantStatus::BadGrantRef,
            Self::BadAddress(_) | Self::NotThere { .. } => GrantStatus::BadVirtAddr,
            Self::NoHandle | Self::NoMemory => GrantStatus::NoSpace,
            Self::NotMemory(_) => GrantStatus::BadPage,
            Self::NoMapping(_) => GrantStatus::BadHandle,
            Self::OutOfPage { .. } => GrantStatus::BadCopyArg,
            Self::FrameOfOther(_) => GrantStatus::PermissionDenied,
            Self::UnsupportedFlags(_)
            | Self::NotGranted { .. }
            | Self::ReadOnly(_)
            | Self::Unstable(_)
            | Self::TooOften(_)
            | Self::TooManyFrames(_) => GrantStatus::GeneralError,
        }
    }
}
