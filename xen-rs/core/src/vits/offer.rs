//! Device ids that a domain may use for devices that it finds itself.

use super::VitsError;
use super::alloc::vec::Vec;
use super::device::GuestDeviceId;
use crate::its::DeviceId;

/// Ids side by side that a domain may use, and what they are on the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The domain's first id.
    pub first: GuestDeviceId,
    /// Its last.
    pub last: GuestDeviceId,
    /// Which of the host's ITSs the devices' messages go to.
    pub its: usize,
    /// What that ITS calls the first.
    pub host: DeviceId,
}

impl Offer {
    fn device(&self, id: GuestDeviceId) -> Option<(usize, DeviceId)> {
        if id > self.last {
            return None;
        }
        let place = id.0.checked_sub(self.first.0)?;
        Some((self.its, DeviceId(self.host.0.checked_add(place)?)))
    }
}

/// All that a domain is offered.
#[derive(Debug)]
pub struct Offers {
    offers: Vec<Offer>,
    /// Ascending.
    withdrawn: Vec<GuestDeviceId>,
}

impl Offers {
    /// Nothing.
    pub const fn new() -> Self {
        Self {
            offers: Vec::new(),
            withdrawn: Vec::new(),
        }
    }

    /// Offers some.
    pub fn add(&mut self, offer: Offer) -> Result<(), VitsError> {
        let room = self.offers.try_reserve(1);
        room.map_err(|_| VitsError::OutOfMemory)?;
        self.offers.push(offer);
        Ok(())
    }

    /// Takes one back.
    pub fn withdraw(&mut self, id: GuestDeviceId) -> Result<(), VitsError> {
        if let Err(place) = self.withdrawn.binary_search(&id) {
            let room = self.withdrawn.try_reserve(1);
            room.map_err(|_| VitsError::OutOfMemory)?;
            self.withdrawn.insert(place, id);
        }
        Ok(())
    }

    /// Offers one again that was taken back.
    pub fn restore(&mut self, id: GuestDeviceId) {
        if let Ok(place) = self.withdrawn.binary_search(&id) {
            self.withdrawn.remove(place);
        }
    }

    /// The host's ITS and device that an id means; `None` where it is not offered.
    pub fn device(&self, id: GuestDeviceId) -> Option<(usize, DeviceId)> {
        if self.withdrawn.binary_search(&id).is_ok() {
            return None;
        }
        self.offers.iter().find_map(|offer| offer.device(id))
    }
}
