//! `platform_op`: time and firmware of the machine, for the control domain.

use xen_abi::Errno;
use xen_abi::platform::{INTERFACE_VERSION, PlatformOp, PlatformOpHeader, SetTime64};

use super::Outcome;
use crate::domain::memory::read;
use crate::domain::run::Running;
use crate::domain::wall_clock;

/// `platform_op`.
pub fn platform_op(running: &Running<'_>, buffer: u64) -> Outcome {
    let domain = running.domain;
    if !domain.is_control() {
        return Err(Errno::NotPermitted.into());
    }
    let header: PlatformOpHeader = read(domain, buffer)?;
    if header.interface_version != INTERFACE_VERSION {
        return Err(Errno::Access.into());
    }
    match PlatformOp::from_number(header.cmd) {
        Some(PlatformOp::SetTime64) => {
            let at = buffer.wrapping_add(size_of::<PlatformOpHeader>() as u64);
            let time: SetTime64 = read(domain, at)?;
            if time.mbz != 0 {
                return Err(Errno::Invalid.into());
            }
            wall_clock::set(time.secs, time.nsecs, time.system_time);
            Ok(0)
        }
        // A control domain that is booted by device tree reaches no EFI firmware.
        _ => Err(Errno::NoCall.into()),
    }
}
