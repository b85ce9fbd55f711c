//! IOMMU drivers behind one trait: SMMUv1 and v2, SMMUv3, IPMMU-VMSA. So far SMMUv3 ([`v3`]).
//!
//! An IOMMU tells devices apart by [`StreamId`]. Each stream either reaches what the stage 2 of one
//! domain maps ([`Stage2`], the tables that the CPUs use) or nothing ([`Iommu`]). What was unmapped
//! is free only once neither CPUs nor IOMMUs can reach it ([`forget()`]).
//!
//! Hardware lies behind small traits ([`Registers`], [`DmaMemory`], [`Clock`]), so that drivers run
//! on the host against IOMMUs in software (`simulated`).

#![no_std]

#[cfg(any(test, feature = "simulated"))]
extern crate std;

mod error;
mod fault;
mod forget;
mod hardware;
mod iommu;
#[cfg(any(test, feature = "simulated"))]
pub mod simulated;
mod stage2;
mod stream;
pub mod v3;

pub use error::IommuError;
pub use fault::{Access, Fault, FaultLog, Reason};
pub use forget::{Translators, forget};
pub use hardware::{Clock, DmaMemory, Hardware, Registers};
pub use iommu::{Invalidation, Iommu, Service};
pub use stage2::{Stage2, Stage2Refused, Vmid, Walk};
pub use stream::StreamId;
