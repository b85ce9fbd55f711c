//! The list registers of GICv3: `ICH_LR<n>_EL2`, 64 bits (IHI 0069, 12.4.4).

use xen_types::IntId;

use super::{Backing, Format, ListRegister};

const VIRTUAL: u64 = 0xffff_ffff;
const PHYSICAL_SHIFT: u32 = 32;
const PHYSICAL: u64 = 0x1fff;
const EOI: u64 = 1 << 41;
const PRIORITY_SHIFT: u32 = 48;
const GROUP_1: u64 = 1 << 60;
const HARDWARE: u64 = 1 << 61;
const PENDING: u64 = 1 << 62;
const ACTIVE: u64 = 1 << 63;

/// `ICH_LR<n>_EL2`.
#[derive(Clone, Copy, Debug)]
pub enum GicV3 {}

impl Format for GicV3 {
    type Register = u64;

    fn encode(register: &ListRegister) -> u64 {
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        let backing = match register.backing {
            Backing::Hardware(physical) => HARDWARE | u64::from(physical.get()) << PHYSICAL_SHIFT,
            Backing::Software { notify_end, .. } => flag(notify_end, EOI),
        };
        u64::from(register.id.get())
            | backing
            | u64::from(register.priority) << PRIORITY_SHIFT
            | flag(register.pending, PENDING)
            | flag(register.active, ACTIVE)
            | flag(register.group1, GROUP_1)
    }

    fn decode(value: u64) -> Option<ListRegister> {
        let backing = if value & HARDWARE != 0 {
            Backing::Hardware(IntId::new((value >> PHYSICAL_SHIFT & PHYSICAL) as u32)?)
        } else {
            Backing::Software {
                notify_end: value & EOI != 0,
                source: 0,
            }
        };
        Some(ListRegister {
            id: IntId::new((value & VIRTUAL) as u32)?,
            pending: value & PENDING != 0,
            active: value & ACTIVE != 0,
            priority: (value >> PRIORITY_SHIFT) as u8,
            group1: value & GROUP_1 != 0,
            backing,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(intid: u32) -> IntId {
        IntId::new(intid).unwrap()
    }

    #[test]
    fn a_linked_interrupt_has_its_bits() {
        let register = ListRegister {
            id: id(0x25),
            pending: true,
            active: false,
            priority: 0xa0,
            group1: true,
            backing: Backing::Hardware(id(0x3f0)),
        };
        let value = 0x70a0_03f0_0000_0025;
        assert_eq!(GicV3::encode(&register), value);
        assert_eq!(GicV3::decode(value), Some(register));
    }

    #[test]
    fn a_software_interrupt_asks_for_its_end() {
        let register = ListRegister {
            id: id(27),
            pending: true,
            active: true,
            priority: 0xf8,
            group1: false,
            backing: Backing::Software {
                notify_end: true,
                source: 0,
            },
        };
        let value = 0xc0f8_0200_0000_001b;
        assert_eq!(GicV3::encode(&register), value);
        assert_eq!(GicV3::decode(value), Some(register));
    }

    #[test]
    fn other_ids_are_no_interrupts() {
        assert_eq!(GicV3::decode(1020), None);
        assert_eq!(GicV3::decode(HARDWARE | 0x1fff << 32 | 32), None);
        assert_eq!(GicV3::decode(8191), None);
    }
}
