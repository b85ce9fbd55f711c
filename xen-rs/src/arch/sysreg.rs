//! System registers that `aarch64-cpu` does not have, by name or by encoding.
//!
//! Encodings are written `S<op0>_<op1>_C<n>_C<m>_<op2>` so that the assembler needs no extension
//! (Arm ARM C5.1.3; the GIC ones are in IHI 0069, 12.2).

/// Reads a system register by its assembler name.
macro_rules! read_sysreg {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: reading the registers this is used for has no effect on memory, and they exist
        // at EL2 wherever the caller has detected the feature that they belong to.
        unsafe {
            core::arch::asm!(
                concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags)
            );
        }
        value
    }};
}

/// Reads a system register that another access changes (an acknowledge register): never merged or
/// moved by the compiler.
macro_rules! read_sysreg_volatile {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: as `read_sysreg`; without `nomem` the compiler keeps it in program order.
        unsafe {
            core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack));
        }
        value
    }};
}

/// Writes a system register by its assembler name.
macro_rules! write_sysreg {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the registers this is used for steer the interrupt controller, the timer or traps
        // of lower exception levels; none changes how EL2 itself reaches memory.
        unsafe {
            core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack));
        }
    }};
}

pub(crate) use {read_sysreg, read_sysreg_volatile, write_sysreg};
