//! The domains that there are, by id.

use alloc::sync::Arc;

use smmu::Vmid;
use xen_abi::DomId;

use super::Domain;
use crate::lock::IrqLock;

/// Domains at a time. A domain's place is the remainder of its id, so that finding one costs the
/// same however many there are, and its place says which VMID it has.
const PLACES: u16 = 128;

/// What is at a place.
enum Place {
    Free,
    /// A domain of this id is being made, which nobody finds yet.
    Taken(DomId),
    Domain(Arc<Domain>),
}

impl Place {
    fn id(&self) -> Option<DomId> {
        match self {
            Self::Free => None,
            Self::Taken(id) => Some(*id),
            Self::Domain(domain) => Some(domain.id),
        }
    }
}

static TABLE: [IrqLock<Place>; PLACES as usize] =
    [const { IrqLock::new(Place::Free) }; PLACES as usize];
/// The id that was given last.
static LAST: IrqLock<DomId> = IrqLock::new(DomId::new(0));

/// An id cannot be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Taken {
    /// There is a domain with this id.
    #[error("there is a domain {0}")]
    Same(DomId),
    /// Another one has its place.
    #[error("the place of {0} among the domains is taken")]
    Place(DomId),
    /// There are as many domains as there can be.
    #[error("there are {PLACES} domains, and no room for more")]
    Full,
}

fn place(id: DomId) -> &'static IrqLock<Place> {
    static NONE: IrqLock<Place> = IrqLock::new(Place::Free);
    TABLE.get(usize::from(id.get() % PLACES)).unwrap_or(&NONE)
}

/// The domain with this id.
pub fn lookup(id: DomId) -> Option<Arc<Domain>> {
    match &*place(id).lock() {
        Place::Domain(domain) if domain.id == id => Some(domain.clone()),
        _ => None,
    }
}

/// The id of a domain, taken before it is made and free again when this goes: with the last who knows
/// the domain.
pub struct Reserved(DomId);

impl Reserved {
    /// This id.
    ///
    /// # Errors
    /// [`Taken`].
    pub fn id(id: DomId) -> Result<Self, Taken> {
        let mut place = place(id).lock();
        match place.id() {
            None => {
                *place = Place::Taken(id);
                Ok(Self(id))
            }
            Some(other) if other == id => Err(Taken::Same(id)),
            Some(_) => Err(Taken::Place(id)),
        }
    }

    /// The next one that is free after the last one given.
    ///
    /// # Errors
    /// [`Taken::Full`].
    pub fn any() -> Result<Self, Taken> {
        let mut last = LAST.lock();
        let mut id = *last;
        for _ in 0..PLACES {
            let next = id.get().wrapping_add(1);
            // The control domain's is never given.
            id = DomId::new(if next < DomId::FIRST_RESERVED {
                next
            } else {
                1
            });
            if let Ok(reserved) = Self::id(id) {
                *last = id;
                return Ok(reserved);
            }
        }
        Err(Taken::Full)
    }

    /// The id.
    pub const fn get(&self) -> DomId {
        self.0
    }

    /// By which TLBs know the domain. Nobody else has it while the id is taken.
    pub const fn vmid(&self) -> Vmid {
        Vmid::new(self.0.get() % PLACES + 1)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        *place(self.0).lock() = Place::Free;
    }
}

/// Lets others find a domain.
pub fn insert(domain: &Arc<Domain>) {
    *place(domain.id).lock() = Place::Domain(domain.clone());
}

/// Nobody finds a domain any more. Returns whether somebody could until now.
pub fn remove(id: DomId) -> bool {
    let mut place = place(id).lock();
    if !matches!(&*place, Place::Domain(domain) if domain.id == id) {
        return false;
    }
    let gone = core::mem::replace(&mut *place, Place::Taken(id));
    drop(place);
    // Not under the lock: it may be the last one who knows the domain.
    drop(gone);
    true
}

/// The first domain with this id or a higher one.
pub fn next(from: DomId) -> Option<Arc<Domain>> {
    let mut from = from;
    loop {
        let ids = TABLE.iter().filter_map(|place| place.lock().id());
        let id = ids.filter(|id| *id >= from).min()?;
        if let Some(domain) = lookup(id) {
            return Some(domain);
        }
        from = DomId::new(id.get().checked_add(1)?);
    }
}

/// How many domains there are, and those that are being made or on their way out.
pub fn count() -> usize {
    let taken = |place: &&IrqLock<Place>| place.lock().id().is_some();
    TABLE.iter().filter(taken).count()
}
