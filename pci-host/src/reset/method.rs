//! The ways in which a function can be reset.

use alloc::vec::Vec;
use core::fmt;

use crate::group::GroupId;
use crate::{Device, HostSbdf};

/// A way to reset a function, the gentlest first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Method {
    /// Function level reset of PCI Express (PCI Express Base 6.0, 6.6.2).
    FunctionLevel,
    /// Function level reset of conventional PCI's advanced features.
    AdvancedFeatures,
    /// To D3hot and back, where that loses the function's state (5.3.1.4).
    PowerState,
    /// Reset of all that is behind this bridge (6.6.1; PCI-to-PCI Bridge Architecture 1.2,
    /// 3.2.5.17).
    SecondaryBus(HostSbdf),
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FunctionLevel => f.write_str("FLR"),
            Self::AdvancedFeatures => f.write_str("AF FLR"),
            Self::PowerState => f.write_str("D3hot"),
            Self::SecondaryBus(bridge) => write!(f, "bus reset below {bridge}"),
        }
    }
}

/// The ways that there are to reset `target`, the gentlest first. A reset of a whole bus is one of
/// them if all that is behind the bridge moves with `target`. `devices` are in the order of their
/// names, `groups` are theirs.
pub fn methods(devices: &[Device], groups: &[GroupId], target: &Device) -> Vec<Method> {
    let mut methods = Vec::new();
    if target.is_bridge() {
        return methods;
    }
    if target
        .express
        .is_some_and(|express| express.function_level_reset)
    {
        methods.push(Method::FunctionLevel);
    }
    if target.advanced_features.is_some() {
        methods.push(Method::AdvancedFeatures);
    }
    // A virtual function's power state is not its state (9.6.2).
    let loses_state = target.power.is_some_and(|power| !power.no_soft_reset);
    if loses_state && target.physical.is_none() {
        methods.push(Method::PowerState);
    }
    let bridge = target.parent.filter(|_| target.physical.is_none());
    let bridge = bridge.filter(|bridge| moves_as_one(devices, groups, *bridge));
    methods.extend(bridge.map(Method::SecondaryBus));
    methods
}

/// All that a bridge leads to, in the order of `devices`.
pub fn behind(devices: &[Device], bridge: HostSbdf) -> impl Iterator<Item = (usize, &Device)> {
    let mut inside = alloc::vec![bridge];
    // A bridge has a lower bus number than what is behind it: it comes first.
    devices.iter().enumerate().filter(move |(_, device)| {
        let is_behind = device.parent.is_some_and(|parent| inside.contains(&parent));
        if is_behind && device.is_bridge() {
            inside.push(device.sbdf);
        }
        is_behind
    })
}

/// Whether all that is behind a bridge is one group, or the only function there.
fn moves_as_one(devices: &[Device], groups: &[GroupId], bridge: HostSbdf) -> bool {
    let mut first = None;
    let functions = behind(devices, bridge);
    let mut functions = functions.filter(|(_, device)| !device.is_bridge());
    functions.all(|(place, _)| {
        let group = groups.get(place);
        group.is_some() && *first.get_or_insert(group) == group
    })
}
