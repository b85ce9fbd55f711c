//! A redistributor: what is pending at it, and the configuration that it has read.

use super::super::alloc::collections::{BTreeMap, BTreeSet};
use super::super::alloc::format;

use xen_types::{Hpa, Lpi};

use super::super::layout::{
    Attributes, CTLR_ENABLE_LPIS, GICR_CTLR, GICR_PENDBASER, GICR_PROPBASER, GICR_TYPER, LpiConfig,
    PendBaser, PropBaser, TYPER_LPIS,
};
use super::memory::Ram;

/// Where the frames are.
pub const FRAMES: u64 = 0x080a_0000;
pub const STRIDE: u64 = 0x2_0000;

#[derive(Debug)]
pub struct RedistributorModel {
    coherent: bool,
    pub has_lpis: bool,
    enabled: bool,
    stuck: bool,
    prop: u64,
    pend: u64,
    pub pending: BTreeSet<u32>,
    /// Read once, and not again until invalidated.
    configuration: BTreeMap<u32, LpiConfig>,
}

impl RedistributorModel {
    pub fn new(coherent: bool) -> Self {
        Self {
            coherent,
            has_lpis: true,
            enabled: false,
            stuck: false,
            prop: 0,
            pend: 0,
            pending: BTreeSet::new(),
            configuration: BTreeMap::new(),
        }
    }

    pub fn enable_before(&mut self, stuck: bool) {
        (self.enabled, self.stuck) = (true, stuck);
    }

    pub fn read32(&self, offset: u32) -> u32 {
        match offset {
            GICR_CTLR if self.enabled => CTLR_ENABLE_LPIS,
            _ => 0,
        }
    }

    pub fn write32(&mut self, offset: u32, value: u32) {
        if offset == GICR_CTLR {
            self.enabled = value & CTLR_ENABLE_LPIS != 0 || self.stuck;
        }
    }

    pub fn read64(&self, offset: u32) -> u64 {
        match offset {
            GICR_TYPER if self.has_lpis => TYPER_LPIS,
            GICR_PROPBASER => self.prop,
            GICR_PENDBASER => self.pend,
            _ => 0,
        }
    }

    /// The tables can be set while LPIs are disabled only.
    pub fn write64(&mut self, offset: u32, value: u64) {
        let attributes = |asked: Attributes| match self.coherent {
            true => asked,
            false => Attributes {
                shareability: 0,
                ..asked
            },
        };
        match offset {
            GICR_PROPBASER if !self.enabled => {
                let asked = PropBaser::<Hpa>::decode(value);
                let attributes = attributes(asked.attributes);
                self.prop = PropBaser {
                    attributes,
                    ..asked
                }
                .encode();
            }
            GICR_PENDBASER if !self.enabled => {
                let asked = PendBaser::<Hpa>::decode(value);
                let attributes = attributes(asked.attributes);
                self.pend = PendBaser {
                    attributes,
                    zeroed: false,
                    ..asked
                }
                .encode();
            }
            _ => {}
        }
    }

    pub fn raise(&mut self, ram: &mut Ram, intid: u32) {
        if !self.enabled {
            return;
        }
        // The pending table has a bit for it.
        let pend = PendBaser::<Hpa>::decode(self.pend);
        let at = Hpa::new(pend.at.get() + u64::from(intid / 8));
        let _: [u8; 1] = ram.read(at, pend.attributes.is_coherent());
        self.pending.insert(intid);
    }

    pub fn invalidate(&mut self, intid: u32) {
        self.configuration.remove(&intid);
    }

    pub fn invalidate_all(&mut self) {
        self.configuration.clear();
    }

    pub fn take(&mut self, ram: &mut Ram) -> Option<u32> {
        let pending = self.pending.clone();
        let enabled = pending.iter().filter_map(|&intid| {
            let config = self.configuration_of(ram, intid);
            config.enabled.then_some((config.priority, intid))
        });
        let (_, intid) = enabled.min()?;
        self.pending.remove(&intid);
        Some(intid)
    }

    fn configuration_of(&mut self, ram: &mut Ram, intid: u32) -> LpiConfig {
        let prop = PropBaser::<Hpa>::decode(self.prop);
        *self.configuration.entry(intid).or_insert_with(|| {
            let Some(number) = intid.checked_sub(Lpi::FIRST) else {
                ram.violate(format!("INTID {intid} is no LPI"));
                return LpiConfig::decode(0);
            };
            if u64::from(intid) >> prop.id_bits != 0 {
                ram.violate(format!("INTID {intid} has more than {} bits", prop.id_bits));
            }
            let at = Hpa::new(prop.at.get() + u64::from(number));
            let [byte] = ram.read(at, prop.attributes.is_coherent());
            LpiConfig::decode(byte)
        })
    }
}
