//! A guest with a function of the machine, an `edu` (QEMU's teaching device): `given edu NAME COUNT` gives
//! it to so many guests in turn, each of which finds it, maps it, has it read and write its memory and
//! interrupt it by a message, and is ended while the function writes; `given refusals NAME OTHER` asks for
//! what cannot be had of `NAME`, and of `OTHER`, which the control domain has.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use dom0_programs::toolstack::Toolstack;
use xen_abi::domctl::{ANY_SLOT, AssignDevice, AssignFunction, DEVICE_PCI, DomctlOp, create_flags};
use xen_abi::{DomId, Errno, layout};
use zerocopy::FromZeros as _;

const RAM: u64 = layout::RAM0.base;
/// What the guest has where, in its RAM.
const STEPS: u64 = RAM + 0x1000;
const FROM: u64 = RAM + 0x1_0000;
const TO: u64 = RAM + 0x2_0000;
const PROPERTIES: u64 = RAM + 0x3_0000;
const COMMANDS: u64 = RAM + 0x4_0000;
const TABLES: u64 = RAM + 0x5_0000;
const PENDING: u64 = RAM + 0x8_0000;
const MIB: u64 = 4;

/// Where the guest wants the function, and its registers.
const SLOT: u8 = 3;
const CONFIG: u64 = layout::VPCI_ECAM.base + ((SLOT as u64) << 15);
const BAR: u64 = layout::VPCI_MEMORY.base + 0x10_0000;
/// The first LPI.
const LPI: u64 = 8192;
const WORD: u32 = 0xfeed_beef;
/// `edu`: its own memory, as its DMA addresses it.
const BUFFER: u32 = 0x4_0000;

/// What a guest does, which has steps from x0 on, of 32 bytes each: what, where, the value, and a word
/// that is not 0 when it is done.
///
/// The source, for `llvm-mc --triple=aarch64`: ICC_SRE_EL1, ICC_PMR_EL1 and ICC_IGRPEN1_EL1 are set, then
/// steps are done until one of them is 0.
const GUEST: [u32; 37] = [
    0xd280_00e9,
    0xd518_cca9,
    0xd503_3fdf,
    0xd280_1e09,
    0xd518_4609,
    0xd280_0029,
    0xd518_cce9,
    0xd503_3fdf,
    0xa940_0801,
    0xb400_0301,
    0xf100_083f,
    0x5400_00e3,
    0x5400_0100,
    0xf100_103f,
    0x5400_0143,
    0xb940_0043,
    0x3707_ffe3,
    0x1400_000b,
    0xb940_0043,
    0x1400_0009,
    0xb940_1003,
    0xb900_0043,
    0xd503_3f9f,
    0x1400_0006,
    0xd538_cc03,
    0xf10f_fc7f,
    0x5400_0041,
    0x17ff_fffd,
    0xf900_0803,
    0xf900_0c01,
    0xd503_3f9f,
    0x9100_8000,
    0x17ff_ffe8,
    0xd280_0029,
    0xf900_0c09,
    0xd503_3f9f,
    0x1400_0000,
];

/// A step of the guest.
#[derive(Clone, Copy)]
enum Step {
    /// Loads 32 bits; they are to be these.
    Load(u64, u32),
    /// Stores 32 bits.
    Store(u64, u32),
    /// Waits for an interrupt and acknowledges it: it is to be this.
    Acknowledge(u64),
    /// Loads until bit 0 is clear.
    Wait(u64),
}

impl Step {
    fn words(self) -> [u64; 4] {
        match self {
            Self::Load(at, _) => [1, at, 0, 0],
            Self::Store(at, value) => [2, at, value.into(), 0],
            Self::Acknowledge(_) => [3, 0, 0, 0],
            Self::Wait(at) => [4, at, 0, 0],
        }
    }

