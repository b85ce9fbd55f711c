//! Devices of the machine that domains are given.

use xen_abi::domctl::{DeviceSupport, device_support};

use xen_types::Spi;

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
    let frame = target.vectors().map(|vectors| vectors.frame().own());
    if frame.is_some() {
        flags |= device_support::V2M;
    }
    call.answer(&DeviceSupport {
        flags,
        v2m_first: frame.map_or(0, |spis| spis.first().intid()),
        v2m_count: frame.map_or(0, |spis| spis.count().into()),
        intx_first: target.first_line().map_or(0, Spi::intid),
    })
}
