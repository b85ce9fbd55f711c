//! `xrs`: creates, watches and ends guests.
//!
//! [`config`] reads what a guest is to be, [`guest`] makes a domain of it, [`hypervisor`] has the calls
//! for that. [`state`] keeps what the hypervisor does not: names, and who takes care of a guest, which
//! is a [`monitor`] as soon as the guest is made. [`console`] is how a guest is talked to, [`commands`]
//! what people type. [`pci`] is how functions leave the control domain for guests.

pub mod cli;
pub mod commands;
pub mod config;
pub mod console;
pub mod failure;
pub mod guest;
pub mod guests;
pub mod hypervisor;
pub mod monitor;
pub mod pci;
pub mod signals;
pub mod state;
