//! The registers of EL0 and EL1 that a vCPU has to itself while it is resident on a CPU (Arm ARM
//! D24.2, C5.2), kept here while another vCPU is.
//!
//! They are all that a guest of the features in `id_registers` can change without a trap. Timers and
//! the interrupt interface have modules of their own.

use core::arch::asm;

use crate::arch::barrier;
use crate::arch::sysreg::{read_sysreg, write_sysreg};

/// `SCTLR_EL1` after reset: RES1 bits; MMU and caches off (D24.2.175).
const SCTLR_EL1: u64 = 0x30d0_0800;

macro_rules! registers {
    ($($(#[$doc:meta])* $field:ident: $name:literal,)*) => {
        /// System registers that guests change without a trap.
        #[derive(Default)]
        struct System {
            $($(#[$doc])* $field: u64,)*
        }

        impl System {
            fn save(&mut self) {
                $(self.$field = read_sysreg!($name);)*
            }

            fn restore(&self) {
                $(write_sysreg!($name, self.$field);)*
            }
        }
    };
}

registers! {
    sctlr: "sctlr_el1",
    cpacr: "cpacr_el1",
    ttbr0: "ttbr0_el1",
    ttbr1: "ttbr1_el1",
    tcr: "tcr_el1",
    mair: "mair_el1",
    amair: "amair_el1",
    vbar: "vbar_el1",
    contextidr: "contextidr_el1",
    esr: "esr_el1",
    far: "far_el1",
    afsr0: "afsr0_el1",
    afsr1: "afsr1_el1",
    par: "par_el1",
    elr: "elr_el1",
    spsr: "spsr_el1",
    sp_el0: "sp_el0",
    sp_el1: "sp_el1",
    tpidr_el0: "tpidr_el0",
    tpidrro_el0: "tpidrro_el0",
    tpidr_el1: "tpidr_el1",
    csselr: "csselr_el1",
    cntkctl: "cntkctl_el1",
}

/// The registers of floating point and vectors.
#[derive(Default)]
#[repr(C, align(16))]
struct Vectors {
    q: [u128; 32],
    status: u64,
    control: u64,
}

/// The registers of EL1 that a toolstack sees and sets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settable {
    /// `SCTLR_EL1`.
    pub sctlr: u64,
    /// `TCR_EL1`.
    pub tcr: u64,
    /// `TTBR0_EL1`.
    pub ttbr0: u64,
    /// `TTBR1_EL1`.
    pub ttbr1: u64,
    /// `SP_EL0`.
    pub sp_el0: u64,
    /// `SP_EL1`.
    pub sp_el1: u64,
    /// `ELR_EL1`.
    pub elr: u64,
    /// `SPSR_EL1`.
    pub spsr: u64,
}

/// What a vCPU has in registers apart from those of `context`.
pub struct Registers {
    system: System,
    vectors: Vectors,
}

impl Registers {
    /// After reset.
    pub fn new() -> Self {
        Self {
            system: System {
                sctlr: SCTLR_EL1,
                ..System::default()
            },
            vectors: Vectors::default(),
        }
    }

    /// Those that a toolstack can set.
    pub const fn settable(&self) -> Settable {
        let system = &self.system;
        Settable {
            sctlr: system.sctlr,
            tcr: system.tcr,
            ttbr0: system.ttbr0,
            ttbr1: system.ttbr1,
            sp_el0: system.sp_el0,
            sp_el1: system.sp_el1,
            elr: system.elr,
            spsr: system.spsr,
        }
    }

    /// Sets those.
    pub const fn set(&mut self, settable: &Settable) {
        let system = &mut self.system;
        system.sctlr = settable.sctlr;
        system.tcr = settable.tcr;
        system.ttbr0 = settable.ttbr0;
        system.ttbr1 = settable.ttbr1;
        system.sp_el0 = settable.sp_el0;
        system.sp_el1 = settable.sp_el1;
        system.elr = settable.elr;
        system.spsr = settable.spsr;
    }

    /// Takes them from the CPU.
    pub fn save(&mut self) {
        self.system.save();
        self.vectors.save();
    }

    /// Gives them to the CPU.
    pub fn restore(&self) {
        self.system.restore();
        self.vectors.restore();
        barrier::isb();
    }
}

impl Vectors {
    fn save(&mut self) {
        // SAFETY: stores the 32 vector registers to the array, and reads two status registers. The
        // hypervisor is compiled without floating point, so that none of them is its own; CPTR_EL2
        // does not trap them.
        unsafe {
            asm!(
                ".arch_extension fp",
                ".arch_extension simd",
                "stp q0, q1, [{q}, #0]",
                "stp q2, q3, [{q}, #32]",
                "stp q4, q5, [{q}, #64]",
                "stp q6, q7, [{q}, #96]",
                "stp q8, q9, [{q}, #128]",
                "stp q10, q11, [{q}, #160]",
                "stp q12, q13, [{q}, #192]",
                "stp q14, q15, [{q}, #224]",
                "stp q16, q17, [{q}, #256]",
                "stp q18, q19, [{q}, #288]",
                "stp q20, q21, [{q}, #320]",
                "stp q22, q23, [{q}, #352]",
                "stp q24, q25, [{q}, #384]",
                "stp q26, q27, [{q}, #416]",
                "stp q28, q29, [{q}, #448]",
                "stp q30, q31, [{q}, #480]",
                "mrs {status}, fpsr",
                "mrs {control}, fpcr",
                q = in(reg) &raw mut self.q,
                status = out(reg) self.status,
                control = out(reg) self.control,
                options(nostack)
            );
        }
    }

    fn restore(&self) {
        // SAFETY: loads the 32 vector registers from the array, and two status registers, none of
        // which the hypervisor uses, as `save` says.
        unsafe {
            asm!(
                ".arch_extension fp",
                ".arch_extension simd",
                "ldp q0, q1, [{q}, #0]",
                "ldp q2, q3, [{q}, #32]",
                "ldp q4, q5, [{q}, #64]",
                "ldp q6, q7, [{q}, #96]",
                "ldp q8, q9, [{q}, #128]",
                "ldp q10, q11, [{q}, #160]",
                "ldp q12, q13, [{q}, #192]",
                "ldp q14, q15, [{q}, #224]",
                "ldp q16, q17, [{q}, #256]",
                "ldp q18, q19, [{q}, #288]",
                "ldp q20, q21, [{q}, #320]",
                "ldp q22, q23, [{q}, #352]",
                "ldp q24, q25, [{q}, #384]",
                "ldp q26, q27, [{q}, #416]",
                "ldp q28, q29, [{q}, #448]",
                "ldp q30, q31, [{q}, #480]",
                "msr fpsr, {status}",
                "msr fpcr, {control}",
                q = in(reg) &raw const self.q,
                status = in(reg) self.status,
                control = in(reg) self.control,
                options(nostack)
            );
        }
    }
}
