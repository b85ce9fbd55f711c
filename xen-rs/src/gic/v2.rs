//! GICv2 (IHI 0048): GIC-400 and its relatives. CPUs are bits of an 8-bit target mask.

use alloc::boxed::Box;
use core::sync::atomic::Ordering;

use platform_dt::GicV2 as Node;
use xen_types::{IntId, Sgi, Spi, Trigger};

use super::{Acknowledged, Controller, GicError, announce, frame};
use crate::arch::percpu;
use crate::memory::device::{self, Registers};

const GICD_CTLR: usize = 0x000;
const GICD_TYPER: usize = 0x004;
const GICD_ITARGETSR: usize = 0x800;
const GICD_SGIR: usize = 0xf00;

const GICC_CTLR: usize = 0x0000;
const GICC_PMR: usize = 0x0004;
const GICC_IAR: usize = 0x000c;
const GICC_EOIR: usize = 0x0010;
const GICC_DIR: usize = 0x1000;

/// `GICC_CTLR`: enable the non-secure group, and split priority drop from deactivation (`EOImodeNS`).
const ENABLE: u32 = 1;
const EOI_MODE: u32 = 1 << 9;
/// `GICD_SGIR.TargetListFilter`: all CPUs but the sender.
const ALL_OTHERS: u32 = 1 << 24;

pub struct GicV2 {
    distributor: Registers,
    cpu_interface: Registers,
    virtual_interface: Option<Registers>,
}

impl GicV2 {
    /// Maps the frames and sets all shared interrupts to a known state, routed to this CPU.
    pub fn new(node: &Node) -> Result<Box<Self>, GicError> {
        let gic = Self {
            distributor: device::map(node.distributor)?,
            cpu_interface: device::map(node.cpu_interface)?,
            virtual_interface: node.hypervisor_interface.map(device::map).transpose()?,
        };
        let typer = gic.distributor.read32(GICD_TYPER);
        let lines = ((typer & 0x1f) + 1) * 32;
        let cpus = ((typer >> 5) & 7) + 1;
        gic.distributor.write32(GICD_CTLR, 0);
        frame::reset(&gic.distributor, 32, lines);
        let target = gic.own_target() * 0x0101_0101;
        for word in (32 / 4..lines / 4).map(|word| word as usize * 4) {
            gic.distributor.write32(GICD_ITARGETSR + word, target);
        }
        gic.distributor.write32(GICD_CTLR, 1);
        announce(2, lines, format_args!("{cpus} CPU interfaces"));
        Ok(Box::new(gic))
    }

    /// This CPU's bit: the banked target registers of its private interrupts read it (4.3.12).
    fn own_target(&self) -> u32 {
        let bits = (0..8)
            .map(|word| self.distributor.read32(GICD_ITARGETSR + word * 4))
            .fold(0, |all, word| all | word);
        let mask = (bits | bits >> 8 | bits >> 16 | bits >> 24) & 0xff;
        // A uniprocessor GIC reads zero and ignores targets.
        mask.max(1)
    }
}

impl Controller for GicV2 {
    fn virtual_interface(&self) -> Option<Registers> {
        self.virtual_interface
    }

    fn init_cpu(&self) -> Result<(), GicError> {
        frame::reset(&self.distributor, 0, 32);
        percpu::this()
            .sgi_target
            .store(self.own_target().into(), Ordering::Relaxed);
        self.cpu_interface.write32(GICC_PMR, 0xff);
        self.cpu_interface.write32(GICC_CTLR, ENABLE | EOI_MODE);
        Ok(())
    }

    fn shared_interrupts(&self) -> usize {
        let lines = (self.distributor.read32(GICD_TYPER) & 0x1f) as usize * 32;
        lines.min(usize::from(Spi::COUNT))
    }

    fn enable(&self, id: IntId) {
        frame::enable(&self.distributor, id);
    }

    fn disable(&self, id: IntId) {
        frame::disable(&self.distributor, id);
    }

    fn configure(&self, id: IntId, trigger: Trigger) {
        frame::configure(&self.distributor, id, trigger);
    }

    fn forget(&self, id: IntId) {
        frame::forget(&self.distributor, id);
    }

    fn acknowledge(&self) -> Option<Acknowledged> {
        let register = self.cpu_interface.read32(GICC_IAR);
        let intid = register & 0x3ff;
        (intid < 1020).then_some(Acknowledged { intid, register })
    }

    fn drop_priority(&self, interrupt: Acknowledged) {
        self.cpu_interface.write32(GICC_EOIR, interrupt.register);
    }

    fn deactivate(&self, register: u32) {
        self.cpu_interface.write32(GICC_DIR, register);
    }

    fn send(&self, sgi: Sgi, target: u64) {
        let mask = (target as u32 & 0xff) << 16;
        self.distributor.write32(GICD_SGIR, mask | sgi.intid());
    }

    fn send_to_others(&self, sgi: Sgi) {
        self.distributor
            .write32(GICD_SGIR, ALL_OTHERS | sgi.intid());
    }
}
