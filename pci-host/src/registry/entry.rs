//! One function in the registry.

use alloc::vec::Vec;
use core::fmt;

use crate::group::GroupId;
use crate::reset::{Method, ResetError};
use crate::{Device, HostSbdf};

/// Who has a function. `D` names a domain.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Owner<D> {
    /// The domain that has the machine's devices.
    HardwareDomain,
    /// Nobody: its DMA reaches nothing.
    Quarantine(Condition),
    /// A guest.
    Domain(D),
}

/// In which condition a function in quarantine is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Condition {
    /// As the hardware domain or firmware has left it. It can go back as it is.
    Untouched,
    /// As a guest has left it. Nobody gets it before it was reset.
    Used,
    /// A reset is under way.
    Resetting,
    /// Nothing of anybody is left in it.
    Clean,
    /// It could not be reset, and stays here.
    Broken(ResetError),
}

/// A function and who has it.
#[derive(Clone, Debug)]
pub struct Entry<D> {
    pub(super) device: Device,
    pub(super) group: GroupId,
    pub(super) owner: Owner<D>,
    pub(super) methods: Vec<Method>,
    /// Ways to reset it that did nothing.
    pub(super) useless: Vec<Method>,
}

impl<D: Copy> Entry<D> {
    /// Its name.
    pub fn sbdf(&self) -> HostSbdf {
        self.device.sbdf
    }

    /// What is known of it.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The group that it moves with.
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// Who has it.
    pub fn owner(&self) -> Owner<D> {
        self.owner
    }

    /// The ways to reset it that it has, its group allows and that were not found to do nothing; the
    /// gentlest first.
    pub fn reset_methods(&self) -> &[Method] {
        &self.methods
    }
}

impl<D> Owner<D> {
    /// Whether nobody has it.
    pub const fn is_quarantine(&self) -> bool {
        matches!(self, Self::Quarantine(_))
    }
}

impl<D: fmt::Display> fmt::Display for Owner<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HardwareDomain => f.write_str("the hardware domain"),
            Self::Quarantine(condition) => write!(f, "quarantine ({condition})"),
            Self::Domain(domain) => write!(f, "domain {domain}"),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untouched => f.write_str("not reset yet"),
            Self::Used => f.write_str("not reset since its last use"),
            Self::Resetting => f.write_str("being reset"),
            Self::Clean => f.write_str("assignable"),
            Self::Broken(error) => write!(f, "broken: {error}"),
        }
    }
}
