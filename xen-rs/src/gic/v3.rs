//! GICv3 and GICv4 (IHI 0069): affinity routing, redistributors, system register interface.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use platform_dt::GicV3 as Node;
use xen_core::its::Redistributor as Name;
use xen_types::{Affinity, Hpa, IntId, Sgi, Spi, Trigger};

use super::{Acknowledged, Controller, GicError, announce, frame, its};
use crate::arch::sysreg::{read_sysreg, read_sysreg_volatile, write_sysreg};
use crate::arch::{barrier, percpu, time};
use crate::memory::device::{self, Registers};

const GICD_CTLR: usize = 0x0000;
const GICD_TYPER: usize = 0x0004;
const GICD_IROUTER: usize = 0x6000;
const GICD_PIDR2: usize = 0xffe8;

/// `GICD_CTLR` in the non-secure view, and in that of a GIC with one security state: affinity
/// routing and both ways to enable group 1 (12.9.4).
const CTLR_ENABLE: u32 = 1 << 4 | 1 << 1 | 1;
const CTLR_ARE: u32 = 1 << 4;
const CTLR_RWP: u32 = 1 << 31;

const GICR_TYPER: usize = 0x0008;
const GICR_WAKER: usize = 0x0014;
/// `GICR_WAKER`: processor sleep, children asleep (12.11.42).
const PROCESSOR_SLEEP: u32 = 1 << 1;
const CHILDREN_ASLEEP: u32 = 1 << 2;
/// The SGI frame follows the RD frame.
const SGI_FRAME: usize = 0x1_0000;
/// `GICR_TYPER`: has VLPI frames, is the last of its region (12.11.38).
const TYPER_VLPIS: u64 = 1 << 1;
const TYPER_LAST: u64 = 1 << 4;

/// `ICC_CTLR_EL1.EOImode`: end of interrupt drops the priority only (12.2.6).
const EOI_MODE: u64 = 1 << 1;
/// `ICC_SGI1R_EL1.IRM`: all CPUs but the sender.
const ALL_OTHERS: u64 = 1 << 40;

/// How long a frame may take to accept a write or to wake up.
const PATIENCE_MICROSECONDS: u64 = 1_000_000;

pub struct GicV3 {
    distributor: Registers,
    redistributors: Vec<Redistributor>,
}

struct Redistributor {
    affinity: u32,
    /// How an ITS names it.
    name: Name,
    control: Registers,
    private: Registers,
}

impl GicV3 {
    /// Maps the frames and sets all shared interrupts to a known state, routed to this CPU.
    pub fn new(node: &Node) -> Result<Box<Self>, GicError> {
        let distributor = device::map(node.distributor)?;
        let identification = distributor.read32(GICD_PIDR2);
        if !matches!((identification >> 4) & 0xf, 3 | 4) {
            return Err(GicError::NotThere {
                expected: 3,
                at: node.distributor.start(),
                found: identification,
            });
        }
        let redistributors = find_redistributors(node)?;
        let gic = Self {
            distributor,
            redistributors,
        };
        let typer = gic.distributor.read32(GICD_TYPER);
        let lines = ((typer & 0x1f) + 1) * 32;
        gic.init_distributor(lines)?;
        announce(
            3,
            lines,
            format_args!(
                "{} redistributors in {} region(s)",
                gic.redistributors.len(),
                node.redistributors.len()
            ),
        );
        its::init(node, typer, gic.redistributors.len());
        Ok(Box::new(gic))
    }

    fn init_distributor(&self, lines: u32) -> Result<(), GicError> {
        self.distributor.write32(GICD_CTLR, 0);
        self.settle()?;
        frame::reset(&self.distributor, 32, lines);
        frame::put_in_group_1(&self.distributor, 32, lines);
        // ARE before the routes: they do not exist without it.
        self.distributor.write32(GICD_CTLR, CTLR_ARE);
        self.settle()?;
        let here = percpu::affinity().get();
        for intid in 32..lines.min(1020) as usize {
            self.distributor.write64(GICD_IROUTER + intid * 8, here);
        }
        self.distributor.write32(GICD_CTLR, CTLR_ENABLE);
        self.settle()
    }

    /// Waits until the distributor has taken the last writes (`RWP`).
    fn settle(&self) -> Result<(), GicError> {
        let taken = || self.distributor.read32(GICD_CTLR) & CTLR_RWP == 0;
        if time::wait_until(PATIENCE_MICROSECONDS, taken) {
            Ok(())
        } else {
            Err(GicError::Stuck)
        }
    }

    /// Where an interrupt is controlled: a private one by this CPU's redistributor.
    fn registers_of(&self, id: IntId) -> Option<&Registers> {
        match id {
            IntId::Spi(_) => Some(&self.distributor),
            IntId::Sgi(_) | IntId::Ppi(_) => Some(&self.own_redistributor().ok()?.private),
            // They have a byte in a table in memory.
            IntId::Lpi(_) => None,
        }
    }

    fn own_redistributor(&self) -> Result<&Redistributor, GicError> {
        let affinity = percpu::affinity();
        self.redistributors
            .iter()
            .find(|redistributor| redistributor.affinity == affinity.packed())
            .ok_or(GicError::NoRedistributor(affinity))
    }
}

