//! `vm_assist`: optional behaviour that a domain wants.

use core::sync::atomic::Ordering;

use xen_abi::Errno;
use xen_abi::vm_assist::{VmAssist, VmAssistOp};

use super::Outcome;
use crate::domain::run::Running;

/// `vm_assist`.
pub fn vm_assist(running: &Running<'_>, operation: u64, kind: u64) -> Outcome {
    let operation = VmAssistOp::from_number(operation).ok_or(Errno::NoCall)?;
    match VmAssist::from_number(kind).ok_or(Errno::Invalid)? {
        VmAssist::RunstateUpdateFlag => {
            let wanted = operation == VmAssistOp::Enable;
            let marks = &running.domain.marks_runstate_updates;
            marks.store(wanted, Ordering::Relaxed);
        }
    }
    Ok(0)
}
