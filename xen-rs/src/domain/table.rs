//! The domains that there are, by id.

use alloc::sync::Arc;

use xen_abi::DomId;

use super::Domain;
use crate::lock::IrqLock;

/// Domains at a time. A domain's place is the remainder of its id, so that finding one costs the
/// same however many there are.
const PLACES: usize = 128;

type Place = IrqLock<Option<Arc<Domain>>>;

static TABLE: [Place; PLACES] = [const { IrqLock::new(None) }; PLACES];

/// There is a domain with this id, or one that has its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the place of {0} among the domains is taken")]
pub struct Taken(DomId);

fn place(id: DomId) -> Option<&'static Place> {
    TABLE.get(usize::from(id.get()) % PLACES)
}

/// The domain with this id.
pub fn lookup(id: DomId) -> Option<Arc<Domain>> {
    let place = place(id)?.lock();
    place.as_ref().filter(|domain| domain.id == id).cloned()
}

/// Lets others find a domain.
///
/// # Errors
/// [`Taken`].
pub fn insert(domain: Arc<Domain>) -> Result<(), Taken> {
    let mut place = place(domain.id).ok_or(Taken(domain.id))?.lock();
    if place.is_some() {
        return Err(Taken(domain.id));
    }
    *place = Some(domain);
    Ok(())
}
