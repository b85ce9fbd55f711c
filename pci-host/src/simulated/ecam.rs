//! A fabric's config space as memory.

use super::Fabric;
use crate::RequesterId;
use crate::bridge::Registers;
use crate::config::{Access, ConfigOffset, Width};

/// The window of an ECAM host bridge.
#[derive(Clone)]
pub struct SimEcam {
    fabric: Fabric,
    first_bus: u8,
    size: u64,
}

impl SimEcam {
    /// Config space of the `buses` from `first_bus` on.
    pub fn new(fabric: &Fabric, first_bus: u8, buses: u16) -> Self {
        Self {
            fabric: fabric.clone(),
            first_bus,
            size: u64::from(buses) << 20,
        }
    }

    fn place(&self, offset: u64, width: Width) -> (RequesterId, Access) {
        assert!(
            offset < self.size,
            "an access at {offset:#x}, beyond the window"
        );
        let number = (offset >> 12) as u16 + (u16::from(self.first_bus) << 8);
        let offset = ConfigOffset::new((offset & 0xfff) as u16).expect("12 bits");
        let access = Access::new(offset, width).expect("an access that is aligned");
        (RequesterId::from_bits(number), access)
    }
}

impl Registers for SimEcam {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, offset: u64, width: Width) -> u32 {
        let (function, access) = self.place(offset, width);
        let answer = self.fabric.config_read(function, access);
        answer.unwrap_or(width.ones())
    }

    fn write(&self, offset: u64, width: Width, value: u32) {
        let (function, access) = self.place(offset, width);
        // Lost if nobody takes it.
        let _ = self.fabric.config_write(function, access, value);
    }
}
