//! Why an operation on event channels fails.

use xen_abi::{DomId, Errno};

/// Why an operation on event channels fails. Nothing has changed then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum EventError {
    /// No such domain.
    #[error("there is no domain {0}")]
    NoDomain(DomId),
    /// Only a privileged domain may touch another's ports.
    #[error("{caller} may not change or see the ports of {target}")]
    NotPermitted {
        /// Who asked.
        caller: DomId,
        /// For whose ports.
        target: DomId,
    },
    /// The port is out of range, was never used, or is closed.
    #[error("port {0} is not open")]
    NotOpen(u32),
    /// The port is not unbound, or for another domain.
    #[error("port {port} of {domain} does not wait for {caller}")]
    NotOffered {
        /// Whose port.
        domain: DomId,
        /// Which.
        port: u32,
        /// Who wanted to bind to it.
        caller: DomId,
    },
    /// The port cannot be used like that: a virtual interrupt cannot be sent, a port between
    /// vCPUs keeps its vCPU.
    #[error("port {0} is of a kind for which this is not possible")]
    WrongKind(u32),
    /// The domain has no such vCPU.
    #[error("there is no vCPU {0}")]
    NoVcpu(u32),
    /// There is no virtual interrupt of that number.
    #[error("there is no virtual interrupt {0}")]
    NoVirq(u32),
    /// A virtual interrupt of the whole domain is bound on vCPU 0.
    #[error("virtual interrupt {0} is not of one vCPU: bind it on vCPU 0")]
    NotPerVcpu(u32),
    /// The virtual interrupt has a port.
    #[error("virtual interrupt {0} is bound already")]
    VirqBound(u32),
    /// All ports are in use.
    #[error("{0} has no free port")]
    NoFreePort(DomId),
    /// The domain is being destroyed.
    #[error("{0} is being destroyed")]
    Dying(DomId),
    /// The table cannot grow.
    #[error("no memory for more ports")]
    NoMemory,
}

impl EventError {
    /// What the guest is told.
    pub const fn errno(self) -> Errno {
        match self {
            Self::NoDomain(_) => Errno::NoDomain,
            Self::NotPermitted { .. } => Errno::NotPermitted,
            Self::NoVcpu(_) => Errno::NoEntry,
            Self::VirqBound(_) => Errno::Exists,
            Self::NoFreePort(_) => Errno::NoSpace,
            Self::NoMemory => Errno::NoMemory,
            Self::NotOpen(_)
            | Self::NotOffered { .. }
            | Self::WrongKind(_)
            | Self::NoVirq(_)
            | Self::NotPerVcpu(_)
            | Self::Dying(_) => Errno::Invalid,
        }
    }
}
