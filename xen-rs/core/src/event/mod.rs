//! Event channels with the two-level ABI (Xen's `event_channel.h`).
//!
//! A domain has a [`PortTable`]. A port is unbound (waits for one domain to bind to it), bound to
//! a port of a domain (its own or another), to a virtual interrupt, or notifies a vCPU of its own
//! domain. The bits that say which ports have news lie in a page of the guest, reached through
//! [`SharedPage`].
//!
//! | module | holds |
//! |---|---|
//! | `port` | numbers that are known to be in range |
//! | `page` | the order in which a guest is told |
//! | `table` | one domain's ports and what happens in one domain alone |
//! | `channel` | what concerns two domains: bind, send, close, reset |
//!
//! Nothing here calls hardware: what an operation did to a guest is returned as [`Raised`], and
//! the caller raises the event interrupt and wakes pollers. The FIFO ABI and physical interrupts
//! are not supported; Linux falls back to what is here.

extern crate alloc;

mod channel;
mod error;
mod page;
mod port;
mod table;

pub use channel::{
    Caller, Domains, Pair, Side, alloc_unbound, bind_interdomain, close, close_some,
    is_device_connected, raise_virq, reset, send, send_for_device, status,
};
pub use error::EventError;
pub use page::{Raised, SharedPage, vcpu_info_moved};
pub use port::{Port, VcpuId, Virq, VirqKind};
pub use table::{PortState, PortTable, Status};

#[cfg(test)]
mod tests;
