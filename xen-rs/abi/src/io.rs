//! Rings that a domain shares with its console and its store (`io/console.h`, `io/xs_wire.h`).
//!
//! Both sides change them at the same time: these are offsets for atomic accesses, not structures
//! to be copied. Indices count bytes and wrap at 32 bits.

/// The console's page (`xencons_interface`).
pub mod console {
    /// Where input of the guest lies.
    pub const IN: usize = 0;
    /// Bytes of input.
    pub const IN_SIZE: usize = 1024;
    /// Where output of the guest lies.
    pub const OUT: usize = 1024;
    /// Bytes of output.
    pub const OUT_SIZE: usize = 2048;
    /// How far the guest has read.
    pub const IN_CONS: usize = 3072;
    /// How far input is written.
    pub const IN_PROD: usize = 3076;
    /// How far output is read.
    pub const OUT_CONS: usize = 3080;
    /// How far the guest has written.
    pub const OUT_PROD: usize = 3084;
}

/// The store's page (`xenstore_domain_interface`).
pub mod xenstore {
    /// Where requests lie.
    pub const REQ: usize = 0;
    /// Where responses and watch events lie.
    pub const RSP: usize = 1024;
    /// Bytes of each.
    pub const RING_SIZE: usize = 1024;
    /// How far requests are read.
    pub const REQ_CONS: usize = 2048;
    /// How far requests are written.
    pub const REQ_PROD: usize = 2052;
    /// How far responses are read.
    pub const RSP_CONS: usize = 2056;
    /// How far responses are written.
    pub const RSP_PROD: usize = 2060;
    /// What the store can do.
    pub const SERVER_FEATURES: usize = 2064;
    /// Whether the connection is up: 0 is.
    pub const CONNECTION: usize = 2068;
    /// What went wrong.
    pub const ERROR: usize = 2072;
}
