//! A vCPU's virtual CPU interface on GICv3 hardware (IHI 0069, 12.4): list registers in and out.

use xen_core::vgic::lr::{GicV3, ListRegisters};
use xen_core::vgic::{CpuId, Effects, Lock, Locking, Vgic};

use crate::arch::barrier;
use crate::arch::sysreg::{read_sysreg, write_sysreg};
use crate::lock::IrqLock;

/// Locks of a domain's interrupt controller: physical interrupts arrive in handlers.
pub enum Masking {}

impl Locking for Masking {
    type Lock<T> = IrqLock<T>;
}

impl<T> Lock<T> for IrqLock<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, call: impl FnOnce(&mut T) -> R) -> R {
        call(&mut self.lock())
    }
}

/// `ICH_HCR_EL2.En`: the virtual CPU interface is on.
const ENABLE: u64 = 1;
/// `ICH_VMCR_EL2` after reset: all priorities pass; the guest sets the rest (12.4.8).
const VMCR: u64 = 0xff << 24 | 1 << 1;

macro_rules! list_register {
    ($number:expr, $action:ident $(, $value:expr)?) => {
        match $number {
            0 => $action!("S3_4_C12_C12_0" $(, $value)?),
            1 => $action!("S3_4_C12_C12_1" $(, $value)?),
            2 => $action!("S3_4_C12_C12_2" $(, $value)?),
            3 => $action!("S3_4_C12_C12_3" $(, $value)?),
            4 => $action!("S3_4_C12_C12_4" $(, $value)?),
            5 => $action!("S3_4_C12_C12_5" $(, $value)?),
            6 => $action!("S3_4_C12_C12_6" $(, $value)?),
            7 => $action!("S3_4_C12_C12_7" $(, $value)?),
            8 => $action!("S3_4_C12_C13_0" $(, $value)?),
            9 => $action!("S3_4_C12_C13_1" $(, $value)?),
            10 => $action!("S3_4_C12_C13_2" $(, $value)?),
            11 => $action!("S3_4_C12_C13_3" $(, $value)?),
            12 => $action!("S3_4_C12_C13_4" $(, $value)?),
            13 => $action!("S3_4_C12_C13_5" $(, $value)?),
            14 => $action!("S3_4_C12_C13_6" $(, $value)?),
            _ => $action!("S3_4_C12_C13_7" $(, $value)?),
        }
    };
}

/// The list registers of a vCPU, and what its CPU holds of them.
pub struct Interface {
    cpu: CpuId,
    registers: ListRegisters<GicV3>,
    implemented: usize,
    /// List registers of the CPU that may hold something.
    loaded: usize,
}

impl Interface {
    /// The interface of `cpu`, switched on, on this CPU.
    pub fn new(cpu: CpuId) -> Self {
        // ICH_VTR_EL2.ListRegs is one less than the number.
        let implemented = (read_sysreg!("ich_vtr_el2") & 0x1f) as usize + 1;
        write_sysreg!("ich_vmcr_el2", VMCR);
        Self {
            cpu,
            registers: ListRegisters::new(implemented),
            implemented,
            loaded: implemented,
        }
    }

    /// Before the guest runs: what is news goes into the CPU's list registers.
    pub fn load<L: Locking>(&mut self, vgic: &Vgic<L>, effects: &mut Effects) {
        if vgic.has_news(self.cpu) {
            vgic.sync(self.cpu, &mut self.registers, effects);
            vgic.flush(self.cpu, &mut self.registers);
        }
        let used = self.registers.used();
        for (number, value) in used.iter().enumerate() {
            list_register!(number, write_sysreg, *value);
        }
        for number in used.len()..self.loaded.min(self.implemented) {
            list_register!(number, write_sysreg, 0);
        }
        self.loaded = used.len();
        write_sysreg!("ich_hcr_el2", ENABLE | u64::from(self.registers.hcr()));
        barrier::isb();
    }

    /// After it ran: what the list registers say now.
    pub fn save(&mut self) {
        for (number, value) in self.registers.used_mut().iter_mut().enumerate() {
            *value = list_register!(number, read_sysreg);
        }
        self.registers.set_hcr(read_sysreg!("ich_hcr_el2") as u32);
        // No maintenance interrupt while the hypervisor runs.
        write_sysreg!("ich_hcr_el2", 0);
    }

    /// Gives the list registers back to the controller, which an access to its registers needs.
    pub fn sync<L: Locking>(&mut self, vgic: &Vgic<L>, effects: &mut Effects) {
        vgic.sync(self.cpu, &mut self.registers, effects);
    }
}
