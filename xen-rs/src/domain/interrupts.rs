//! A vCPU's virtual CPU interface: what the hardware holds of it, and what is kept while another
//! vCPU has the hardware.
//!
//! While a vCPU is resident on a CPU its list registers stay in the hardware, across exits too. They
//! are read back only when the virtual interrupt controller has news for the vCPU, when the hardware
//! says that one of them needs attention, and before the guest asks for pending or active states:
//! most exits touch none of them.

use xen_core::vgic::lr::{Format, GicV2, GicV3, ListRegisters};
use xen_core::vgic::{CpuId, Effects, Lock, Locking, Vgic};

use crate::arch::barrier;
use crate::arch::sysreg::{read_sysreg, write_sysreg};
use crate::gic;
use crate::lock::IrqLock;
use crate::memory::device::Registers;

/// Locks of a domain's interrupt controller: physical interrupts arrive in handlers.
pub enum Masking {}

impl Locking for Masking {
    type Lock<T> = IrqLock<T>;
}

impl<T> Lock<T> for IrqLock<T> {
    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn with<R>(&self, call: impl FnOnce(&mut T) -> R) -> R {
        call(&mut self.lock())
    }
}

/// The hypervisor's side of a virtual CPU interface.
trait Hardware {
    /// How its list registers are spelled.
    type Format: Format;
    /// What the guest controls by itself, apart from list registers. Its default is the state
    /// after reset.
    type Own: Default;
    /// How many list registers there are.
    fn list_registers(&self) -> usize;
    /// Reads a list register.
    fn read(&self, number: usize) -> <Self::Format as Format>::Register;
    /// Writes a list register.
    fn write(&self, number: usize, value: <Self::Format as Format>::Register);
    /// Reads the control register.
    fn control(&self) -> u32;
    /// Writes the control register.
    fn set_control(&self, value: u32);
    /// Whether a maintenance interrupt is asserted.
    fn needs_maintenance(&self) -> bool;
    /// Reads what the guest controls.
    fn save(&self, own: &mut Self::Own);
    /// Writes it.
    fn restore(&self, own: &Self::Own);
}

/// The control register's bit that turns the interface on (`ICH_HCR_EL2.En`, `GICH_HCR.En`).
const ENABLE: u32 = 1;

/// GICv3: system registers (IHI 0069, 12.4).
struct SystemRegisters;

/// What a guest controls of a GICv3 interface: `ICH_VMCR_EL2`, and the active priorities of both
/// groups. Only the first register of four is there with the five bits of priority that list
/// registers have at least; more bits of priority have more registers.
#[derive(Default)]
struct OwnV3 {
    vmcr: u64,
    active: [[u64; 4]; 2],
}

macro_rules! list_register {
    ($number:expr, $action:ident $(, $value:expr)?) => {
        match $number {
            0 => $action!("S3_4_C12_C12_0" $(, $value)?),
            1 => $action!("S3_4_C12_C12_1" $(, $value)?),
            2 => $action!("S3_4_C12_C12_2" $(, $value)?),
            3 => $action!("S3_4_C12_C12_3" $(, $value)?),
            4 => $action!("S3_4_C12_C12_4" $(, $value)?),
            5 => $action!("S3_4_C12_C12_5" $(, $value)?),
            6 => $action!("S3_4_C12_C12_6" $(, $value)?),
            7 => $action!("S3_4_C12_C12_7" $(, $value)?),
            8 => $action!("S3_4_C12_C13_0" $(, $value)?),
            9 => $action!("S3_4_C12_C13_1" $(, $value)?),
            10 => $action!("S3_4_C12_C13_2" $(, $value)?),
            11 => $action!("S3_4_C12_C13_3" $(, $value)?),
            12 => $action!("S3_4_C12_C13_4" $(, $value)?),
            13 => $action!("S3_4_C12_C13_5" $(, $value)?),
            14 => $action!("S3_4_C12_C13_6" $(, $value)?),
            _ => $action!("S3_4_C12_C13_7" $(, $value)?),
        }
    };
}

impl SystemRegisters {
    /// Registers of active priorities for each group: `2^(PREbits - 5)` (`ICH_VTR_EL2`, 12.4.10).
    fn active_priority_registers() -> usize {
        let preemption_bits = (read_sysreg!("ich_vtr_el2") >> 26 & 7) + 1;
        1 << (preemption_bits.clamp(5, 7) - 5)
    }
}

impl Hardware for SystemRegisters {
    type Format = GicV3;
    type Own = OwnV3;

    fn list_registers(&self) -> usize {
        // ICH_VTR_EL2.ListRegs is one less than the number.
        (read_sysreg!("ich_vtr_el2") & 0x1f) as usize + 1
    }

    fn read(&self, number: usize) -> u64 {
        list_register!(number, read_sysreg)
    }

