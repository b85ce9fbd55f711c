//! What the tests that boot the image in QEMU have in common.
//!
//! `cargo xtask test` gives them the image and Debian's packages through the environment; without
//! it they are skipped and say so.

pub mod artifacts;
pub mod case;
pub mod devices;
pub mod dtb;
pub mod fleet;
pub mod http;
pub mod modules;
pub mod monitor;
pub mod payload;
pub mod ramdisk;
pub mod stub;
