//! The driver on simulated ITSs of every kind.

extern crate std;

mod driver;
mod faults;
mod properties;
mod services;

use std::vec::Vec;

use xen_types::Lpi;

use super::layout::{LpiConfig, PageSize, Typer};
use super::simulated::{ItsRegisters, Kind, Machine};
use super::{CollectionId, Config, DeviceId, EventId, Its, Lpis};

/// How urgent LPIs are.
const ENABLED: LpiConfig = LpiConfig {
    enabled: true,
    priority: 0xa0,
};

/// A machine with redistributors that take LPIs, and a collection for each.
struct Rig {
    machine: Machine,
    its: Its<ItsRegisters>,
    lpis: Lpis,
}

fn config(kind: Kind, collections: u16) -> Config {
    Config {
        coherent: kind.coherent,
        collections,
    }
}

impl Rig {
    fn new(kind: Kind, cpus: u16) -> Self {
        let mut machine = Machine::new(&[kind], cpus);
        // What the hardware can do is found out, not told.
        let asked = Config {
            coherent: true,
            collections: cpus,
        };
        let its = Its::start(machine.its(0), &mut machine, asked).unwrap();
        let lpis = Lpis::new(&mut machine, 16, true).unwrap();
        let mut rig = Self { machine, its, lpis };
        for number in 0..cpus {
            rig.lpis
                .enable_on(&rig.machine.redistributor(number), &mut rig.machine)
                .unwrap();
            let (collection, to) = (CollectionId(number), rig.machine.name_of(number));
            rig.its
                .map_collection(&mut rig.machine, collection, to)
                .unwrap();
        }
        rig
    }

    fn add(&mut self, device: u32, events: u32) {
        self.its
            .add_device(&mut self.machine, DeviceId(device), events)
            .unwrap();
    }

    /// Maps an event to an enabled LPI.
    fn map(&mut self, device: u32, event: u32, lpi: Lpi, cpu: u16) {
        self.lpis
            .configure(&mut self.machine, lpi, ENABLED)
            .unwrap();
        self.its
            .map_event(
                &mut self.machine,
                DeviceId(device),
                EventId(event),
                lpi,
                CollectionId(cpu),
            )
            .unwrap();
    }

    fn message(&self, device: u32, event: u32) {
        self.machine.message(0, DeviceId(device), EventId(event));
    }

    fn assert_clean(&self) {
        assert_eq!(self.machine.violations(), Vec::<std::string::String>::new());
    }
}

fn lpi(number: u32) -> Lpi {
    Lpi::new(number).unwrap()
}

/// Every kind of hardware that makes the driver take another way.
fn kinds() -> Vec<Kind> {
    let usual = Kind::default();
    let typer = usual.typer;
    std::vec![
        usual,
        Kind {
            coherent: false,
            ..usual
        },
        Kind {
            indirect: false,
            ..usual
        },
        Kind {
            only_page: Some(PageSize::Small),
            speed: 100,
            ..usual
        },
        Kind {
            only_page: Some(PageSize::Medium),
            coherent: false,
            ..usual
        },
        Kind {
            typer: Typer {
                targets_are_addresses: false,
                entry_size: 8,
                event_bits: 5,
                ..typer
            },
            ..usual
        },
        Kind {
            typer: Typer {
                held_collections: 16,
                device_bits: 32,
                ..typer
            },
            stalls: false,
            ..usual
        },
    ]
}