    fn write(&self, number: usize, value: u64) {
        list_register!(number, write_sysreg, value);
    }

    fn control(&self) -> u32 {
        read_sysreg!("ich_hcr_el2") as u32
    }

    fn set_control(&self, value: u32) {
        write_sysreg!("ich_hcr_el2", value.into());
    }

    fn needs_maintenance(&self) -> bool {
        read_sysreg!("ich_misr_el2") != 0
    }

    fn save(&self, own: &mut OwnV3) {
        own.vmcr = read_sysreg!("ich_vmcr_el2");
        let [zero, one] = &mut own.active;
        let count = Self::active_priority_registers();
        zero[0] = read_sysreg!("ich_ap0r0_el2");
        one[0] = read_sysreg!("ich_ap1r0_el2");
        if count > 1 {
            zero[1] = read_sysreg!("ich_ap0r1_el2");
            one[1] = read_sysreg!("ich_ap1r1_el2");
        }
        if count > 2 {
            zero[2] = read_sysreg!("ich_ap0r2_el2");
            one[2] = read_sysreg!("ich_ap1r2_el2");
            zero[3] = read_sysreg!("ich_ap0r3_el2");
            one[3] = read_sysreg!("ich_ap1r3_el2");
        }
    }

    fn restore(&self, own: &OwnV3) {
        write_sysreg!("ich_vmcr_el2", own.vmcr);
        let [zero, one] = &own.active;
        let count = Self::active_priority_registers();
        write_sysreg!("ich_ap0r0_el2", zero[0]);
        write_sysreg!("ich_ap1r0_el2", one[0]);
        if count > 1 {
            write_sysreg!("ich_ap0r1_el2", zero[1]);
            write_sysreg!("ich_ap1r1_el2", one[1]);
        }
        if count > 2 {
            write_sysreg!("ich_ap0r2_el2", zero[2]);
            write_sysreg!("ich_ap1r2_el2", one[2]);
            write_sysreg!("ich_ap0r3_el2", zero[3]);
            write_sysreg!("ich_ap1r3_el2", one[3]);
        }
    }
}

/// GICv2: the GICH frame, of which each CPU sees its own (IHI 0048, 5.3).
struct Frame(Registers);

const GICH_HCR: usize = 0x000;
const GICH_VTR: usize = 0x004;
const GICH_VMCR: usize = 0x008;
const GICH_MISR: usize = 0x010;
const GICH_APR: usize = 0x0f0;
const GICH_LR: usize = 0x100;

/// What a guest controls of a GICv2 interface: `GICH_VMCR` and `GICH_APR`.
#[derive(Default)]
struct OwnV2 {
    vmcr: u32,
    active: u32,
}

impl Hardware for Frame {
    type Format = GicV2;
    type Own = OwnV2;

    fn list_registers(&self) -> usize {
        (self.0.read32(GICH_VTR) & 0x3f) as usize + 1
    }

    fn read(&self, number: usize) -> u32 {
        self.0.read32(GICH_LR + 4 * number)
    }

    fn write(&self, number: usize, value: u32) {
        self.0.write32(GICH_LR + 4 * number, value);
    }

    fn control(&self) -> u32 {
        self.0.read32(GICH_HCR)
    }

    fn set_control(&self, value: u32) {
        self.0.write32(GICH_HCR, value);
    }

    fn needs_maintenance(&self) -> bool {
        self.0.read32(GICH_MISR) != 0
    }

    fn save(&self, own: &mut OwnV2) {
        own.vmcr = self.0.read32(GICH_VMCR);
        own.active = self.0.read32(GICH_APR);
    }

    fn restore(&self, own: &OwnV2) {
        self.0.write32(GICH_VMCR, own.vmcr);
        self.0.write32(GICH_APR, own.active);
    }
}

/// A vCPU's interface on one kind of hardware.
struct Port<H: Hardware> {
    hardware: H,
    cpu: CpuId,
    registers: ListRegisters<H::Format>,
    own: H::Own,
    /// The hardware holds what `registers` had when they were filled, and knows better.
    in_hardware: bool,
    /// List registers of the hardware that are not zero, at most.
    loaded: usize,
    /// What the control register was set to.
    control: u32,
}

impl<H: Hardware> Port<H> {
    fn new(hardware: H, cpu: CpuId) -> Self {
        Self {
            cpu,
            registers: ListRegisters::new(hardware.list_registers()),
            own: H::Own::default(),
            in_hardware: false,
            loaded: hardware.list_registers(),
            control: 0,
            hardware,
        }
    }

    fn enter<L: Locking>(&mut self, vgic: &Vgic<L>) {
        self.hardware.restore(&self.own);
        self.loaded = self.hardware.list_registers();
        self.fill(vgic);
    }

    fn leave<L: Locking>(&mut self, vgic: &Vgic<L>, effects: &mut Effects) {
        self.sync(vgic, effects);
        self.control(0);
        self.hardware.save(&mut self.own);
    }

