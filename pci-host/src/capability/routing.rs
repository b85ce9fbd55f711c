//! What decides over isolation: access control services (PCI Express Base 6.0, 6.12 and 7.7.11),
//! alternative routing ids (6.13 and 7.8.8).

use super::at;
use crate::RequesterId;
use crate::config::{ConfigAccess, ConfigOffset, Function};

bitflags::bitflags! {
    /// What access control services can do, and do (7.7.11.2 and 7.7.11.3).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct AcsFlags: u16 {
        /// Requests with a bus number that is not behind the port are refused.
        const SOURCE_VALIDATION = 1 << 0;
        /// Requests that claim to carry translated addresses are refused.
        const TRANSLATION_BLOCKING = 1 << 1;
        /// Requests to peers go to the root instead.
        const REQUEST_REDIRECT = 1 << 2;
        /// Completions to peers go to the root instead.
        const COMPLETION_REDIRECT = 1 << 3;
        /// Requests that were redirected and come back to the port are forwarded.
        const UPSTREAM_FORWARDING = 1 << 4;
        /// Which peers may be reached is a list.
        const EGRESS_CONTROL = 1 << 5;
        /// Translated requests may reach peers.
        const DIRECT_TRANSLATED = 1 << 6;
    }
}

impl AcsFlags {
    /// What isolates, of what a port may have.
    pub const ISOLATION: Self = Self::SOURCE_VALIDATION
        .union(Self::REQUEST_REDIRECT)
        .union(Self::COMPLETION_REDIRECT)
        .union(Self::UPSTREAM_FORWARDING);
    /// What isolates, of what an endpoint may have (6.12.1.2).
    pub const ENDPOINT_ISOLATION: Self = Self::REQUEST_REDIRECT.union(Self::COMPLETION_REDIRECT);
}

/// Access control services.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Acs {
    /// Where they begin.
    pub offset: ConfigOffset,
    /// What they can do.
    pub capable: AcsFlags,
    /// What they do.
    pub enabled: AcsFlags,
}

impl Acs {
    /// Reads the capability at `offset`.
    pub fn read<C: ConfigAccess + ?Sized>(
        function: Function<'_, C>,
        offset: ConfigOffset,
    ) -> Option<Self> {
        let flags = |bits: u16| AcsFlags::from_bits_truncate(bits);
        Some(Self {
            offset,
            capable: flags(function.read(at(offset, 4)?)),
            enabled: flags(function.read(at(offset, 6)?)),
        })
    }

    /// Turns isolation on as far as the function can, and lets nobody past it.
    pub fn isolate<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>) {
        let Some(control) = at::<u16>(self.offset, 6) else {
            return;
        };
        let wanted = (AcsFlags::ISOLATION | AcsFlags::TRANSLATION_BLOCKING) & self.capable;
        function.write(control, wanted.bits());
        self.enabled = AcsFlags::from_bits_truncate(function.read(control)) & self.capable;
    }
}

/// Alternative routing ids.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Ari {
    /// Where they begin.
    pub offset: ConfigOffset,
    /// The device's next function, whose number is larger; `None` for the last.
    pub next: Option<u8>,
}

impl Ari {
    /// Reads the capability at `offset` of `function`.
    pub fn read<C: ConfigAccess + ?Sized>(
        function: Function<'_, C>,
        offset: ConfigOffset,
    ) -> Option<Self> {
        let capability: u16 = function.read(at(offset, 4)?);
        let own: RequesterId = function.sbdf().requester();
        let next = (capability >> 8) as u8;
        // A list that goes back would have no end.
        let next = Some(next).filter(|&next| next > own.devfn());
        Some(Self { offset, next })
    }
}
