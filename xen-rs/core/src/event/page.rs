//! How a guest is told of an event: the bits of its shared page, in order.

use xen_abi::DomId;

use super::{Port, VcpuId};

/// The bits that a domain shares with the hypervisor (`shared_info` and each `vcpu_info`).
///
/// The guest changes them at any time. Every operation is one atomic read-modify-write of the
/// bit's word, or one atomic load, and sequentially consistent: the order of two calls is the
/// order in which the guest sees them. Nothing is believed that is read here; a guest that writes
/// nonsense loses its own events.
///
/// A vCPU that has no `vcpu_info` yet has bits nobody reads.
pub trait SharedPage {
    /// Sets the port's pending bit. Whether it was set.
    fn set_pending(&self, port: Port) -> bool;
    /// Clears the port's pending bit.
    fn clear_pending(&self, port: Port);
    /// Whether the port's pending bit is set.
    fn is_pending(&self, port: Port) -> bool;
    /// Whether the port's mask bit is set.
    fn is_masked(&self, port: Port) -> bool;
    /// Clears the port's mask bit. Whether it was set.
    fn clear_mask(&self, port: Port) -> bool;
    /// Sets bit `word`, below 64, of the vCPU's selector. Whether it was set.
    fn set_selector(&self, vcpu: VcpuId, word: u32) -> bool;
    /// Sets all bits of the vCPU's selector.
    fn set_all_selectors(&self, vcpu: VcpuId);
    /// Sets the vCPU's upcall flag. Whether it was set.
    fn set_upcall(&self, vcpu: VcpuId) -> bool;
}

/// A port has become pending. The caller wakes vCPUs of the domain that poll the port, and raises
/// the event interrupt of the vCPU that `upcall` names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "the guest hears of it only if its vCPU is interrupted"]
pub struct Raised {
    /// Whose port.
    pub domain: DomId,
    /// Which.
    pub port: Port,
    /// The vCPU to interrupt: its upcall flag went from clear to set.
    pub upcall: Option<VcpuId>,
    /// It is the hypervisor that hears: the port belongs to a device that it emulates for the domain.
    pub of_device: bool,
}

/// Makes `port` pending for `vcpu`; `None` if it was pending.
///
/// Pending bit, selector, upcall flag: the guest reads them in the opposite order, so that one
/// who sees a later one set also sees the earlier ones. A port that is pending already or masked
/// needs nothing more: who clears or unmasks it looks again.
pub(super) fn raise<P: SharedPage>(
    page: &P,
    domain: DomId,
    port: Port,
    vcpu: VcpuId,
) -> Option<Raised> {
    if page.set_pending(port) {
        return None;
    }
    let upcall = (!page.is_masked(port) && announce(page, port, vcpu)).then_some(vcpu);
    Some(Raised {
        domain,
        port,
        upcall,
        of_device: false,
    })
}

/// Clears the mask of `port`, and does for an event that has waited what [`raise`] left out.
pub(super) fn unmask<P: SharedPage>(
    page: &P,
    domain: DomId,
    port: Port,
    vcpu: VcpuId,
) -> Option<Raised> {
    let told = page.clear_mask(port) && page.is_pending(port) && announce(page, port, vcpu);
    told.then_some(Raised {
        domain,
        port,
        upcall: Some(vcpu),
        of_device: false,
    })
}

/// Tells the vCPU to look at the port's word. Whether it must be interrupted.
fn announce<P: SharedPage>(page: &P, port: Port, vcpu: VcpuId) -> bool {
    !page.set_selector(vcpu, port.word()) && !page.set_upcall(vcpu)
}

/// Tells a vCPU whose `vcpu_info` has just got another place to look at everything: events may
/// have been announced at the old one. Whether it must be interrupted.
#[must_use = "the vCPU looks only if it is interrupted"]
pub fn vcpu_info_moved<P: SharedPage>(page: &P, vcpu: VcpuId) -> bool {
    page.set_all_selectors(vcpu);
    !page.set_upcall(vcpu)
}
