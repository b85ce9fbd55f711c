//! The interrupt mask of this CPU (Arm ARM C5.2.2, `DAIF`).

use super::sysreg::{read_sysreg, read_sysreg_volatile, write_sysreg};

const IRQ: u64 = 1 << 7;
const SERROR: u64 = 1 << 8;

/// Lets SErrors through from now on.
pub fn enable_system_errors() {
    write_sysreg!("daif", read_sysreg!("daif") & !SERROR);
}

/// Lets IRQs and SErrors through from now on.
pub fn enable() {
    write_sysreg!("daif", read_sysreg!("daif") & !(IRQ | SERROR));
}

/// Whether a physical IRQ is pending (`ISR_EL1.I` of the Arm ARM), masked or not.
pub fn is_irq_pending() -> bool {
    read_sysreg_volatile!("isr_el1") & IRQ != 0
}

/// Masks IRQs and returns what restores the mask as it was.
pub fn mask() -> Masked {
    let before = read_sysreg!("daif");
    write_sysreg!("daif", before | IRQ);
    Masked(before)
}

/// Lets SErrors through and returns what restores the mask as it was.
pub fn let_system_errors_through() -> Masked {
    let before = read_sysreg!("daif");
    write_sysreg!("daif", before & !SERROR);
    Masked(before)
}

/// The mask is as it was made for as long as this lives.
#[must_use]
pub struct Masked(u64);

impl Drop for Masked {
    fn drop(&mut self) {
        write_sysreg!("daif", self.0);
    }
}