    fn needs_maintenance(&self) -> bool {
        self.registers.are_watched() && self.hardware.needs_maintenance()
    }

    fn tend<L: Locking>(&mut self, vgic: &Vgic<L>, effects: &mut Effects) {
        if self.needs_maintenance() {
            self.sync(vgic, effects);
        }
    }

    #[inline]
    fn refresh<L: Locking>(&mut self, vgic: &Vgic<L>, effects: &mut Effects) {
        if vgic.has_news(self.cpu) || self.needs_maintenance() {
            self.read();
            vgic.refresh(self.cpu, &mut self.registers, effects);
            self.write();
        }
    }

    fn sync<L: Locking>(&mut self, vgic: &Vgic<L>, effects: &mut Effects) {
        if self.in_hardware {
            self.read();
            // Which also takes a maintenance interrupt back.
            self.control(0);
            vgic.sync(self.cpu, &mut self.registers, effects);
        }
    }

    fn fill<L: Locking>(&mut self, vgic: &Vgic<L>) {
        vgic.flush(self.cpu, &mut self.registers);
        self.write();
    }

    /// Takes note of what the hardware knows better.
    #[inline]
    fn read(&mut self) {
        if !self.in_hardware {
            return;
        }
        self.in_hardware = false;
        for (number, value) in self.registers.used_mut().iter_mut().enumerate() {
            *value = self.hardware.read(number);
        }
        // Ends without a list register count only where an interrupt was left out.
        if self.registers.hcr() != 0 {
            self.registers.set_hcr(self.hardware.control());
        }
    }

    /// Gives the hardware what it does not have yet.
    #[inline]
    fn write(&mut self) {
        let used = self.registers.used();
        for (number, value) in used.iter().enumerate() {
            self.hardware.write(number, *value);
        }
        for number in used.len()..self.loaded {
            self.hardware.write(number, Default::default());
        }
        self.loaded = used.len();
        self.control(ENABLE | self.registers.hcr());
        self.in_hardware = true;
    }

    /// Sets the control register. With nothing but [`ENABLE`] it stays as it is: the hardware may have
    /// counted in it, which is of no interest then.
    #[inline]
    fn control(&mut self, value: u32) {
        if value != self.control || value != ENABLE {
            self.control = value;
            self.hardware.set_control(value);
        }
    }
}

/// A vCPU's virtual CPU interface, on whatever hardware there is.
pub struct Interface(Kind);

enum Kind {
    V2(Port<Frame>),
    V3(Port<SystemRegisters>),
}

impl Interface {
    /// The interface of `cpu` after reset.
    pub fn new(cpu: CpuId) -> Self {
        Self(match gic::virtual_interface() {
            Some(frame) => Kind::V2(Port::new(Frame(frame), cpu)),
            None => Kind::V3(Port::new(SystemRegisters, cpu)),
        })
    }

    /// The vCPU becomes resident on this CPU: the hardware gets its state.
    pub fn enter<L: Locking>(&mut self, vgic: &Vgic<L>) {
        match &mut self.0 {
            Kind::V2(port) => port.enter(vgic),
            Kind::V3(port) => port.enter(vgic),
        }
        barrier::isb();
    }

    /// The vCPU leaves this CPU: the hardware's state is kept, and the interface is off.
    pub fn leave<L: Locking>(&mut self, vgic: &Vgic<L>, effects: &mut Effects) {
        match &mut self.0 {
            Kind::V2(port) => port.leave(vgic, effects),
            Kind::V3(port) => port.leave(vgic, effects),
        }
        barrier::isb();
    }

    /// Before the resident vCPU runs: what is news goes into the hardware.
    pub fn refresh<L: Locking>(&mut self, vgic: &Vgic<L>, effects: &mut Effects) {
        match &mut self.0 {
            Kind::V2(port) => port.refresh(vgic, effects),
            Kind::V3(port) => port.refresh(vgic, effects),
        }
    }

    /// Answers a maintenance interrupt, if there is one: it is level-triggered, and would not end
    /// while the hardware asserts it.
    pub fn tend<L: Locking>(&mut self, vgic: &Vgic<L>, effects: &mut Effects) {
        match &mut self.0 {
            Kind::V2(port) => port.tend(vgic, effects),
            Kind::V3(port) => port.tend(vgic, effects),
        }
    }

    /// Gives what the hardware holds back to the controller, as an access to its registers and a
    /// look at what can be delivered need. [`Interface::refresh`] fills the hardware again.
    pub fn sync<L: Locking>(&mut self, vgic: &Vgic<L>, effects: &mut Effects) {
        match &mut self.0 {
            Kind::V2(port) => port.sync(vgic, effects),
            Kind::V3(port) => port.sync(vgic, effects),
        }
    }
}
