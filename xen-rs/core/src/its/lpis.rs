//! The host's LPIs: their configuration in memory, which all redistributors read, and the pending
//! tables that each redistributor has for itself (IHI 0069, 5.1).

use xen_types::{Hpa, Lpi};

use super::layout::{
    CTLR_ENABLE_LPIS, CTLR_RWP, GICR_CTLR, GICR_PENDBASER, GICR_PROPBASER, GICR_TYPER, LpiConfig,
    PendBaser, PropBaser, TYPER_LPIS,
};
use super::lpi::{LpiAllocator, LpiRange, MOST_BITS};
use super::table::{Table, negotiate};
use super::{Host, ItsError, Memory, Registers};

/// How long a redistributor may take to disable LPIs.
const PATIENCE_MICROSECONDS: u64 = 1_000_000;

/// What all redistributors and ITSs share.
#[derive(Debug)]
pub struct Lpis {
    id_bits: u8,
    allocator: LpiAllocator,
    configuration: Table,
    coherent: bool,
}

impl Lpis {
    /// All LPIs free and disabled. `id_bits` is `GICD_TYPER.IDbits` and one; `coherent` is false
    /// where the device tree says that redistributors do not see the caches (`dma-noncoherent`).
    ///
    /// # Errors
    /// [`ItsError::NoLpis`], [`ItsError::NoMemory`].
    pub fn new(memory: &mut impl Memory, id_bits: u8, coherent: bool) -> Result<Self, ItsError> {
        let id_bits = id_bits.min(MOST_BITS);
        let allocator = LpiAllocator::new(id_bits)?;
        let size = u64::from(allocator.count());
        Ok(Self {
            id_bits,
            allocator,
            configuration: Table::allocate(memory, "LPI configuration", size, 0x1_0000)?,
            coherent,
        })
    }

    /// How many LPIs there are, free or not: the size of an [`super::Owners`].
    pub fn count(&self) -> u32 {
        self.allocator.count()
    }

    /// Gives out `count` LPIs side by side; `None` where there are not as many.
    pub fn allocate(&mut self, count: u32) -> Option<LpiRange> {
        self.allocator.allocate(count)
    }

    /// Takes back what [`Lpis::allocate`] gave. None of them is mapped any more.
    pub fn free(&mut self, range: LpiRange) {
        self.allocator.free(range);
    }

    /// Has a redistributor take LPIs. `redistributor` is its first frame.
    ///
    /// # Errors
    /// [`ItsError::NoLpis`], [`ItsError::LpisEnabled`], [`ItsError::NoMemory`].
    pub fn enable_on(
        &mut self,
        redistributor: &impl Registers,
        host: &mut impl Host,
    ) -> Result<(), ItsError> {
        if redistributor.read64(GICR_TYPER) & TYPER_LPIS == 0 {
            return Err(ItsError::NoLpis);
        }
        disable(redistributor, host)?;
        // A bit for each INTID, those below the first LPI too (5.1.2).
        let size = (1 << self.id_bits) / 8;
        let mut pending = Table::allocate(host, "pending LPIs", size, 0x1_0000)?;
        self.point_to_configuration(redistributor, host);
        let at = pending.at();
        negotiate(&mut pending, host, self.coherent, |attributes| {
            let pend = PendBaser {
                zeroed: true,
                attributes,
                at,
            };
            redistributor.write64(GICR_PENDBASER, pend.encode());
            PendBaser::<Hpa>::decode(redistributor.read64(GICR_PENDBASER)).attributes
        });
        let control = redistributor.read32(GICR_CTLR);
        redistributor.write32(GICR_CTLR, control | CTLR_ENABLE_LPIS);
        // The redistributor has its pending table for good.
        Ok(())
    }

    fn point_to_configuration(&mut self, redistributor: &impl Registers, host: &mut impl Host) {
        let (at, id_bits) = (self.configuration.at(), self.id_bits);
        negotiate(&mut self.configuration, host, self.coherent, |attributes| {
            let prop = PropBaser {
                attributes,
                at,
                id_bits,
            };
            redistributor.write64(GICR_PROPBASER, prop.encode());
            PropBaser::<Hpa>::decode(redistributor.read64(GICR_PROPBASER)).attributes
        });
    }

    /// Configures an LPI. Redistributors see it after an INV ([`super::Its::reload`]).
    ///
    /// # Errors
    /// [`ItsError::UnknownLpi`].
    pub fn configure(
        &self,
        memory: &mut impl Memory,
        lpi: Lpi,
        config: LpiConfig,
    ) -> Result<(), ItsError> {
        if lpi.number() >= self.allocator.count() {
            return Err(ItsError::UnknownLpi(lpi));
        }
        self.configuration
            .write8(memory, lpi.number().into(), config.encode());
        Ok(())
    }
}

/// Disables LPIs that firmware or a kernel before us enabled.
fn disable(redistributor: &impl Registers, host: &mut impl Host) -> Result<(), ItsError> {
    let control = redistributor.read32(GICR_CTLR);
    if control & CTLR_ENABLE_LPIS == 0 {
        return Ok(());
    }
    redistributor.write32(GICR_CTLR, control & !CTLR_ENABLE_LPIS);
    let start = host.microseconds();
    while redistributor.read32(GICR_CTLR) & (CTLR_ENABLE_LPIS | CTLR_RWP) != 0 {
        if host.microseconds().wrapping_sub(start) > PATIENCE_MICROSECONDS {
            return Err(ItsError::LpisEnabled);
        }
    }
    Ok(())
}
