//! Optional behaviour of the hypervisor towards a domain (`xen.h`).

numbers! {
    /// Sub-operations of `vm_assist` (`VMASST_CMD_…`).
    pub enum VmAssistOp: u64 {
        /// Wanted from now on.
        Enable = 0,
        /// Not wanted any more.
        Disable = 1,
    }

    /// What can be wanted on arm64 (`VMASST_TYPE_…`).
    pub enum VmAssist: u64 {
        /// [`crate::vcpu::RUNSTATE_UPDATE`] is set while a runstate is written.
        RunstateUpdateFlag = 5,
    }
}
