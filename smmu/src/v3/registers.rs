//! Registers of an SMMUv3 that this driver uses (IHI 0070, 6.1, and 6.3, which has a
//! section of each by its name), non-secure.

pub const IDR0: u32 = 0x0;
pub const IDR1: u32 = 0x4;
pub const IDR3: u32 = 0xc;
pub const IDR5: u32 = 0x14;

/// What is on.
pub const CR0: u32 = 0x20;
/// Follows CR0 once an update has taken effect.
pub const CR0ACK: u32 = 0x24;
pub const CR0_SMMUEN: u32 = 1;
pub const CR0_EVENTQEN: u32 = 1 << 2;
pub const CR0_CMDQEN: u32 = 1 << 3;

/// How tables and queues are accessed.
pub const CR1: u32 = 0x28;
/// Inner shareable, write-back inner and outer, for the tables (bits 11:6) and queues (bits 5:0).
pub const CR1_WRITE_BACK: u32 = 0b11_01_01 << 6 | 0b11_01_01;
/// Outer shareable, as the architecture wants of what is not cacheable.
pub const CR1_NON_CACHEABLE: u32 = 0b10_00_00 << 6 | 0b10_00_00;

pub const CR2: u32 = 0x2c;
/// Streams beyond the table are reported.
pub const CR2_RECINVSID: u32 = 1 << 1;
/// TLB invalidations of CPUs are not listened to: what this driver does not ask for is not done.
pub const CR2_PTM: u32 = 1 << 2;

/// What becomes of transactions while SMMUEN is 0.
pub const GBPA: u32 = 0x44;
pub const GBPA_ABORT: u32 = 1 << 20;
pub const GBPA_UPDATE: u32 = 1 << 31;
/// Shareability as it comes in (SHCFG, bits 13:12).
pub const GBPA_INCOMING: u32 = 0b01 << 12;

/// Which interrupts are on.
pub const IRQ_CTRL: u32 = 0x50;
pub const IRQ_CTRLACK: u32 = 0x54;
pub const IRQ_GERROR: u32 = 1;
pub const IRQ_EVENTQ: u32 = 1 << 2;

/// Errors of the whole SMMU: each active where the bit differs from that of GERRORN.
pub const GERROR: u32 = 0x60;
pub const GERRORN: u32 = 0x64;
pub const GERROR_CMDQ: u32 = 1;
pub const GERROR_EVENTQ_ABORT: u32 = 1 << 2;
/// Service failure mode: the SMMU has stopped (12.3).
pub const GERROR_SERVICE_FAILURE: u32 = 1 << 8;

/// Where messages go; 0 for interrupt lines.
pub const GERROR_IRQ_CFG0: u32 = 0x68;
pub const EVENTQ_IRQ_CFG0: u32 = 0xb0;

/// Where the stream table is.
pub const STRTAB_BASE: u32 = 0x80;
/// Its shape.
pub const STRTAB_BASE_CFG: u32 = 0x88;
pub const STRTAB_TWO_LEVELS: u32 = 1 << 16;
pub const STRTAB_SPLIT_SHIFT: u32 = 6;

/// The command queue: address and size, and both indexes.
pub const CMDQ_BASE: u32 = 0x90;
pub const CMDQ_PROD: u32 = 0x98;
pub const CMDQ_CONS: u32 = 0x9c;
/// The event queue, whose indexes are in page 1.
pub const EVENTQ_BASE: u32 = 0xa0;
pub const EVENTQ_PROD: u32 = 0x1_00a8;
pub const EVENTQ_CONS: u32 = 0x1_00ac;

/// Read- or write-allocate hint of a base register.
pub const BASE_ALLOCATE: u64 = 1 << 62;

/// Bytes of the two register pages that are used.
pub const REGION: u64 = 0x2_0000;
