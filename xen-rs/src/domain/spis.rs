//! Shared interrupts of the machine that are guests': whose each is, read without a lock.

use core::sync::atomic::{AtomicU32, Ordering};

use xen_abi::DomId;
use xen_types::Spi;

/// A word: the guest's own interrupt and one, and above it the guest.
const DOMAIN_SHIFT: u32 = 16;

static OWNERS: [AtomicU32; Spi::COUNT as usize] =
    [const { AtomicU32::new(0) }; Spi::COUNT as usize];

/// The guest that has an interrupt, and what it calls it; `None` where no guest has it.
#[inline]
pub fn owner(spi: Spi) -> Option<(DomId, Spi)> {
    let word = OWNERS
        .get(usize::from(spi.number()))?
        .load(Ordering::Acquire);
    let own = (word as u16).checked_sub(1)?;
    Some((
        DomId::new((word >> DOMAIN_SHIFT) as u16),
        Spi::new(own.into())?,
    ))
}

/// Gives an interrupt to a guest before it is enabled, or takes it away after it is disabled.
pub fn set_owner(spi: Spi, owner: Option<(DomId, Spi)>) {
    let word = owner.map_or(0, |(domain, own)| {
        u32::from(domain.get()) << DOMAIN_SHIFT | u32::from(own.number()).wrapping_add(1)
    });
    if let Some(place) = OWNERS.get(usize::from(spi.number())) {
        place.store(word, Ordering::Release);
    }
}
