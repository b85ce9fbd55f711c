//! The host's interrupt translation services and LPIs (IHI 0069, chapter 5): set up at boot, used by
//! domains whose devices send messages.

mod hardware;

use alloc::string::String;
use alloc::vec::Vec;

use log::{info, warn};
use platform_dt::{GicV3 as Node, Its as ItsNode};
use spin::Once;
use xen_core::its::layout::GITS_TRANSLATER;
use xen_core::its::{Config, Its, ItsError, Lpis, Owner, Redistributor, Services};
use xen_types::{Hpa, HpaRange, Lpi, PAGE_SIZE};

pub use self::hardware::{Frames, Tables};
use crate::arch::percpu;
use crate::domain::interrupts::Masking;
use crate::memory::device::{self, MapError, Registers};

/// `GICD_TYPER`: LPIs are there, and bits of INTIDs less one (12.9.38).
const LPIS: u32 = 1 << 17;
const ID_BITS_SHIFT: u32 = 19;
const ID_BITS: u32 = 0x1f;

/// Why messages of devices do not arrive.
#[derive(Debug, thiserror::Error)]
enum SetUpError {
    #[error("{0}")]
    Map(#[from] MapError),
    #[error("{0}")]
    Its(#[from] ItsError),
}

/// The services of this host.
pub type HostServices = Services<Frames, Masking>;

/// The services, and where each is.
struct Messages {
    services: HostServices,
    places: Vec<Place>,
}

/// Where an ITS is.
pub struct Place {
    /// The path of its node.
    pub path: String,
    /// Its registers.
    pub registers: HpaRange,
}

impl Place {
    /// The page of the register that devices write to.
    pub fn doorbell(&self) -> HpaRange {
        let page = u64::from(GITS_TRANSLATER) & !(PAGE_SIZE - 1);
        let start = Hpa::new(self.registers.start().get().wrapping_add(page));
        HpaRange::new(start, PAGE_SIZE).unwrap_or(self.registers)
    }
}

static MESSAGES: Once<Messages> = Once::new();

/// Sets up what the tree names; `typer` is `GICD_TYPER`. What does not work is left alone and said.
pub fn init(node: &Node, typer: u32, cpus: usize) {
    if node.its.is_empty() {
        info!("its: none: devices have no message interrupts");
        return;
    }
    match set_up(node, typer, cpus) {
        Ok(messages) => {
            MESSAGES.call_once(|| messages);
        }
        Err(error) => warn!("its: {error}: devices have no message interrupts"),
    }
}

fn set_up(node: &Node, typer: u32, cpus: usize) -> Result<Messages, ItsError> {
    if typer & LPIS == 0 {
        return Err(ItsError::NoLpis);
    }
    let id_bits = (typer >> ID_BITS_SHIFT & ID_BITS) as u8 + 1;
    let lpis = Lpis::new(&mut Tables, id_bits, node.coherent)?;
    let mut messages = Messages {
        services: Services::new(lpis, cpus)?,
        places: Vec::new(),
    };
    for its in &node.its {
        if let Err(error) = messages.start(its, cpus) {
            warn!("its: {}: {error}", its.path);
        }
    }
    Ok(messages)
}

impl Messages {
    fn start(&mut self, node: &ItsNode, cpus: usize) -> Result<(), SetUpError> {
        let registers = device::map(node.registers)?;
        let config = Config {
            coherent: node.coherent,
            collections: cpus as u16,
        };
        let its = Its::start(Frames(registers), &mut Tables, config)?;
        let typer = its.typer();
        info!(
            "its: {} at {}, {}-bit device ids, {}-bit event ids",
            node.path,
            node.registers.start(),
            typer.device_bits,
            typer.event_bits,
        );
        self.services.add(its, node.phandle)?;
        self.places.push(Place {
            path: node.path.clone(),
            registers: node.registers,
        });
        Ok(())
    }
}

/// Has the calling CPU take LPIs. `frame` is its redistributor's first, which is at an address.
pub fn init_cpu(frame: &Registers, redistributor: Redistributor) {
    let Some(Messages { services, places }) = MESSAGES.get() else {
        return;
    };
    let cpu = percpu::this().id;
    let refused = |its: usize, error| {
        let path = places.get(its).map_or("?", |place| &place.path);
        warn!("its: {path}: no message interrupts at {cpu}: {error}");
    };
    let frame = Frames(*frame);
    let enabled = services.enable_on(&mut Tables, cpu.index(), &frame, redistributor, refused);
    if let Err(error) = enabled {
        warn!("its: {cpu} takes no message interrupts: {error}");
    }
}

/// The services of the host; `None` where there are none.
pub fn services() -> Option<&'static HostServices> {
    Some(&MESSAGES.get()?.services)
}

/// Where each of them is.
pub fn places() -> &'static [Place] {
    MESSAGES.get().map_or(&[], |messages| &messages.places)
}

/// Whose an LPI is that has arrived.
pub fn owner_of(lpi: Lpi) -> Option<Owner> {
    services()?.owner_of(lpi)
}
