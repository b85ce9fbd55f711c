//! Why a call failed.

use std::io;

use thiserror::Error;
use xen_abi::Errno;

/// Why a call of the hypervisor failed.
#[derive(Debug, Error)]
pub enum HypervisorError {
    /// The devices of Linux's Xen drivers are not there.
    #[error(
        "cannot open {device}: {error}{}",
        if error.kind() == io::ErrorKind::PermissionDenied {
            "; xrs needs to be root"
        } else {
            "; xrs runs in the control domain of xen-rs or Xen, with the kernel's modules xen-privcmd and xen-evtchn"
        }
    )]
    Device {
        /// The device.
        device: &'static str,
        /// The system's error.
        error: io::Error,
    },
    /// The hypervisor or the driver refused.
    #[error("{call}: {}", explain(.error))]
    Call {
        /// What was called.
        call: &'static str,
        /// Why it refused.
        error: io::Error,
    },
    /// The hypervisor refused, and says why.
    #[error("{reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The hypervisor answered something that cannot be.
    #[error("{call}: the hypervisor's answer makes no sense: {what}")]
    Answer {
        /// What was called.
        call: &'static str,
        /// What makes no sense.
        what: String,
    },
}

impl HypervisorError {
    /// The ABI's error number, if it is one of a call.
    pub fn errno(&self) -> Option<Errno> {
        let Self::Call { error, .. } = self else {
            return None;
        };
        let number = u16::try_from(error.raw_os_error()?).ok()?;
        Errno::from_number(number)
    }

    /// Whether there is no hypervisor that would answer.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Device { .. })
    }
}

/// What an error of a call means to whoever reads it.
fn explain(error: &io::Error) -> String {
    let number = error
        .raw_os_error()
        .and_then(|number| u16::try_from(number).ok());
    let Some(errno) = number.and_then(Errno::from_number) else {
        return error.to_string();
    };
    let meaning = match errno {
        Errno::NotPermitted => "not allowed to this domain",
        Errno::NoEntry => "there is no such thing",
        Errno::NoDomain => "there is no such domain",
        Errno::NoMemory => "the hypervisor has not enough memory left",
        Errno::Access => "the hypervisor speaks another version of its interface",
        Errno::Fault => "a pointer leads nowhere",
        Errno::Busy => "in use",
        Errno::Exists => "it exists already",
        Errno::Invalid => "the hypervisor does not take these values",
        Errno::NoCall => "the hypervisor does not have this call",
        Errno::NotSupported => "the hypervisor does not support this",
        _ => return format!("{error} ({errno})"),
    };
    format!("{meaning} ({errno})")
}
