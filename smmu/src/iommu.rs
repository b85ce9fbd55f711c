//! What all IOMMU drivers can do.

use xen_types::GpaRange;

use crate::{Fault, IommuError, Stage2, StreamId, Vmid};

/// Which translations of a domain are to be forgotten.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invalidation {
    /// All.
    All,
    /// Those of these addresses, with what is remembered of the tables on the way.
    Range(GpaRange),
}

/// What an IOMMU had to say when it was looked after ([`Iommu::service`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Service {
    /// Events that were read.
    pub events: u32,
    /// Whether more are waiting: call again, after something else had its turn.
    pub more: bool,
    /// Whether events were lost because their queue was full or could not be written.
    pub lost: bool,
    /// Whether the IOMMU has stopped working: nothing behind it reaches memory any more.
    pub failed: bool,
}

/// An IOMMU. Each stream reaches what one domain's stage 2 maps, or nothing, which is how all begin.
///
/// A driver is not shared: its owner holds a lock around it.
pub trait Iommu {
    /// Bits of the stream ids that can be attached.
    fn stream_bits(&self) -> u32;

    /// Whether it sees page tables in the CPUs' caches. If not, a descriptor has to be cleaned to
    /// memory when it changes, before it is invalidated.
    fn sees_caches(&self) -> bool;

    /// Whether it can walk such a stage 2.
    ///
    /// # Errors
    /// Why not.
    fn accepts(&self, stage2: Stage2) -> Result<(), IommuError>;

    /// Gives a stream to a domain: from when this returns, it reaches what `stage2` maps. Where it
    /// reached something else before, it reaches nothing in between.
    ///
    /// # Errors
    /// The stream reaches nothing then, or, where the IOMMU did not answer, still what it reached.
    fn attach(&mut self, stream: StreamId, stage2: Stage2) -> Result<(), IommuError>;

    /// Takes a stream from its domain: when this returns, it reaches nothing. Idempotent.
    ///
    /// # Errors
    /// The IOMMU did not answer: it may still use what it remembers.
    fn detach(&mut self, stream: StreamId) -> Result<(), IommuError>;

    /// The domain that a stream is attached to.
    fn attached_to(&self, stream: StreamId) -> Option<Vmid>;

    /// Begins to forget translations, after their descriptors changed; [`Iommu::sync`] completes it.
    ///
    /// # Errors
    /// The IOMMU did not answer.
    fn invalidate(&mut self, vmid: Vmid, what: Invalidation) -> Result<(), IommuError>;

    /// Completes all that was begun: what was to be forgotten is, and transactions that used it have
    /// ended.
    ///
    /// # Errors
    /// Something was not completed.
    fn sync(&mut self) -> Result<(), IommuError>;

    /// Reads its events and errors, a bounded number; for its interrupt.
    fn service(&mut self) -> Service;

    /// The oldest record of a fault, which is dropped here.
    fn take_fault(&mut self) -> Option<Fault>;

    /// Events whose records were dropped because nobody took them, since the last call.
    fn take_lost(&mut self) -> u64;

    /// The last resort: stops everything behind this IOMMU, for good.
    ///
    /// # Errors
    /// It does not even do that.
    fn fence(&mut self) -> Result<(), IommuError>;
}
