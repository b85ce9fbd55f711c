//! A domain's parameters (Xen's `hvm/params.h`): where its console and store are.

use xen_abi::Errno;
use xen_abi::hvm::{Param, callback_by_ppi};
use xen_types::Ppi;

/// How many can be set.
const SETTABLE: usize = 5;

/// The parameters of one domain. What nobody has set reads as 0: for the store of a control domain
/// that says that it runs the store itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parameters {
    event_ppi: Ppi,
    values: [u64; SETTABLE],
}

impl Parameters {
    /// Of a domain that hears of events by this interrupt.
    pub const fn new(event_ppi: Ppi) -> Self {
        Self {
            event_ppi,
            values: [0; SETTABLE],
        }
    }

    /// Reads a parameter, for the domain itself (`own`) or for its toolstack.
    ///
    /// # Errors
    /// `EINVAL` for one that does not exist, `EPERM` for one that the domain itself does not see.
    pub fn get(&self, index: u32, own: bool) -> Result<u64, Errno> {
        let param = Param::from_number(index).ok_or(Errno::Invalid)?;
        if own && param == Param::MonitorRingPfn {
            return Err(Errno::NotPermitted);
        }
        let value = place(param).and_then(|place| self.values.get(place));
        Ok(value
            .copied()
            .unwrap_or_else(|| callback_by_ppi(self.event_ppi.intid() as u8)))
    }

    /// Sets a parameter.
    ///
    /// # Errors
    /// `EINVAL` for one that does not exist and for a value that it cannot have, `EPERM` for a
    /// domain's own.
    pub fn set(&mut self, index: u32, value: u64, own: bool) -> Result<(), Errno> {
        let param = Param::from_number(index).ok_or(Errno::Invalid)?;
        if own {
            return Err(Errno::NotPermitted);
        }
        // Toolstacks say how the domain hears of events, which is how it does anyway.
        if param == Param::CallbackIrq {
            let same = value == callback_by_ppi(self.event_ppi.intid() as u8);
            return if same { Ok(()) } else { Err(Errno::Invalid) };
        }
        let place = place(param).and_then(|place| self.values.get_mut(place));
        *place.ok_or(Errno::NotPermitted)? = value;
        Ok(())
    }
}

/// Where a parameter that can be set is kept.
const fn place(param: Param) -> Option<usize> {
    match param {
        Param::StorePfn => Some(0),
        Param::StoreEvtchn => Some(1),
        Param::ConsolePfn => Some(2),
        Param::ConsoleEvtchn => Some(3),
        Param::MonitorRingPfn => Some(4),
        Param::CallbackIrq => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PPI: Ppi = Ppi::new(15).unwrap();

    #[test]
    fn unset_parameters_are_zero_and_a_domain_cannot_set_its_own() {
        let mut parameters = Parameters::new(PPI);
        for param in [Param::StorePfn, Param::StoreEvtchn, Param::ConsoleEvtchn] {
            let index = param.number();
            assert_eq!(parameters.get(index, true), Ok(0));
            assert_eq!(parameters.set(index, 5, true), Err(Errno::NotPermitted));
            assert_eq!(parameters.get(index, true), Ok(0));
            assert_eq!(parameters.set(index, 7 + u64::from(index), false), Ok(()));
        }
        let port = parameters.get(Param::StoreEvtchn.number(), true);
        assert_eq!(port, Ok(9));
    }

    #[test]
    fn the_callback_is_the_event_interrupt() {
        let mut parameters = Parameters::new(PPI);
        let index = Param::CallbackIrq.number();
        assert_eq!(parameters.get(index, true), Ok(0x0200_0000_0000_021f));
        assert_eq!(parameters.set(index, 0, false), Err(Errno::Invalid));
        assert_eq!(parameters.set(index, 0x0200_0000_0000_021f, false), Ok(()));
    }

    #[test]
    fn what_is_no_parameter_is_refused() {
        let mut parameters = Parameters::new(PPI);
        for index in (0..100).filter(|index| Param::from_number(*index).is_none()) {
            assert_eq!(parameters.get(index, true), Err(Errno::Invalid));
            assert_eq!(parameters.set(index, 1, false), Err(Errno::Invalid));
        }
        let ring = Param::MonitorRingPfn.number();
        assert_eq!(parameters.get(ring, true), Err(Errno::NotPermitted));
        assert_eq!(parameters.get(ring, false), Ok(0));
    }
}
