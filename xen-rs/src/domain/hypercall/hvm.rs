//! `hvm_op`: parameters of domains.

use alloc::sync::Arc;

use xen_abi::hvm::{HvmOp, HvmParam};
use xen_abi::{DomId, Errno};

use super::Outcome;
use crate::domain::memory::{read, write};
use crate::domain::run::Running;
use crate::domain::{Domain, table};

/// `hvm_op`.
pub fn hvm_op(running: &Running<'_>, operation: u64, buffer: u64) -> Outcome {
    let domain = running.domain;
    let operation = HvmOp::from_number(operation).ok_or(Errno::NoCall)?;
    let mut request: HvmParam = read(domain, buffer)?;
    let target = target(domain, request.domid)?;
    let own = target.id == domain.id;
    let mut parameters = target.parameters.lock();
    match operation {
        HvmOp::SetParam => parameters.set(request.index, request.value, own)?,
        HvmOp::GetParam => {
            request.value = parameters.get(request.index, own)?;
            drop(parameters);
            write(domain, buffer, &request)?;
        }
    }
    Ok(0)
}

fn target(domain: &Domain, id: DomId) -> Result<Arc<Domain>, Errno> {
    let id = if id == DomId::SELF { domain.id } else { id };
    let target = table::lookup(id).ok_or(Errno::NoDomain)?;
    if target.id == domain.id || domain.is_control() {
        Ok(target)
    } else {
        Err(Errno::NotPermitted)
    }
}
