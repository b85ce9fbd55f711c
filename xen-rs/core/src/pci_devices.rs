//! The PCI functions that the control domain has told the hypervisor of (`PHYSDEVOP_pci_device_add`
//! and its older forms, Xen's `physdev.h`).

extern crate alloc;

use alloc::vec::Vec;

use pci_host::HostSbdf;
use xen_abi::Errno;

/// The most functions that are remembered.
pub const MAX_FUNCTIONS: usize = 4096;

/// What kind of function it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An ordinary one.
    Function,
    /// One of more than eight of a device (ARI).
    Extended,
    /// A virtual function, and the physical one that it belongs to.
    Virtual(HostSbdf),
}

impl Kind {
    /// By the flags of the ABI; `physical` counts for a virtual function only.
    pub const fn of(is_virtual: bool, is_extended: bool, physical: HostSbdf) -> Self {
        if is_virtual {
            Self::Virtual(physical)
        } else if is_extended {
            Self::Extended
        } else {
            Self::Function
        }
    }

    /// Whether a function can be of this kind whose physical function is known; `None` for one that
    /// is not virtual.
    pub fn agrees(self, physical: Option<HostSbdf>) -> bool {
        match self {
            Self::Virtual(said) => physical == Some(said),
            Self::Function | Self::Extended => physical.is_none(),
        }
    }
}

/// Whether a function was known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// It was not.
    New,
    /// It was; Linux tells of all again after it has scanned a bus again.
    Known,
}

/// Why a function is not remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DeviceError {
    /// A virtual function of itself, or of one that nobody has told of.
    #[error("{0} is said to be a virtual function of {1}, which is not known")]
    NoPhysical(HostSbdf, HostSbdf),
    /// No room or no memory.
    #[error("{0} is one function more than can be kept track of")]
    TooMany(HostSbdf),
}

impl DeviceError {
    /// What the control domain is told.
    pub const fn errno(self) -> Errno {
        match self {
            Self::NoPhysical(..) => Errno::NoDevice,
            Self::TooMany(_) => Errno::NoMemory,
        }
    }
}

/// The functions that are known, by name.
#[derive(Debug, Default)]
pub struct Devices(Vec<(HostSbdf, Kind)>);

impl Devices {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    fn place(&self, function: HostSbdf) -> Result<usize, usize> {
        self.0.binary_search_by_key(&function, |(known, _)| *known)
    }

    /// Remembers a function; what it is may have changed.
    ///
    /// # Errors
    /// [`DeviceError`].
    pub fn add(&mut self, function: HostSbdf, kind: Kind) -> Result<Found, DeviceError> {
        if let Kind::Virtual(physical) = kind
            && (physical == function || !self.contains(physical))
        {
            return Err(DeviceError::NoPhysical(function, physical));
        }
        match self.place(function) {
            Ok(place) => {
                if let Some(known) = self.0.get_mut(place) {
                    known.1 = kind;
                }
                Ok(Found::Known)
            }
            Err(place) => {
                let too_many = DeviceError::TooMany(function);
                if self.0.len() >= MAX_FUNCTIONS {
                    return Err(too_many);
                }
                self.0.try_reserve(1).map_err(|_| too_many)?;
                self.0.insert(place, (function, kind));
                Ok(Found::New)
            }
        }
    }

    /// Forgets a function; says whether it was known.
    pub fn remove(&mut self, function: HostSbdf) -> bool {
        let place = self.place(function);
        place.map(|place| self.0.remove(place)).is_ok()
    }

    /// Whether a function is known.
    pub fn contains(&self, function: HostSbdf) -> bool {
        self.place(function).is_ok()
    }

    /// All functions that are known.
    pub fn names(&self) -> impl Iterator<Item = HostSbdf> {
        self.0.iter().map(|(known, _)| *known)
    }

    /// What a function is.
    pub fn kind(&self, function: HostSbdf) -> Option<Kind> {
        self.0.get(self.place(function).ok()?).map(|known| known.1)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use pci_host::RequesterId;
    use proptest::prelude::*;

    use super::*;

    fn function(segment: u16, bits: u16) -> HostSbdf {
        HostSbdf::new(segment, RequesterId::from_bits(bits))
    }

    #[test]
    fn a_virtual_function_belongs_to_one_that_is_known() {
        let mut devices = Devices::new();
        let physical = function(0, 0x100);
        let function = function(0, 0x180);
        let unknown = Err(DeviceError::NoPhysical(function, physical));
        assert_eq!(devices.add(function, Kind::Virtual(physical)), unknown);
        assert_eq!(devices.add(physical, Kind::Function), Ok(Found::New));
        let itself = devices.add(physical, Kind::Virtual(physical));
        assert!(itself.is_err());
        assert_eq!(
            devices.add(function, Kind::Virtual(physical)),
            Ok(Found::New)
        );
        assert_eq!(devices.kind(function), Some(Kind::Virtual(physical)));
        assert!(Kind::Virtual(physical).agrees(Some(physical)));
        assert!(!Kind::Virtual(physical).agrees(None) && !Kind::Function.agrees(Some(physical)));
        assert!(Kind::Extended.agrees(None));
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let mut devices = Devices::new();
        for number in 0..MAX_FUNCTIONS {
            let new = function(0, number as u16);
            assert_eq!(devices.add(new, Kind::Function), Ok(Found::New));
        }
        let more = function(7, 0);
        let too_many = Err(DeviceError::TooMany(more));
        assert_eq!(devices.add(more, Kind::Function), too_many);
        assert!(devices.remove(function(0, 0x304)));
        assert_eq!(devices.add(more, Kind::Function), Ok(Found::New));
    }

    proptest! {
        #[test]
        fn it_is_a_set(steps in prop::collection::vec((any::<bool>(), 0..4u16, 0..4u8), 0..100)) {
            let mut devices = Devices::new();
            let mut model = std::collections::BTreeSet::new();
            for (add, segment, bus) in steps {
                let function = function(segment, u16::from(bus) << 8 | 8);
                if add {
                    let new = devices.add(function, Kind::Function).unwrap() == Found::New;
                    prop_assert_eq!(new, model.insert(function));
                } else {
                    prop_assert_eq!(devices.remove(function), model.remove(&function));
                }
                for function in &model {
                    prop_assert!(devices.contains(*function));
                }
            }
        }
    }
}
