//! Which functions a configuration means, and whether a guest can have them.

use thiserror::Error;
use xen_abi::DomId;

use super::{AssignableError, Sbdf};
use crate::config::PciFunction;
use crate::hypervisor::{FunctionInfo, FunctionState, HypervisorError};

/// A function that a guest is to have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Which.
    pub function: Sbdf,
    /// Its device number on the guest's bus; any if there is none.
    pub slot: Option<u8>,
    /// Whether it may be taken from the control domain.
    pub seize: bool,
}

/// Why a guest does not get a function.
#[derive(Debug, Error)]
pub enum AssignError {
    /// There is none.
    #[error("{0}: there is no such function")]
    Unknown(PciFunction),
    /// It is in the list more than once.
    #[error("{0} is wanted twice")]
    Twice(Sbdf),
    /// There is one slot for more than one function.
    #[error(
        "{device} has {count} functions, each of which needs a slot of its own: name them one by one"
    )]
    Slot {
        /// The device.
        device: PciFunction,
        /// How many functions it has.
        count: usize,
    },
    /// The control domain has it.
    #[error(
        "{0} is the control domain's: `xrs pci-assignable-add {0}` makes it assignable, or \
         `seize=1` behind it here"
    )]
    OfControlDomain(Sbdf),
    /// A guest has it.
    #[error("{function} belongs to domain {domain}")]
    OfGuest {
        /// The function.
        function: Sbdf,
        /// The guest.
        domain: u16,
    },
    /// Nobody can have it.
    #[error("{function} cannot be used: {reason}")]
    Broken {
        /// The function.
        function: Sbdf,
        /// What the hypervisor says.
        reason: String,
    },
    /// Another function of its group is elsewhere.
    #[error("{function} moves with {other}, which {}", whose(*.owner))]
    Partner {
        /// The function.
        function: Sbdf,
        /// The other.
        other: Sbdf,
        /// The guest that has the other; the control domain if there is none.
        owner: Option<u16>,
    },
    /// There is no way to give it.
    #[error(
        "guests can have no PCI functions on this machine: their DMA could not be held back \
         (`xrs dmesg` says which IOMMU is missing)"
    )]
    NotSupported,
    /// It does not leave the control domain.
    #[error(transparent)]
    Assignable(#[from] AssignableError),
    /// The hypervisor does not give it.
    #[error("{function}: {error}")]
    Refused {
        /// The function.
        function: Sbdf,
        /// Why.
        error: HypervisorError,
    },
    /// The hypervisor does not tell of functions.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// What is kept of functions cannot be read or written.
    #[error("/run/xen-rs: {0}")]
    Folder(#[from] std::io::Error),
    /// What failed could not be undone.
    #[error("{first}\nand then: {then}")]
    NotUndone {
        /// What failed.
        first: Box<Self>,
        /// What failed after it.
        then: Box<Self>,
    },
}

fn whose(owner: Option<u16>) -> String {
    match owner {
        Some(domain) => format!("belongs to domain {domain}"),
        None => "the control domain has: it has to be assignable, too".into(),
    }
}

/// The functions that a list of a configuration means; those that have a slot first.
///
/// # Errors
/// There is no such function, or it is wanted twice.
pub fn choose(all: &[FunctionInfo], list: &[PciFunction]) -> Result<Vec<Wanted>, AssignError> {
    let mut chosen: Vec<Wanted> = Vec::new();
    for wanted in list {
        let means = |info: &&FunctionInfo| {
            let place = (info.function.device(), info.function.function());
            place.0 == wanted.device && wanted.function.is_none_or(|function| function == place.1)
        };
        let found: Vec<_> = all.iter().filter(means).collect();
        match found.len() {
            0 => return Err(AssignError::Unknown(wanted.clone())),
            2.. if wanted.slot.is_some() => {
                return Err(AssignError::Slot {
                    device: wanted.clone(),
                    count: found.len(),
                });
            }
            _ => {}
        }
        for info in found {
            let function = info.function;
            if chosen.iter().any(|other| other.function == function) {
                return Err(AssignError::Twice(function));
            }
            chosen.push(Wanted {
                function,
                slot: wanted.slot,
                seize: wanted.seize,
            });
        }
    }
    // Nobody takes a slot that another is to have.
    chosen.sort_by_key(|wanted| wanted.slot.is_none());
    Ok(chosen)
}

/// Whether a guest can have all of these: each is assignable, and the rest of its group is, or is the
/// guest's. A guest that is still to be made is no domain yet.
///
/// # Errors
/// Who has what.
pub fn check(
    all: &[FunctionInfo],
    wanted: &[Wanted],
    domain: Option<DomId>,
) -> Result<(), AssignError> {
    let own = domain.map(DomId::get);
    for Wanted { function, .. } in wanted.iter().copied() {
        let Some(info) = all.iter().find(|info| info.function == function) else {
            return Err(AssignableError::Unknown(function).into());
        };
        match (info.state, info.domain) {
            (FunctionState::Assignable, _) => {}
            (FunctionState::Dom0, _) => return Err(AssignError::OfControlDomain(function)),
            (FunctionState::Guest, domain) => {
                return Err(AssignError::OfGuest {
                    function,
                    domain: domain.unwrap_or_default(),
                });
            }
            (FunctionState::Broken, _) => {
                let reason = info.reason.clone();
                return Err(AssignError::Broken {
                    function,
                    reason: reason.unwrap_or_else(|| "its reset failed".into()),
                });
            }
        }
        let elsewhere = |other: &&FunctionInfo| {
            let is_partner = other.group == info.group && other.function != function;
            let elsewhere = match other.state {
                FunctionState::Dom0 => !other.is_bridge(),
                FunctionState::Guest => other.domain != own,
                FunctionState::Assignable | FunctionState::Broken => false,
            };
            is_partner && elsewhere
        };
        if let Some(other) = all.iter().find(elsewhere) {
            return Err(AssignError::Partner {
                function,
                other: other.function,
                owner: other.domain,
            });
        }
    }
    Ok(())
}
