//! Records of what devices tried and must not.
//!
//! A device that goes astray does so thousands of times a second. Records of the same stream, page,
//! reason and direction become one with a count, and only so many are kept: what a device can make
//! the hypervisor remember is bounded. How many lines the log gets is the caller's business.

use core::fmt;

use arrayvec::ArrayVec;
use xen_types::Gpa;

use crate::StreamId;

/// What a device tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A read.
    Read,
    /// A write.
    Write,
}

/// Why it was stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The stream is beyond the stream table.
    UnknownStream,
    /// The stream was never attached to a domain.
    NotAttached,
    /// Nothing is mapped there.
    Translation,
    /// What is mapped there lies beyond the IOMMU's addresses.
    AddressSize,
    /// What is mapped there has no access flag.
    AccessFlag,
    /// What is mapped there does not allow it.
    Permission,
    /// The transaction is of a kind that is not allowed.
    Unsupported,
    /// The IOMMU could not read its tables.
    TableFetch,
    /// The IOMMU found contradictions in its tables or TLBs.
    Conflict,
    /// Another event of this number.
    Other(u8),
}

/// A fault, or several of one kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Whose.
    pub stream: StreamId,
    /// Why.
    pub reason: Reason,
    /// What was tried, where the IOMMU says.
    pub access: Option<Access>,
    /// The first address that was tried, where the IOMMU says.
    pub address: Option<Gpa>,
    /// How often.
    pub count: u64,
}

impl Fault {
    /// Whether the two differ only in where in a page and how often.
    pub fn is_like(&self, other: &Self) -> bool {
        self.stream == other.stream
            && self.reason == other.reason
            && self.access == other.access
            && self.address.map(Gpa::frame) == other.address.map(Gpa::frame)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownStream => "the stream is unknown",
            Self::NotAttached => "the stream belongs to no domain",
            Self::Translation => "nothing is mapped there",
            Self::AddressSize => "the address has too many bits",
            Self::AccessFlag => "the access flag is clear",
            Self::Permission => "it is not allowed there",
            Self::Unsupported => "transactions of that kind are not allowed",
            Self::TableFetch => "the IOMMU's tables could not be read",
            Self::Conflict => "the IOMMU's tables contradict each other",
            Self::Other(event) => return write!(f, "event {event:#x}"),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tried = match self.access {
            Some(Access::Read) => "read",
            Some(Access::Write) => "write",
            None => "access",
        };
        write!(f, "{}: {tried}", self.stream)?;
        if let Some(address) = self.address {
            write!(f, " at {address}")?;
        }
        write!(f, ": {}", self.reason)?;
        if self.count > 1 {
            write!(f, " ({} times)", self.count)?;
        }
        Ok(())
    }
}

/// Records that can wait to be taken.
const CAPACITY: usize = 64;

/// The faults that nobody has taken yet.
#[derive(Debug, Default)]
pub struct FaultLog {
    waiting: ArrayVec<Fault, CAPACITY>,
    lost: u64,
}

impl FaultLog {
    /// No faults.
    pub const fn new() -> Self {
        Self {
            waiting: ArrayVec::new_const(),
            lost: 0,
        }
    }

    /// Adds a fault to the record of its kind, or as a new one; without room it is only counted.
    pub fn record(&mut self, fault: Fault) {
        // Faults come in runs: the newest record is the likeliest.
        let like = self
            .waiting
            .iter_mut()
            .rev()
            .find(|other| other.is_like(&fault));
        if let Some(like) = like {
            like.count = like.count.saturating_add(fault.count);
        } else if self.waiting.try_push(fault).is_err() {
            self.lost = self.lost.saturating_add(fault.count);
        }
    }

    /// Counts events of which nothing is known.
    pub fn lose(&mut self, events: u64) {
        self.lost = self.lost.saturating_add(events);
    }

    /// The oldest record, which is dropped here.
    pub fn take(&mut self) -> Option<Fault> {
        self.waiting.pop_at(0)
    }

    /// How many faults were only counted, since the last call.
    pub fn take_lost(&mut self) -> u64 {
        core::mem::take(&mut self.lost)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;

    fn fault(stream: u32, address: u64) -> Fault {
        Fault {
            stream: StreamId::new(stream),
            reason: Reason::Translation,
            access: Some(Access::Write),
            address: Some(Gpa::new(address)),
            count: 1,
        }
    }

    #[test]
    fn faults_of_one_page_are_one_record() {
        let mut log = FaultLog::new();
        for offset in (0..0x1000).step_by(4) {
            log.record(fault(8, 0x4000 + offset));
        }
        log.record(fault(9, 0x4000));
        log.record(fault(8, 0x5000));
        log.record(Fault {
            access: Some(Access::Read),
            ..fault(8, 0x4000)
        });
        let first = log.take().unwrap();
        assert_eq!(
            first,
            Fault {
                count: 1024,
                ..fault(8, 0x4000)
            }
        );
        assert_eq!(
            first.to_string(),
            "stream 0x8: write at 0x4000: nothing is mapped there (1024 times)"
        );
        assert_eq!(log.take(), Some(fault(9, 0x4000)));
        assert_eq!(log.take(), Some(fault(8, 0x5000)));
        assert_eq!(log.take().unwrap().access, Some(Access::Read));
        assert_eq!(log.take(), None);
    }

    #[test]
    fn a_storm_leaves_a_bounded_record_and_a_count() {
        let mut log = FaultLog::new();
        for page in 0..1000 {
            log.record(fault(1, page << 12));
        }
        assert_eq!(log.take_lost(), 1000 - CAPACITY as u64);
        assert_eq!(log.take_lost(), 0);
        assert_eq!(core::iter::from_fn(|| log.take()).count(), CAPACITY);
    }
}
