//! The list registers of GICv2: `GICH_LRn`, 32 bits (IHI 0048, 5.3.11).

use xen_types::IntId;

use super::{Backing, Format, ListRegister};

const PHYSICAL_SHIFT: u32 = 10;
const ID: u32 = 0x3ff;
const SOURCE: u32 = 0x7;
const EOI: u32 = 1 << 19;
const PRIORITY_SHIFT: u32 = 23;
const PRIORITY: u32 = 0x1f;
const PENDING: u32 = 1 << 28;
const ACTIVE: u32 = 1 << 29;
const GROUP_1: u32 = 1 << 30;
const HARDWARE: u32 = 1 << 31;

/// `GICH_LRn`.
#[derive(Clone, Copy, Debug)]
pub enum GicV2 {}

impl Format for GicV2 {
    type Register = u32;

    fn encode(register: &ListRegister) -> u32 {
        let flag = |set: bool, bit: u32| if set { bit } else { 0 };
        let backing = match register.backing {
            Backing::Hardware(physical) => HARDWARE | physical.get() << PHYSICAL_SHIFT,
            Backing::Software { notify_end, source } => {
                flag(notify_end, EOI) | (u32::from(source) & SOURCE) << PHYSICAL_SHIFT
            }
        };
        register.id.get()
            | backing
            | u32::from(register.priority >> 3) << PRIORITY_SHIFT
            | flag(register.pending, PENDING)
            | flag(register.active, ACTIVE)
            | flag(register.group1, GROUP_1)
    }

    fn decode(value: u32) -> Option<ListRegister> {
        let backing = if value & HARDWARE != 0 {
            Backing::Hardware(IntId::new(value >> PHYSICAL_SHIFT & ID)?)
        } else {
            Backing::Software {
                notify_end: value & EOI != 0,
                source: (value >> PHYSICAL_SHIFT & SOURCE) as u8,
            }
        };
        Some(ListRegister {
            id: IntId::new(value & ID)?,
            pending: value & PENDING != 0,
            active: value & ACTIVE != 0,
            priority: ((value >> PRIORITY_SHIFT & PRIORITY) as u8) << 3,
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
            group1: false,
            backing: Backing::Hardware(id(0x3f0)),
        };
        let value = 0x8000_0000 | 1 << 28 | 0x14 << 23 | 0x3f0 << 10 | 0x25;
        assert_eq!(GicV2::encode(&register), value);
        assert_eq!(GicV2::decode(value), Some(register));
    }

    #[test]
    fn an_sgi_has_its_source_and_asks_for_its_end() {
        let register = ListRegister {
            id: id(7),
            pending: true,
            active: true,
            priority: 0xf8,
            group1: true,
            backing: Backing::Software {
                notify_end: true,
                source: 5,
            },
        };
        let value = 0x4000_0000 | 0b11 << 28 | 0x1f << 23 | 1 << 19 | 5 << 10 | 7;
        assert_eq!(GicV2::encode(&register), value);
        assert_eq!(GicV2::decode(value), Some(register));
    }

    #[test]
    fn special_ids_are_no_interrupts() {
        assert_eq!(GicV2::decode(1020), None);
        assert_eq!(GicV2::decode(HARDWARE | 1023 << 10 | 32), None);
    }
}
