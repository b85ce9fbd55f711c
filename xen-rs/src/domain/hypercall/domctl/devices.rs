//! Devices of the machine that domains are given.

use xen_abi::domctl::{DeviceSupport, device_support};

use super::{Call, Outcome};
use crate::pci;

/// What there is for devices of a domain.
pub fn support(call: &Call<'_>) -> Outcome {
    let target = call.target()?;
    let mut flags = 0;
    if target.pci.is_some() && pci::can_assign() {
        flags |= device_support::PCI;
    }
    if target.messages.has_its() {
        flags |= device_support::ITS;
    }
    call.answer(&DeviceSupport {
        flags,
        v2m_first: 0,
        v2m_count: 0,
        intx_first: 0,
    })
}
