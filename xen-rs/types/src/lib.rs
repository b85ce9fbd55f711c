//! The words that all rooms share: addresses, frames, interrupt ids and CPU affinities.
//!
//! Different things have different types, so that a guest's address cannot be used where a host's
//! is meant, nor a frame number where bytes are. The types hold values and checked arithmetic and
//! nothing else.

#![no_std]

mod address;
mod affinity;
mod interrupt;

pub use address::{
    Gfn, Gpa, GpaRange, Hpa, HpaRange, Mfn, PAGE_SHIFT, PAGE_SIZE, PhysicalAddress, Range,
};
pub use affinity::Affinity;
pub use interrupt::{IntId, Interrupt, Lpi, Ppi, Sgi, Spi, Trigger};
