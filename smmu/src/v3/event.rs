//! Events (IHI 0070, 7.3): 32 bytes each, which become faults.

use xen_types::Gpa;

use crate::{Access, Fault, Reason, StreamId};

/// 64-bit words of an event.
pub const WORDS: usize = 4;

const STALLED: u64 = 1 << 31;
const READ: u64 = 1 << 35;

/// An event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// What happened.
    pub fault: Fault,
    /// The tag of the transaction, where it waits for software to end it.
    pub stalled: Option<u16>,
}

impl Event {
    /// The event that the SMMU wrote.
    pub fn decode(words: [u64; WORDS]) -> Self {
        let [first, second, address, _] = words;
        let (reason, says_where) = meaning(first as u8);
        let access = if second & READ != 0 {
            Access::Read
        } else {
            Access::Write
        };
        Self {
            fault: Fault {
                stream: StreamId::new((first >> 32) as u32),
                reason,
                access: says_where.then_some(access),
                address: says_where.then_some(Gpa::new(address)),
                count: 1,
            },
            stalled: (second & STALLED != 0).then_some(second as u16),
        }
    }
}

/// What an event number means (7.3.2 to 7.3.20), and whether such an event has an input address and
/// a direction.
fn meaning(event: u8) -> (Reason, bool) {
    match event {
        // F_UUT.
        0x01 => (Reason::Unsupported, true),
        // C_BAD_STREAMID.
        0x02 => (Reason::UnknownStream, false),
        // F_STE_FETCH, F_CD_FETCH, F_VMS_FETCH.
        0x03 | 0x09 | 0x25 => (Reason::TableFetch, false),
        // C_BAD_STE: this driver writes no bad ones, but those that are not attached have V = 0.
        0x04 => (Reason::NotAttached, false),
        // F_BAD_ATS_TREQ, C_BAD_SUBSTREAMID.
        0x05 | 0x08 => (Reason::Unsupported, false),
        // F_STREAM_DISABLED, F_TRANSL_FORBIDDEN.
        0x06 => (Reason::Unsupported, false),
        0x07 => (Reason::Unsupported, true),
        // F_WALK_EABT.
        0x0b => (Reason::TableFetch, true),
        // F_TRANSLATION, F_ADDR_SIZE, F_ACCESS, F_PERMISSION.
        0x10 => (Reason::Translation, true),
        0x11 => (Reason::AddressSize, true),
        0x12 => (Reason::AccessFlag, true),
        0x13 => (Reason::Permission, true),
        // F_TLB_CONFLICT, F_CFG_CONFLICT.
        0x20 => (Reason::Conflict, true),
        0x21 => (Reason::Conflict, false),
        other => (Reason::Other(other), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_who_where_and_why() {
        let event = Event::decode([0x42_0000_0010, 1 << 39 | 1 << 35, 0x1234_5678, 0]);
        let fault = Fault {
            stream: StreamId::new(0x42),
            reason: Reason::Translation,
            access: Some(Access::Read),
            address: Some(Gpa::new(0x1234_5678)),
            count: 1,
        };
        let stalled = None;
        assert_eq!(event, Event { fault, stalled });
    }

    #[test]
    fn a_stalled_transaction_has_a_tag() {
        let event = Event::decode([0x13, 1 << 31 | 0xbeef, 0, 0]);
        assert_eq!(event.stalled, Some(0xbeef));
        assert_eq!(event.fault.reason, Reason::Permission);
        assert_eq!(event.fault.access, Some(Access::Write));
    }

    #[test]
    fn configuration_faults_have_no_address() {
        for number in [2, 3, 4, 5, 6, 8, 9, 0x21, 0x25, 0, 0xff] {
            let event = Event::decode([number, 0, 0x1000, 0]);
            assert_eq!((event.fault.address, event.fault.access), (None, None));
        }
    }
}
