//! The header at the start of config space (PCI Local Bus 3.0, 6.1 and 6.2; PCI Express Base 6.0,
//! 7.5.1; of bridges: PCI-to-PCI Bridge Architecture 1.2, chapter 3).

use crate::config::{ConfigOffset, Register, Value, Width};

/// Vendor ID.
pub const VENDOR_ID: Register<u16> = Register::at(0x00);
/// Device ID.
pub const DEVICE_ID: Register<u16> = Register::at(0x02);
/// Command.
pub const COMMAND: Register<Command> = Register::at(0x04);
/// Status.
pub const STATUS: Register<Status> = Register::at(0x06);
/// Revision ID.
pub const REVISION: Register<u8> = Register::at(0x08);
/// Revision ID and, in the upper 24 bits, class code.
pub const CLASS_REVISION: Register<u32> = Register::at(0x08);
/// Cache line size, in dwords.
pub const CACHE_LINE_SIZE: Register<u8> = Register::at(0x0c);
/// Latency timer.
pub const LATENCY_TIMER: Register<u8> = Register::at(0x0d);
/// Header type and multifunction bit.
pub const HEADER_TYPE: Register<HeaderType> = Register::at(0x0e);
/// Built-in self test.
pub const BIST: Register<u8> = Register::at(0x0f);
/// The first base address register; others follow every 4 bytes.
pub const BAR0: u16 = 0x10;
/// Subsystem vendor ID, type 0.
pub const SUBSYSTEM_VENDOR_ID: Register<u16> = Register::at(0x2c);
/// Subsystem ID, type 0.
pub const SUBSYSTEM_ID: Register<u16> = Register::at(0x2e);
/// Expansion ROM, type 0.
pub const ROM: Register<u32> = Register::at(0x30);
/// Where the capability list begins.
pub const CAPABILITIES: Register<u8> = Register::at(0x34);
/// Interrupt line: what software noted there.
pub const INTERRUPT_LINE: Register<u8> = Register::at(0x3c);
/// Interrupt pin: 0 for none, 1 to 4 for INTA to INTD.
pub const INTERRUPT_PIN: Register<u8> = Register::at(0x3d);

/// Primary, secondary and subordinate bus number and, in the top byte, the secondary latency timer,
/// type 1.
pub const PRIMARY_BUS: Register<u8> = Register::at(0x18);
/// The bus directly behind the bridge, type 1.
pub const SECONDARY_BUS: Register<u8> = Register::at(0x19);
/// The highest bus behind the bridge, type 1.
pub const SUBORDINATE_BUS: Register<u8> = Register::at(0x1a);
/// I/O window: first address, bits 15:12, type 1.
pub const IO_BASE: Register<u8> = Register::at(0x1c);
/// I/O window: last address, bits 15:12, type 1.
pub const IO_LIMIT: Register<u8> = Register::at(0x1d);
/// Status of the secondary side, type 1.
pub const SECONDARY_STATUS: Register<Status> = Register::at(0x1e);
/// Memory window: first address, bits 31:20, type 1.
pub const MEMORY_BASE: Register<u16> = Register::at(0x20);
/// Memory window: last address, bits 31:20, type 1.
pub const MEMORY_LIMIT: Register<u16> = Register::at(0x22);
/// Prefetchable window: first address, bits 31:20, type 1.
pub const PREFETCH_BASE: Register<u16> = Register::at(0x24);
/// Prefetchable window: last address, bits 31:20, type 1.
pub const PREFETCH_LIMIT: Register<u16> = Register::at(0x26);
/// Prefetchable window: first address, bits 63:32, type 1.
pub const PREFETCH_BASE_UPPER: Register<u32> = Register::at(0x28);
/// Prefetchable window: last address, bits 63:32, type 1.
pub const PREFETCH_LIMIT_UPPER: Register<u32> = Register::at(0x2c);
/// I/O window: first address, bits 31:16, type 1.
pub const IO_BASE_UPPER: Register<u16> = Register::at(0x30);
/// I/O window: last address, bits 31:16, type 1.
pub const IO_LIMIT_UPPER: Register<u16> = Register::at(0x32);
/// Expansion ROM, type 1.
pub const BRIDGE_ROM: Register<u32> = Register::at(0x38);
/// Bridge control, type 1.
pub const BRIDGE_CONTROL: Register<BridgeControl> = Register::at(0x3e);

/// Base address register `number` of a header; `None` beyond the last.
pub fn bar(layout: Layout, number: usize) -> Option<Register<u32>> {
    let number = u16::try_from(number).ok()?;
    let inside = usize::from(number) < layout.bars();
    let offset = ConfigOffset::new(BAR0 + 4 * number.min(layout.bars() as u16))?;
    Register::new(offset).filter(|_| inside)
}

/// What [`VENDOR_ID`] reads as where there is no function.
pub const NO_VENDOR: u16 = 0xffff;
/// What it reads as while a function behind a root port that lets software see it is not ready yet
/// (PCI Express Base 6.0, 2.3.2).
pub const NOT_READY_VENDOR: u16 = 0x0001;

macro_rules! flags_value {
    ($flags:ty, $number:ty) => {
        impl Value for $flags {
            const WIDTH: Width = <$number as Value>::WIDTH;

            fn from_bits(bits: u32) -> Self {
                Self::from_bits_retain(bits as $number)
            }

            fn to_bits(self) -> u32 {
                self.bits().into()
            }
        }
    };
}

