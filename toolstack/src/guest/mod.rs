//! Guests, made of what their configurations say.
//!
//! [`Blueprint`] is all that can be known without a hypervisor: the files are there and make sense,
//! and each piece has its place in the guest's memory. [`build`](build::build) makes the domain.

mod blueprint;
mod build;
mod image;
mod memory;
mod place;
#[cfg(test)]
mod tests;

pub use blueprint::{Blueprint, BlueprintError};
pub use build::{BuildError, Built, Channel, Watch, build};
pub use image::{ImageError, ImageHeader, Kernel};
pub use memory::{Extent, Memory};
pub use place::{NoPlace, Placement};
