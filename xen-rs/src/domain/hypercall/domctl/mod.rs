//! `domctl`: the control domain makes, watches and ends others.
//!
//! Others get `EPERM`, whatever they ask for. What takes long is done a part at a time: the call is
//! made again until it is done, and what has been done is known by the domain that it is about.

mod assign;
mod devices;
mod info;
mod life;
mod memory;
mod vcpus;

use alloc::sync::Arc;

use xen_abi::domctl::{DomctlHeader, DomctlOp, INTERFACE_VERSION, PAYLOAD_OFFSET, VuartOp};
use xen_abi::domctl::{VUART_VPL011, VuartCommand};
use xen_abi::{DomId, Errno};
use xen_types::Gfn;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::{NoValue, Outcome};
use crate::domain::memory::{BadAddress, read, write};
use crate::domain::run::Running;
use crate::domain::{Domain, table};

pub use self::info::of as info_of;
pub use self::vcpus::scheduler_id;

/// A call: its envelope has been looked at.
struct Call<'a> {
    caller: &'a Domain,
    /// Where its structure is.
    buffer: u64,
    header: DomctlHeader,
}

impl Call<'_> {
    /// The operation's structure.
    fn payload<T: FromBytes + IntoBytes>(&self) -> Result<T, BadAddress> {
        read(self.caller, self.buffer.wrapping_add(PAYLOAD_OFFSET))
    }

    /// What the operation returns in its structure.
    fn answer<T: IntoBytes + Immutable>(&self, payload: &T) -> Outcome {
        let at = self.buffer.wrapping_add(PAYLOAD_OFFSET);
        write(self.caller, at, payload)?;
        Ok(0)
    }

    /// The call is made again.
    fn again(&self) -> NoValue {
        NoValue::Again([self.buffer, 0, 0])
    }

    /// The domain that the call is about.
    fn target(&self) -> Result<Arc<Domain>, Errno> {
        let id = match self.header.domain {
            DomId::SELF => self.caller.id,
            id => id,
        };
        table::lookup(id).ok_or(Errno::NoDomain)
    }

    /// The same, which is not the caller.
    fn other(&self) -> Result<Arc<Domain>, Errno> {
        let target = self.target()?;
        if target.id == self.caller.id {
            return Err(Errno::Invalid);
        }
        Ok(target)
    }
}

/// `domctl`.
pub fn domctl(running: &Running<'_>, buffer: u64) -> Outcome {
    let caller = running.domain;
    if !caller.is_control() {
        return Err(Errno::NotPermitted.into());
    }
    let header: DomctlHeader = read(caller, buffer)?;
    if header.interface_version != INTERFACE_VERSION {
        return Err(Errno::Access.into());
    }
    let operation = DomctlOp::from_number(header.cmd).ok_or(Errno::NoCall)?;
    let call = Call {
        caller,
        buffer,
        header,
    };
    perform(&call, operation)
}

fn perform(call: &Call<'_>, operation: DomctlOp) -> Outcome {
    match operation {
        DomctlOp::CreateDomain => life::create(call),
        DomctlOp::DestroyDomain => life::destroy(call),
        DomctlOp::PauseDomain => life::pause(call),
        DomctlOp::UnpauseDomain => life::unpause(call),
        DomctlOp::ResumeDomain => life::resume(call),
        DomctlOp::SetDomainHandle => {
            let handle: [u8; 16] = call.payload()?;
            *call.target()?.handle.lock() = handle;
            Ok(0)
        }
        DomctlOp::GetDomainInfo => {
            let target = call.target()?;
            call.answer(&info::of(&target))
        }
        DomctlOp::MaxVcpus => vcpus::max(call),
        DomctlOp::SetVcpuContext => vcpus::set_context(call),
        DomctlOp::GetVcpuContext => vcpus::get_context(call),
        DomctlOp::GetVcpuInfo => vcpus::info(call),
        DomctlOp::SetVcpuAffinity => vcpus::set_affinity(call),
        DomctlOp::GetVcpuAffinity => vcpus::get_affinity(call),
        DomctlOp::SchedulerOp => vcpus::scheduler_op(call),
        DomctlOp::MaxMem => memory::max_mem(call),
        DomctlOp::SetPagingMempoolSize => memory::set_mempool(call),
        DomctlOp::GetPagingMempoolSize => memory::get_mempool(call),
        DomctlOp::CacheFlush => memory::cache_flush(call),
        DomctlOp::SetAddressSize => memory::set_address_size(call),
        DomctlOp::GetAddressSize => memory::get_address_size(call),
        DomctlOp::VuartOp => vuart_op(call),
        DomctlOp::DeviceSupport => devices::support(call),
        DomctlOp::AssignDevice => assign::device(call),
        DomctlOp::AssignFunction => assign::at_slot(call),
        DomctlOp::TestAssignDevice => assign::test(call),
        DomctlOp::DeassignDevice => assign::take_back(call),
        // There is one node, and there are no ports on Arm: toolstacks ask all the same.
        DomctlOp::SetNodeAffinity | DomctlOp::SetTimeOffset | DomctlOp::IoportPermission => {
            call.target()?;
            Ok(0)
        }
        DomctlOp::SetLlcColors => Err(Errno::NotSupported.into()),
        _ => Err(Errno::NoCall.into()),
    }
}

fn vuart_op(call: &Call<'_>) -> Outcome {
    let mut request: VuartOp = call.payload()?;
    let known = VuartCommand::from_number(request.cmd).is_some() && request.kind == VUART_VPL011;
    if !known || request.pad != 0 {
        return Err(Errno::Invalid.into());
    }
    let target = call.other()?;
    let port = target.add_vuart(Gfn::new(request.gfn), request.console_domid)?;
    request.evtchn = port.get();
    call.answer(&request)
}