/// Walks every region to its last frame. Frames are 128 KiB, 256 KiB with virtual LPIs, or what
/// the tree says.
fn find_redistributors(node: &Node) -> Result<Vec<Redistributor>, GicError> {
    let mut found = Vec::new();
    for region in &node.redistributors {
        let mapped = device::map(*region)?;
        let mut offset = 0;
        while offset + 2 * SGI_FRAME <= mapped.len() {
            let typer = mapped.read64(offset + GICR_TYPER);
            found.push(Redistributor {
                affinity: (typer >> 32) as u32,
                name: Name {
                    number: (typer >> 8) as u16,
                    frames: Hpa::new(region.start().get() + offset as u64),
                },
                control: mapped.part(offset, SGI_FRAME),
                private: mapped.part(offset + SGI_FRAME, SGI_FRAME),
            });
            if typer & TYPER_LAST != 0 {
                break;
            }
            let frames = if typer & TYPER_VLPIS != 0 { 4 } else { 2 };
            offset += match node.stride {
                Some(stride) => stride as usize,
                None => frames * SGI_FRAME,
            };
        }
    }
    Ok(found)
}

impl Redistributor {
    fn wake(&self) -> Result<(), GicError> {
        let waker = self.control.read32(GICR_WAKER);
        self.control.write32(GICR_WAKER, waker & !PROCESSOR_SLEEP);
        let awake = || self.control.read32(GICR_WAKER) & CHILDREN_ASLEEP == 0;
        if time::wait_until(PATIENCE_MICROSECONDS, awake) {
            Ok(())
        } else {
            Err(GicError::Asleep(percpu::affinity()))
        }
    }
}

fn init_cpu_interface() -> Result<(), GicError> {
    // SRE and Enable: the system registers for EL2, and for EL1 later (12.2.25).
    write_sysreg!("icc_sre_el2", read_sysreg!("icc_sre_el2") | 1 << 3 | 1);
    barrier::isb();
    if read_sysreg!("icc_sre_el2") & 1 == 0 {
        return Err(GicError::NoSystemRegisters);
    }
    write_sysreg!("icc_pmr_el1", 0xff);
    write_sysreg!("icc_bpr1_el1", 0);
    write_sysreg!("icc_ctlr_el1", EOI_MODE);
    write_sysreg!("icc_igrpen1_el1", 1);
    barrier::isb();
    Ok(())
}

impl Controller for GicV3 {
    fn init_cpu(&self) -> Result<(), GicError> {
        let own = self.own_redistributor()?;
        own.wake()?;
        frame::reset(&own.private, 0, 32);
        frame::put_in_group_1(&own.private, 0, 32);
        init_cpu_interface()?;
        its::init_cpu(&own.control, own.name);
        let cpu = percpu::this();
        cpu.sgi_target.store(cpu.affinity.get(), Ordering::Relaxed);
        Ok(())
    }

    fn shared_interrupts(&self) -> usize {
        let lines = (self.distributor.read32(GICD_TYPER) & 0x1f) as usize * 32;
        lines.min(usize::from(Spi::COUNT))
    }

    fn enable(&self, id: IntId) {
        if let Some(registers) = self.registers_of(id) {
            frame::enable(registers, id);
        }
    }

    fn disable(&self, id: IntId) {
        if let Some(registers) = self.registers_of(id) {
            frame::disable(registers, id);
        }
    }

    fn configure(&self, id: IntId, trigger: Trigger) {
        if let Some(registers) = self.registers_of(id) {
            frame::configure(registers, id, trigger);
        }
    }

    fn forget(&self, id: IntId) {
        if let Some(registers) = self.registers_of(id) {
            frame::forget(registers, id);
        }
    }

    fn acknowledge(&self) -> Option<Acknowledged> {
        let register = read_sysreg_volatile!("icc_iar1_el1") as u32;
        barrier::dsb_sy();
        (!(1020..1024).contains(&register)).then_some(Acknowledged {
            intid: register,
            register,
        })
    }

    fn drop_priority(&self, interrupt: Acknowledged) {
        write_sysreg!("icc_eoir1_el1", interrupt.register.into());
        barrier::isb();
    }

    fn deactivate(&self, register: u32) {
        write_sysreg!("icc_dir_el1", register.into());
        barrier::isb();
    }

    fn send(&self, sgi: Sgi, target: u64) {
        let target = Affinity::from_mpidr(target);
        let level = |level| u64::from(target.level(level));
        // The target list counts 16 CPUs of a range of Aff0 (12.2.20).
        let (range, bit) = (level(0) / 16, level(0) % 16);
        let value = level(3) << 48
            | range << 44
            | level(2) << 32
            | u64::from(sgi.intid()) << 24
            | level(1) << 16
            | 1 << bit;
        send_sgi(value);
    }

    fn send_to_others(&self, sgi: Sgi) {
        send_sgi(ALL_OTHERS | u64::from(sgi.intid()) << 24);
    }
}

fn send_sgi(value: u64) {
    // What was written before must be seen by who takes the interrupt.
    barrier::dsb_ish();
    write_sysreg!("icc_sgi1r_el1", value);
    barrier::isb();
}