bitflags::bitflags! {
    /// The command register (PCI Express Base 6.0, 7.5.1.1.3).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Command: u16 {
        /// Answers in I/O space.
        const IO = 1 << 0;
        /// Answers in memory space.
        const MEMORY = 1 << 1;
        /// May be the source of requests; of a bridge: forwards them upstream.
        const BUS_MASTER = 1 << 2;
        /// Special cycles; 0 on PCI Express.
        const SPECIAL_CYCLES = 1 << 3;
        /// Memory write and invalidate.
        const WRITE_INVALIDATE = 1 << 4;
        /// VGA palette snoop.
        const VGA_SNOOP = 1 << 5;
        /// Reports parity errors.
        const PARITY_ERROR = 1 << 6;
        /// Address stepping, of PCI before 3.0.
        const STEPPING = 1 << 7;
        /// Reports fatal and non-fatal errors.
        const SERR = 1 << 8;
        /// Fast back-to-back transactions.
        const FAST_BACK_TO_BACK = 1 << 9;
        /// Does not assert INTx.
        const INTX_DISABLE = 1 << 10;
    }

    /// The status register. What is not a capability or the state of INTx is cleared by writing 1
    /// (PCI Express Base 6.0, 7.5.1.1.4).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Status: u16 {
        /// Immediate readiness: no delay is needed after a reset.
        const IMMEDIATE_READINESS = 1 << 0;
        /// INTx would be asserted, were it not disabled.
        const INTX = 1 << 3;
        /// There is a capability list.
        const CAPABILITIES = 1 << 4;
        /// 66 MHz.
        const MHZ_66 = 1 << 5;
        /// Fast back-to-back capable.
        const FAST_BACK_TO_BACK = 1 << 7;
        /// A poisoned completion or request was met; cleared by 1.
        const MASTER_PARITY_ERROR = 1 << 8;
        /// Signalled a target abort; cleared by 1.
        const SIGNALED_TARGET_ABORT = 1 << 11;
        /// Received a target abort; cleared by 1.
        const RECEIVED_TARGET_ABORT = 1 << 12;
        /// Received a master abort: an unsupported request; cleared by 1.
        const RECEIVED_MASTER_ABORT = 1 << 13;
        /// Signalled a system error; cleared by 1.
        const SIGNALED_SYSTEM_ERROR = 1 << 14;
        /// Received what is poisoned; cleared by 1.
        const PARITY_ERROR = 1 << 15;
    }

    /// Bridge control (PCI Express Base 6.0, 7.5.1.3.13).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct BridgeControl: u16 {
        /// Answers to poisoned requests.
        const PARITY_ERROR = 1 << 0;
        /// Forwards errors from the secondary side.
        const SERR = 1 << 1;
        /// Forwards only the first 256 bytes of each KiB of I/O.
        const ISA = 1 << 2;
        /// Forwards the VGA addresses.
        const VGA = 1 << 3;
        /// Decodes 16 bits of VGA's I/O addresses.
        const VGA_16BIT = 1 << 4;
        /// Forwards master aborts as errors.
        const MASTER_ABORT = 1 << 5;
        /// Holds everything behind the bridge in reset.
        const SECONDARY_BUS_RESET = 1 << 6;
    }
}

flags_value!(Command, u16);
flags_value!(Status, u16);
flags_value!(BridgeControl, u16);

impl Command {
    /// Both kinds of address decode.
    pub const DECODE: Self = Self::IO.union(Self::MEMORY);
}

impl Status {
    /// The bits that writing 1 clears.
    pub const WRITE_1_TO_CLEAR: Self = Self::MASTER_PARITY_ERROR
        .union(Self::SIGNALED_TARGET_ABORT)
        .union(Self::RECEIVED_TARGET_ABORT)
        .union(Self::RECEIVED_MASTER_ABORT)
        .union(Self::SIGNALED_SYSTEM_ERROR)
        .union(Self::PARITY_ERROR);
}

/// The header type register (PCI Express Base 6.0, 7.5.1.1.9).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct HeaderType(u8);

/// What a header describes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Layout {
    /// Type 0: an endpoint.
    Endpoint,
    /// Type 1: a PCI-to-PCI bridge.
    Bridge,
}

impl HeaderType {
    const MULTIFUNCTION: u8 = 1 << 7;

    /// An endpoint's.
    pub const fn endpoint(multifunction: bool) -> Self {
        Self(if multifunction {
            Self::MULTIFUNCTION
        } else {
            0
        })
    }

    /// The register's bits.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The header's layout; `None` for type 2 (CardBus) and types that nobody has defined.
    pub const fn layout(self) -> Option<Layout> {
        match self.0 & !Self::MULTIFUNCTION {
            0 => Some(Layout::Endpoint),
            1 => Some(Layout::Bridge),
            _ => None,
        }
    }

    /// Whether the device has more functions than number 0.
    pub const fn is_multifunction(self) -> bool {
        self.0 & Self::MULTIFUNCTION != 0
    }
}

impl Value for HeaderType {
    const WIDTH: Width = Width::Byte;

    fn from_bits(bits: u32) -> Self {
        Self(bits as u8)
    }

    fn to_bits(self) -> u32 {
        self.0.into()
    }
}

impl Layout {
    /// How many base address registers it has.
    pub const fn bars(self) -> usize {
        match self {
            Self::Endpoint => 6,
            Self::Bridge => 2,
        }
    }

    /// Its expansion ROM register.
    pub const fn rom(self) -> Register<u32> {
        match self {
            Self::Endpoint => ROM,
            Self::Bridge => BRIDGE_ROM,
        }
    }
}
