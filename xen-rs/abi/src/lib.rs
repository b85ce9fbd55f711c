//! The Xen 4.20 public ABI for arm64 as plain Rust types: layouts and numbers, no logic.
//!
//! Each item names the public header of Xen that defines it.

#![no_std]

mod domain;

pub use domain::DomId;
