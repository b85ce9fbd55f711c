//! Why a function cannot be had.

use core::fmt;

use thiserror::Error;

use super::{Condition, Owner};
use crate::HostSbdf;
use crate::reset::ResetError;

/// Why a function cannot be assigned to a guest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum Refusal<D: fmt::Display> {
    /// It is a bridge.
    #[error("it is a bridge, which all behind it need")]
    Bridge,
    /// Nothing resets it.
    #[error("there is no way to reset it: what one guest left in it, the next would find")]
    NoReset,
    /// It could not be reset.
    #[error("its last reset failed: {0}")]
    Broken(ResetError),
    /// A BAR has no address.
    #[error("BAR {0} has no address: the host bridge's windows are full")]
    NoAddress(u8),
    /// A BAR does not begin where a page does.
    #[error("BAR {0} begins inside a page")]
    InsidePage(u8),
    /// A BAR is in a page with that of another function.
    #[error("BAR {bar} is in a page with registers of {other}")]
    SharedPage {
        /// Its number.
        bar: u8,
        /// Whose registers are there, too.
        other: HostSbdf,
    },
    /// Its virtual functions are there.
    #[error("its virtual functions are enabled: disable them in the hardware domain first")]
    HasVirtualFunctions,
    /// Somebody else has a function of its group.
    #[error("{other} is in its group and belongs to {owner}: a group moves as one")]
    Group {
        /// The other function.
        other: HostSbdf,
        /// Who has it.
        owner: Owner<D>,
    },
    /// It is not in quarantine.
    #[error("it belongs to {0}")]
    Owned(Owner<D>),
    /// It has not been reset yet.
    #[error("it is {0}")]
    NotReset(Condition),
}

/// Why the registry does not do what it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum RegistryError<D: fmt::Display> {
    /// There is no such function.
    #[error("{0}: there is no such function")]
    Unknown(HostSbdf),
    /// It is there already.
    #[error("{0} is known already")]
    Known(HostSbdf),
    /// It cannot be assigned.
    #[error("{sbdf} cannot be assigned: {why}")]
    Refused {
        /// The function.
        sbdf: HostSbdf,
        /// Why.
        why: Refusal<D>,
    },
    /// Somebody else has it.
    #[error("{sbdf} belongs to {owner}")]
    Owned {
        /// The function.
        sbdf: HostSbdf,
        /// Who has it.
        owner: Owner<D>,
    },
    /// A guest has something of its group.
    #[error("{sbdf} stays: {other} is in its group and belongs to {owner}")]
    GroupInUse {
        /// The function.
        sbdf: HostSbdf,
        /// The other function.
        other: HostSbdf,
        /// Who has that.
        owner: Owner<D>,
    },
    /// Resetting it would reset what somebody has.
    #[error("{sbdf} can be reset only with {other}, which belongs to {owner}")]
    ResetShared {
        /// The function.
        sbdf: HostSbdf,
        /// What is reset with it.
        other: HostSbdf,
        /// Who has that.
        owner: Owner<D>,
    },
}
