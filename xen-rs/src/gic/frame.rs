//! The registers that a distributor and the SGI frame of a redistributor have in common
//! (IHI 0048 4.3, IHI 0069 12.9 and 12.11): a bit, two bits or a byte for each interrupt.

use xen_types::{IntId, Trigger};

use crate::memory::device::Registers;

const IGROUPR: usize = 0x080;
const ISENABLER: usize = 0x100;
const ICENABLER: usize = 0x180;
const ICPENDR: usize = 0x280;
const ICACTIVER: usize = 0x380;
const IPRIORITYR: usize = 0x400;
const ICFGR: usize = 0xc00;

/// The priority of all that is ours: the middle of what a non-secure view offers.
const PRIORITY: u32 = 0xa0a0_a0a0;

/// Sets interrupts `first..end` (multiples of 32) to a known state: disabled, not pending, not
/// active, one priority, level-triggered where that can be chosen.
pub fn reset(registers: &Registers, first: u32, end: u32) {
    for word in (first / 32..end / 32).map(|word| word as usize * 4) {
        registers.write32(ICENABLER + word, u32::MAX);
        registers.write32(ICPENDR + word, u32::MAX);
        registers.write32(ICACTIVER + word, u32::MAX);
    }
    for word in (first / 4..end / 4).map(|word| word as usize * 4) {
        registers.write32(IPRIORITYR + word, PRIORITY);
    }
    // SGIs are edge-triggered by definition; PPIs are left as the hardware has them.
    for word in (first.max(32) / 16..end / 16).map(|word| word as usize * 4) {
        registers.write32(ICFGR + word, 0);
    }
}

/// Puts interrupts `first..end` (multiples of 32) into group 1, the one that GICv3 delivers to EL2.
/// A GICv2 in the non-secure state has no say in it, and one without security needs none.
pub fn put_in_group_1(registers: &Registers, first: u32, end: u32) {
    for word in (first / 32..end / 32).map(|word| word as usize * 4) {
        registers.write32(IGROUPR + word, u32::MAX);
    }
}

/// Chooses the trigger; that of SGIs is fixed. The interrupt should be disabled.
pub fn configure(registers: &Registers, id: IntId, trigger: Trigger) {
    let intid = id.get();
    if intid >= 16 {
        let (register, shift) = (ICFGR + intid as usize / 16 * 4, intid % 16 * 2);
        let others = registers.read32(register) & !(0b11 << shift);
        let edge = u32::from(trigger == Trigger::Edge);
        registers.write32(register, others | edge << (shift + 1));
    }
}

/// Enables.
pub fn enable(registers: &Registers, id: IntId) {
    let intid = id.get();
    registers.write32(ISENABLER + intid as usize / 32 * 4, 1 << (intid % 32));
}

/// Disables.
pub fn disable(registers: &Registers, id: IntId) {
    let intid = id.get();
    registers.write32(ICENABLER + intid as usize / 32 * 4, 1 << (intid % 32));
}

/// Makes not pending.
pub fn forget(registers: &Registers, id: IntId) {
    let intid = id.get();
    registers.write32(ICPENDR + intid as usize / 32 * 4, 1 << (intid % 32));
}
