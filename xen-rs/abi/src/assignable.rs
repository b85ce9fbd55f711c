//! PCI functions that can be given to guests: the list that the hypervisor keeps. Xen has no such
//! thing: this is a sysctl of a number far from Xen's.

use crate::{DomId, GuestHandle};

/// The operation's number in a [`Sysctl`](crate::sysctl::Sysctl).
pub const SYSCTL_ASSIGNABLE: u32 = 0x5852_0001;

numbers! {
    /// What is asked for ([`Assignable::command`]).
    pub enum AssignableCommand: u32 {
        /// A function becomes assignable, or the control domain's again: as `state` says.
        Set = 1,
        /// The state of a function.
        Get = 2,
        /// All functions of the machine, each with its state.
        List = 3,
    }

    /// Whose a function is.
    pub enum FunctionState: u32 {
        /// The control domain's.
        ControlDomain = 0,
        /// Nobody's: it is assignable, after a reset if it needs one.
        Assignable = 1,
        /// A guest's.
        Guest = 2,
        /// Nobody's, and it stays so: its reset failed.
        Broken = 3,
    }

    /// How a function is reset ([`AssignableEntry::reset`]).
    pub enum ResetMethod: u32 {
        /// It cannot be.
        None = 0,
        /// Function level reset of PCI Express.
        FunctionLevel = 1,
        /// Function level reset of conventional PCI's advanced features.
        AdvancedFeatures = 2,
        /// To D3hot and back.
        PowerState = 3,
        /// Reset of all that is behind a bridge ([`AssignableEntry::bridge`]).
        SecondaryBus = 4,
    }
}

layout! {
    /// The payload of the operation.
    pub struct Assignable: 32 {
        /// An [`AssignableCommand`].
        0 command: u32,
        /// Of `Set` and `Get`: the function, `segment << 16 | bus << 8 | devfn`.
        4 sbdf: u32,
        /// Of `Set`, in, and `Get`, out: a [`FunctionState`].
        8 state: u32,
        /// Of `List`: in, room for so many; out, how many there are.
        12 count: u32,
        /// Of `List`: where they go, an [`AssignableEntry`] each; null asks for the number. Of `Get`
        /// and `Set`: where the function's goes, also when `Set` fails, which its `reason` then
        /// explains; null for nowhere.
        16 entries: GuestHandle,
        /// Of `List`: the first number that is wanted, in the order of their names.
        24 first: u32,
        /// Padding.
        28 pad: u32,
    }

    /// A function in a list.
    pub struct AssignableEntry: 160 {
        /// The function, as in [`Assignable::sbdf`].
        0 sbdf: u32,
        /// A [`FunctionState`].
        4 state: u32,
        /// Of a guest's: which.
        8 domain: DomId,
        /// PCI vendor id.
        10 vendor: u16,
        /// PCI device id.
        12 device: u16,
        /// Of a guest's: where the guest sees it, `bus << 8 | devfn` of its segment 0.
        14 virtual_bdf: u16,
        /// Class code, 24 bits.
        16 class: u32,
        /// The group that moves as one: the name of its first function.
        20 group: u32,
        /// The gentlest [`ResetMethod`].
        24 reset: u32,
        /// For a reset of a bus: the bridge to it.
        28 bridge: u32,
        /// Why it cannot be assigned, in words; zeros follow, and are all where nothing is in the way.
        32 reason: [u8; REASON],
    }
}

/// Bytes of a reason.
pub const REASON: usize = 128;
