//! The host: two simulated ITSs and their driver.

use std::sync::Mutex;

use xen_abi::DomId;
use xen_core::its::simulated::{ItsRegisters, Kind, Machine};
use xen_core::its::{Config, DeviceId, EventId, Its, ItsError, Lpis, Owner, Services};
use xen_core::vgic::{Lock, Locking};
use xen_types::Lpi;

pub const CPUS: u16 = 4;
/// Bits of INTIDs.
const ID_BITS: u8 = 14;
const LPIS: u32 = (1 << ID_BITS) - Lpi::FIRST;
/// What both ITSs call the device that a domain calls 0.
pub const FIRST_DEVICE: u32 = 0x100;
/// Devices of a domain.
pub const DEVICES: u32 = 16;

pub enum HostLocks {}

impl Locking for HostLocks {
    type Lock<T> = HostLock<T>;
}

pub struct HostLock<T>(Mutex<T>);

impl<T> Lock<T> for HostLock<T> {
    fn new(value: T) -> Self {
        Self(Mutex::new(value))
    }

    fn with<R>(&self, call: impl FnOnce(&mut T) -> R) -> R {
        call(&mut self.0.lock().unwrap())
    }
}

pub struct Host {
    pub machine: Machine,
    pub services: Services<ItsRegisters, HostLocks>,
    hangs: [bool; 2],
    /// An ITS has lost commands: what the driver knows of it may be wrong.
    pub has_hung: bool,
}

impl Host {
    pub fn new() -> Self {
        let kind = Kind {
            speed: 8,
            ..Kind::default()
        };
        let mut machine = Machine::new(&[kind, kind], CPUS);
        let config = Config {
            coherent: true,
            collections: CPUS,
        };
        let lpis = Lpis::new(&mut machine, ID_BITS, true).unwrap();
        let mut services = Services::new(lpis, CPUS.into()).unwrap();
        for number in 0..2 {
            let its = Its::start(machine.its(number), &mut machine, config).unwrap();
            services.add(its, None).unwrap();
        }
        for number in 0..CPUS {
            let (registers, name) = (machine.redistributor(number), machine.name_of(number));
            let refused = |_, error| panic!("{error}");
            let enabled =
                services.enable_on(&mut machine, number.into(), &registers, name, refused);
            assert_eq!(enabled, Ok(()));
        }
        Self {
            machine,
            services,
            hangs: [false; 2],
            has_hung: false,
        }
    }

    /// An ITS hangs, or goes on if it does.
    pub fn hang(&mut self, its: usize) {
        self.hangs[its] ^= true;
        self.has_hung = true;
        self.machine.hang(its, self.hangs[its]);
    }

    /// No ITS hangs.
    pub fn recover(&mut self) {
        for its in 0..2 {
            self.hangs[its] = false;
            self.machine.hang(its, false);
        }
    }

    /// What the driver may answer to what guests make it do.
    pub fn accept(&self, done: Result<(), ItsError>) {
        match done {
            Ok(()) | Err(ItsError::NoMemory { .. }) => {}
            Err(error) => assert!(self.has_hung, "{error}"),
        }
    }

    /// A device of a domain sends a message. Returns who gets interrupts of it.
    pub fn message(&self, domain: usize, device: u32, event: u32) -> Vec<Owner> {
        let device = DeviceId(FIRST_DEVICE + device % DEVICES);
        self.machine.message(domain, device, EventId(event));
        let mut owners = Vec::new();
        for number in 0..CPUS {
            while let Some(intid) = self.machine.take(number) {
                let owner = Lpi::from_intid(intid).and_then(|lpi| self.services.owner_of(lpi));
                assert!(owner.is_some() || self.has_hung, "{intid} is nobody's");
                owners.extend(owner);
            }
        }
        let own = DomId::new(domain as u16);
        assert!(owners.iter().all(|owner| owner.domain == own));
        owners
    }

    /// No device is left: all LPIs are free, and nothing was done that hardware does not allow.
    pub fn end(&mut self) {
        assert_eq!(self.machine.violations(), Vec::<String>::new());
        if self.has_hung {
            return;
        }
        let all = (0..LPIS).filter_map(Lpi::new);
        assert!(all.clone().all(|lpi| self.services.owner_of(lpi).is_none()));
        for device in (0..LPIS / 2048).map(DeviceId) {
            let attached = self.services.attach(&mut self.machine, 0, device, 2048);
            assert!(attached.is_ok(), "{attached:?}");
        }
    }
}
