//! System registers by their assembler name, or as `S<op0>_<op1>_C<n>_C<m>_<op2>` (Arm ARM C5.1.3).

/// Reads a system register.
#[macro_export]
macro_rules! read_sysreg {
    ($name:literal) => {{
        let value: u64;
        // SAFETY: the guest is alone on its machine; the registers that it reads exist at EL1.
        unsafe {
            core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nostack));
        }
        value
    }};
}

/// Writes a system register and waits until it has effect.
#[macro_export]
macro_rules! write_sysreg {
    ($name:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the guest is alone on its machine; none of the registers that it writes by this
        // changes how it reaches its own memory, but those that `mmu` sets up.
        unsafe {
            core::arch::asm!(
                concat!("msr ", $name, ", {}"), "isb", in(reg) value, options(nostack)
            );
        }
    }};
}