    fn expected(self) -> Option<u64> {
        match self {
            Self::Load(_, value) => Some(value.into()),
            Self::Acknowledge(value) => Some(value),
            Self::Store(..) | Self::Wait(_) => None,
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let toolstack = Toolstack::open()?;
    match arguments[..] {
        ["edu", name, count] => edu(&toolstack, number(name)?, count.parse()?),
        ["refusals", name, other] => refusals(&toolstack, number(name)?, number(other)?),
        _ => bail!("usage: given edu NAME COUNT | refusals NAME OTHER"),
    }
}

/// `SSSS:BB:DD.F` as the ABI has it.
fn number(name: &str) -> Result<u32> {
    let digits = |text: &str| u32::from_str_radix(text, 16).context("hexadecimal digits");
    let parts: Vec<u32> = name.split([':', '.']).map(digits).collect::<Result<_>>()?;
    let [segment, bus, device, function] = parts[..] else {
        bail!("{name}: SSSS:BB:DD.F");
    };
    Ok(segment << 16 | bus << 8 | device << 3 | function)
}

/// A domain that may have functions, with memory.
fn make(toolstack: &Toolstack) -> Result<DomId> {
    let id = toolstack.create_with(1, create_flags::IOMMU)?;
    toolstack.allow_memory(id, MIB)?;
    toolstack.fill(id, MIB)?;
    Ok(id)
}

/// Xen's calls about a function.
fn call(toolstack: &Toolstack, operation: DomctlOp, id: DomId, sbdf: u32) -> io::Result<()> {
    let mut request = AssignDevice {
        dev: DEVICE_PCI,
        sbdf_or_size: sbdf,
        ..AssignDevice::new_zeroed()
    };
    toolstack.domctl(operation, id, &mut request).map(drop)
}

/// Our own.
fn assign(toolstack: &Toolstack, id: DomId, sbdf: u32, slot: u8) -> io::Result<u16> {
    let mut request = AssignFunction {
        sbdf,
        slot,
        ..AssignFunction::new_zeroed()
    };
    toolstack.domctl(DomctlOp::AssignFunction, id, &mut request)?;
    Ok(request.virtual_bdf)
}

fn edu(toolstack: &Toolstack, sbdf: u32, count: u32) -> Result<()> {
    call(toolstack, DomctlOp::AssignDevice, DomId::IO, sbdf).context("assignable")?;
    for guest in 1..=count {
        let id = make(toolstack)?;
        let begin = Instant::now();
        let place = assign(toolstack, id, sbdf, SLOT).context("assignfunction")?;
        ensure!(place == u16::from(SLOT) << 3, "it is at {place:#x}");
        let took = begin.elapsed();
        run(toolstack, id, &steps(place))?;
        let begin = Instant::now();
        toolstack.command(DomctlOp::DestroyDomain, id)?;
        let ended = begin.elapsed();
        println!("GIVEN: guest {guest}: assigned in {took:?}, ended in {ended:?}");
    }
    // Taken from one that runs, who does not find it any more.
    let id = make(toolstack)?;
    assign(toolstack, id, sbdf, SLOT).context("assignfunction")?;
    call(toolstack, DomctlOp::DeassignDevice, id, sbdf).context("deassign")?;
    run(toolstack, id, &[Step::Load(CONFIG, u32::MAX)])?;
    toolstack.command(DomctlOp::DestroyDomain, id)?;
    call(toolstack, DomctlOp::DeassignDevice, DomId::IO, sbdf).context("given back")?;
    println!("GIVEN: {count} guests had it");
    Ok(())
}

/// Lets the guest do some steps, which is told by their results.
fn run(toolstack: &Toolstack, id: DomId, steps: &[Step]) -> Result<()> {
    let bytes =
        |words: &[u64]| -> Vec<u8> { words.iter().flat_map(|word| word.to_le_bytes()).collect() };
    let code: Vec<u8> = GUEST.iter().flat_map(|word| word.to_le_bytes()).collect();
    let mut list: Vec<u64> = steps.iter().flat_map(|step| step.words()).collect();
    list.extend([0; 4]);
    toolstack.write(id, RAM, &code)?;
    toolstack.write(id, STEPS, &bytes(&list))?;
    toolstack.start_at(id, RAM, STEPS)?;
    let pages = (list.len() * 8).div_ceil(4096);
    let seen = toolstack.map(id, STEPS >> 12, pages)?;
    toolstack.command(DomctlOp::UnpauseDomain, id)?;
    let word = |number: usize| {
        let bytes = seen.read(8 * number, 8);
        u64::from_le_bytes(bytes.try_into().unwrap_or_default())
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut number = 0;
    while number <= steps.len() {
        if word(4 * number + 3) != 0 {
            number += 1;
        } else if Instant::now() > deadline {
            let values: Vec<u64> = (0..number).map(|step| word(4 * step + 2)).collect();
            bail!("step {number} is not done; before it {values:x?}");
        } else {
            thread::sleep(Duration::from_millis(1));
        }
    }
    for (number, step) in steps.iter().enumerate() {
        let value = word(4 * number + 2);
        if let Some(expected) = step.expected() {
            ensure!(
                value == expected,
                "step {number}: {value:#x}, not {expected:#x}"
            );
        }
    }
    Ok(())
}

/// All that the guest does with the function.
fn steps(device: u16) -> Vec<Step> {
    let mut steps = Vec::new();
    find(&mut steps);
    interrupt_controller(&mut steps, device.into());
    messages(&mut steps);
    transfers(&mut steps);
    steps
}

/// It is found and sized, and appears where its BAR says.
fn find(steps: &mut Vec<Step>) {
    use Step::{Load, Store};
    steps.extend([
        Load(CONFIG, 0x11e8_1234),
        Load(CONFIG + 0x4000, u32::MAX),
        Load(BAR, u32::MAX),
        Store(CONFIG + 0x10, u32::MAX),
        Load(CONFIG + 0x10, 0xfff0_0000),
        Store(CONFIG + 0x10, BAR as u32),
        Store(CONFIG + 4, 6),
        Load(CONFIG + 0x10, BAR as u32),
        Load(BAR, 0x0100_00ed),
        Store(BAR + 4, 0x1234_5678),
        Load(BAR + 4, !0x1234_5678),
    ]);
    // Elsewhere, and back.
    let other = BAR + 0x20_0000;
    steps.extend([
        Store(CONFIG + 0x10, other as u32),
        Load(other, 0x0100_00ed),
        Load(BAR, u32::MAX),
        Store(CONFIG + 0x10, BAR as u32),
        Load(BAR, 0x0100_00ed),
    ]);
}

/// Event 0 of the device is the first LPI.
fn interrupt_controller(steps: &mut Vec<Step>, device: u64) {
    let mut store = |at: u64, value: u64| {
        steps.push(Step::Store(at, value as u32));
        steps.push(Step::Store(at + 4, (value >> 32) as u32));
    };
    let (redistributor, its) = (layout::GICR.base, layout::ITS.base);
    const VALID: u64 = 1 << 63;
    store(PROPERTIES, 0xa1);
    store(redistributor + 0x70, PROPERTIES | 13);
    store(redistributor + 0x78, PENDING);
    store(its + 0x80, VALID | COMMANDS);
    store(its + 0x100, VALID | 1 << 56 | TABLES);
    store(its + 0x108, VALID | 4 << 56 | (TABLES + 0x1000));
    let commands = [
        // MAPC, MAPD with 16 events, MAPTI, INV, SYNC.
        [0x09, 0, VALID, 0],
        [0x08 | device << 32, 3, VALID | (TABLES + 0x2000), 0],
        [0x0a | device << 32, LPI << 32, 0, 0],
        [0x0c | device << 32, 0, 0, 0],
        [0x05, 0, 0, 0],
    ];
    for (number, word) in (0..).zip(commands.as_flattened()) {
        store(COMMANDS + 8 * number, *word);
    }
    steps.extend([
        Step::Store(layout::GICD.base, 0x12),
        Step::Store(redistributor + 0x14, 0),
        Step::Store(redistributor, 1),
        Step::Store(its, 1),
        Step::Store(its + 0x88, 0xa0),
        Step::Load(its + 0x90, 0xa0),
    ]);
}

/// A message of the function interrupts the guest.
fn messages(steps: &mut Vec<Step>) {
    use Step::{Acknowledge, Load, Store};
    let capability = CONFIG + 0x40;
    steps.extend([
        Load(CONFIG + 0x34, 0x40),
        Store(capability + 4, (layout::ITS.base + 0x1_0040) as u32),
        Store(capability + 8, 0),
        Store(capability + 12, 0),
        Store(capability, 1 << 16),
        Store(BAR + 0x60, 1),
        Acknowledge(LPI),
        Store(BAR + 0x64, 1),
    ]);
}

/// It reads and writes the guest's memory; the last transfer is under way when the guest ends.
fn transfers(steps: &mut Vec<Step>) {
    use Step::{Load, Store, Wait};
    let transfer = |from: u32, to: u32, command: u32| {
        [
            Store(BAR + 0x80, from),
            Store(BAR + 0x88, to),
            Store(BAR + 0x90, 4),
            Store(BAR + 0x98, command),
        ]
    };
    steps.extend([Store(FROM, WORD), Store(TO, 0)]);
    steps.extend(transfer(FROM as u32, BUFFER, 1));
    steps.push(Wait(BAR + 0x98));
    steps.extend(transfer(BUFFER, TO as u32, 3));
    steps.extend([Wait(BAR + 0x98), Load(TO, WORD)]);
    steps.extend(transfer(BUFFER, TO as u32, 3));
}

fn refusals(toolstack: &Toolstack, sbdf: u32, other: u32) -> Result<()> {
    let expect = |what: &str, answer: io::Result<u16>, errno: Errno| {
        let number = answer.err().and_then(|error| error.raw_os_error());
        let expected = Some(i32::from(errno.number()));
        ensure!(number == expected, "{what}: {number:?}, not {errno}");
        Ok(())
    };
    let id = make(toolstack)?;
    let plain = toolstack.create(1)?;
    let assign = |id, sbdf, slot| assign(toolstack, id, sbdf, slot);
    expect("in use", assign(id, other, ANY_SLOT), Errno::Busy)?;
    expect("unknown", assign(id, 0xffff, ANY_SLOT), Errno::NoDevice)?;
    call(toolstack, DomctlOp::AssignDevice, DomId::IO, sbdf).context("assignable")?;
    expect(
        "not for devices",
        assign(plain, sbdf, ANY_SLOT),
        Errno::Invalid,
    )?;
    expect("no slot", assign(id, sbdf, 32), Errno::Invalid)?;
    expect(
        "nobody",
        assign(DomId::new(0x7000), sbdf, ANY_SLOT),
        Errno::NoDomain,
    )?;
    call(toolstack, DomctlOp::TestAssignDevice, id, sbdf).context("test")?;
    assign(id, sbdf, ANY_SLOT).context("assignfunction")?;
    expect("twice", assign(id, sbdf, ANY_SLOT), Errno::Exists)?;
    let second = make(toolstack)?;
    expect("another's", assign(second, sbdf, ANY_SLOT), Errno::Busy)?;
    let back = call(toolstack, DomctlOp::DeassignDevice, second, sbdf).map(|()| 0);
    expect("from another", back, Errno::NoDevice)?;
    let back = call(toolstack, DomctlOp::DeassignDevice, DomId::IO, sbdf).map(|()| 0);
    expect("to the control domain", back, Errno::Busy)?;
    for id in [id, plain, second] {
        toolstack.command(DomctlOp::DestroyDomain, id)?;
    }
    call(toolstack, DomctlOp::DeassignDevice, DomId::IO, sbdf).context("given back")?;
    println!("GIVEN: refused");
    Ok(())
}
