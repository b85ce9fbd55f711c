//! Domains from their creation to their end: `domains cycles COUNT MIB` makes and ends so many of a
//! size and compares the free memory and the time that they take; `domains run` has one say a word on
//! its serial port and switch itself off; `domains held` ends one whose memory is mapped; `domains
//! devices` makes one that may have devices; `domains refusals` asks for what cannot be had; `domains shortage`, under a hypervisor whose command line has
//! `shortage`, makes one that is refused each of its allocations in turn.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use dom0_programs::events::Events;
use dom0_programs::toolstack::Toolstack;
use xen_abi::domctl::{
    CreateDomain, DeviceSupport, DomctlOp, MaxVcpus, PagingMempool, create_flags, device_support,
    info_flags,
};
use xen_abi::io::console;
use xen_abi::{DomId, Errno, layout};
use zerocopy::FromZeros as _;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let toolstack = Toolstack::open()?;
    match arguments[..] {
        ["cycles", count, mib] => cycles(&toolstack, count.parse()?, mib.parse()?),
        ["run"] => run(&toolstack),
        ["held"] => held(&toolstack),
        ["devices"] => devices(&toolstack),
        ["refusals"] => refusals(&toolstack),
        ["shortage"] => shortage(&toolstack),
        _ => bail!("usage: domains cycles COUNT MIB | run | held | devices | refusals | shortage"),
    }
}

/// A domain with memory and a serial port.
fn make(toolstack: &Toolstack, vcpus: u32, mib: u64) -> Result<(DomId, u32)> {
    let id = toolstack.create(vcpus)?;
    Ok((id, fill(toolstack, id, mib)?))
}

/// Gives a domain memory and a serial port.
fn fill(toolstack: &Toolstack, id: DomId, mib: u64) -> Result<u32> {
    toolstack.allow_memory(id, mib)?;
    toolstack.fill(id, mib)?;
    let port = toolstack.add_vuart(id)?;
    let info = toolstack.info(id)?;
    ensure!(info.tot_pages == (mib << 8) + 4, "{info:?}");
    ensure!(info.flags & info_flags::PAUSED != 0, "{info:?}");
    Ok(port)
}

fn destroy(toolstack: &Toolstack, id: DomId) -> Result<()> {
    toolstack
        .command(DomctlOp::DestroyDomain, id)
        .with_context(|| format!("destroydomain {id}"))
}

fn cycles(toolstack: &Toolstack, count: u32, mib: u64) -> Result<()> {
    // The hypervisor's heap grows to what one takes, and stays so.
    let (id, _) = make(toolstack, 2, mib)?;
    destroy(toolstack, id)?;
    let before = toolstack.free_pages()?;
    let mut times = Vec::new();
    for cycle in 0..count {
        let begin = Instant::now();
        let (id, _) = make(toolstack, 2, mib)?;
        if cycle % 2 == 0 {
            toolstack.start_at(id, layout::RAM0.base, 0)?;
            toolstack.write(id, layout::RAM0.base, &spin())?;
            toolstack.command(DomctlOp::UnpauseDomain, id)?;
        }
        destroy(toolstack, id)?;
        let after = toolstack.free_pages()?;
        ensure!(
            before == after,
            "cycle {cycle}: {before} pages were free, now {after}"
        );
        ensure!(is_gone(toolstack, id), "{id} is still there");
        times.push(begin.elapsed());
    }
    let quarter = times.len() / 4;
    let (first, last) = (
        median(&times[..quarter]),
        median(&times[times.len() - quarter..]),
    );
    println!("DOMAINS: a cycle took {first:?} at first, {last:?} at last");
    ensure!(last < 2 * first, "cycles take longer and longer");
    println!("DOMAINS: {count} cycles, {before} pages free");
    Ok(())
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// Wherever the making of a domain ends for want of memory, it says so, and all that it had is free.
fn shortage(toolstack: &Toolstack) -> Result<()> {
    const MIB: u64 = 4;
    // The first gets all, and the heap grows to what that takes.
    let (id, _) = make(toolstack, 2, MIB)?;
    destroy(toolstack, id)?;
    let before = toolstack.free_pages()?;
    let (mut refused, mut created) = (0, false);
    loop {
        let id = match toolstack.create(2) {
            Ok(id) => id,
            // The last one got all, and it has begun anew.
            Err(_) if created => break,
            Err(error) => {
                let cause = error.downcast_ref::<io::Error>();
                let number = cause.and_then(io::Error::raw_os_error);
                let expected = i32::from(Errno::NoMemory.number());
                ensure!(number == Some(expected), "{error:#}");
                refused += 1;
                ensure_as_before(toolstack, before)?;
                continue;
            }
        };
        created = true;
        let filled = fill(toolstack, id, MIB);
        destroy(toolstack, id)?;
        ensure!(is_gone(toolstack, id), "{id} is still there");
        ensure_as_before(toolstack, before)?;
        // One who is refused a large block may get small ones.
        if let Err(error) = filled {
            refused += 1;
            println!("DOMAINS: refused: {error:#}");
        }
    }
    println!("DOMAINS: {refused} allocations refused, {before} pages free");
    Ok(())
}

fn ensure_as_before(toolstack: &Toolstack, before: u64) -> Result<()> {
    let now = toolstack.free_pages()?;
    ensure!(now == before, "{before} pages were free, now {now}");
    Ok(())
}

fn is_gone(toolstack: &Toolstack, id: DomId) -> bool {
    let answer = toolstack.info(id).map(drop);
    number_of(answer) == Errno::NoDomain.number().into()
}

fn number_of<T>(answer: io::Result<T>) -> i32 {
    answer
        .err()
        .and_then(|error| error.raw_os_error())
        .unwrap_or(0)
}

fn bytes_of(instructions: &[u32]) -> Vec<u8> {
    let bytes = instructions.iter().map(|word| word.to_le_bytes());
    bytes.flatten().collect()
}

/// `b .`
fn spin() -> Vec<u8> {
    bytes_of(&[0x1400_0000])
}

/// Writes a word to the serial port and switches off.
fn say(word: &str) -> Vec<u8> {
    // movz x1, #(VPL011 >> 16), lsl #16
    let mut code = vec![0xd2a0_0001 | ((layout::VPL011.base >> 16) as u32) << 5];
    for byte in word.bytes() {
        // movz w2, #byte; str w2, [x1]
        code.extend([0x5280_0002 | u32::from(byte) << 5, 0xb900_0022]);
    }
    // movz x0, #8; movk x0, #0x8400, lsl #16; hvc #0; b .
    code.extend([0xd280_0100, 0xf2b0_8000, 0xd400_0002, 0x1400_0000]);
    bytes_of(&code)
}

/// Says of which architecture its ITS is, and whether its interrupt controller has LPIs: a digit each.
fn say_its() -> Vec<u8> {
    /// `GITS_PIDR2`, and where the revision is in it; `GICD_TYPER` and its bit LPIS.
    const REVISION: (u64, u32, u32) = (layout::ITS.base + 0xffe8, 4, 7);
    const LPIS: (u64, u32, u32) = (layout::GICD.base + 4, 17, 17);
    let load = |address: u64| {
        let (low, high) = (address as u32 & 0xffff, (address >> 16) as u32);
        // movz x3, #low; movk x3, #high, lsl #16; ldr w2, [x3]
        [0xd280_0003 | low << 5, 0xf2a0_0003 | high << 5, 0xb940_0062]
    };
    // movz x1, #(VPL011 >> 16), lsl #16
    let mut code = vec![0xd2a0_0001 | ((layout::VPL011.base >> 16) as u32) << 5];
    for (register, first, last) in [REVISION, LPIS] {
        code.extend(load(register));
        // ubfx w2, w2, #first, #(last - first + 1); add w2, w2, #'0'; str w2, [x1]
        code.extend([
            0x5300_0042 | first << 16 | last << 10,
            0x1100_c042,
            0xb900_0022,
        ]);
    }
    // movz x0, #8; movk x0, #0x8400, lsl #16; hvc #0; b .
    code.extend([0xd280_0100, 0xf2b0_8000, 0xd400_0002, 0x1400_0000]);
    bytes_of(&code)
}

fn run(toolstack: &Toolstack) -> Result<()> {
    const WORD: &str = "spoken";
    let before = toolstack.free_pages()?;
    let (id, port) = make(toolstack, 1, 16)?;
    let heard = hear(toolstack, id, port, &say(WORD), WORD.len())?;
    println!("DOMAINS: the guest said {heard:?}");
    ensure!(heard == WORD, "{heard:?}");
    ensure_as_before(toolstack, before)?;
    println!("DOMAINS: ran");
    Ok(())
}

/// Runs code in a domain until it has switched itself off, and ends the domain. Returns the first bytes
/// that it said on its serial port.
fn hear(toolstack: &Toolstack, id: DomId, port: u32, code: &[u8], length: usize) -> Result<String> {
    let mut events = Events::open()?;
    let local = events.bind(id.get().into(), port)?;
    toolstack.write(id, layout::RAM0.base, code)?;
    toolstack.start_at(id, layout::RAM0.base, 0)?;
    let ring = (layout::MAGIC.base >> 12) + layout::magic::VUART;
    let ring = toolstack.map(id, ring, 1)?;
    toolstack.command(DomctlOp::UnpauseDomain, id)?;
    // The first event is that of the binding; the guest's own follow.
    let mut heard = String::new();
    while heard.len() < length {
        let rang = events.wait()?;
        ensure!(rang == local, "port {rang}, not {local}");
        events.unmask(local)?;
        let index = |offset| {
            let bytes = ring.read(offset, 4);
            u32::from_le_bytes(bytes.try_into().unwrap_or_default())
        };
        let produced = index(console::OUT_PROD);
        let bytes = ring.read(console::OUT, produced as usize);
        heard = String::from_utf8(bytes)?;
    }
    let mut info = toolstack.info(id)?;
    while info.flags & info_flags::SHUTDOWN == 0 {
        thread::sleep(Duration::from_millis(10));
        info = toolstack.info(id)?;
    }
    let reason = info.flags >> info_flags::SHUTDOWN_SHIFT & 0xff;
    ensure!(reason == 0, "shut down for {reason}");
    drop(ring);
    events.unbind(local)?;
    destroy(toolstack, id)?;
    ensure!(is_gone(toolstack, id), "{id} is still there");
    Ok(heard)
}

/// A domain that may have devices has what their messages need, and another has not.
fn devices(toolstack: &Toolstack) -> Result<()> {
    let support = |id| -> Result<DeviceSupport> {
        let mut support = DeviceSupport::new_zeroed();
        toolstack.domctl(DomctlOp::DeviceSupport, id, &mut support)?;
        Ok(support)
    };
    let (id, _) = make(toolstack, 1, 16)?;
    let plain = support(id)?;
    ensure!(plain == DeviceSupport::new_zeroed(), "{plain:?}");
    destroy(toolstack, id)?;
    // The heap grows to what one takes.
    destroy(toolstack, toolstack.create_with(1, create_flags::IOMMU)?)?;
    let before = toolstack.free_pages()?;
    let id = toolstack.create_with(1, create_flags::IOMMU)?;
    let port = fill(toolstack, id, 16)?;
    let given = support(id)?;
    if given.flags & device_support::ITS == 0 {
        destroy(toolstack, id)?;
        println!("DOMAINS: devices, no ITS");
        return ensure_as_before(toolstack, before);
    }
    let heard = hear(toolstack, id, port, &say_its(), 2)?;
    ensure!(heard == "31", "{heard:?}");
    ensure_as_before(toolstack, before)?;
    println!("DOMAINS: devices, an ITS");
    Ok(())
}

/// What somebody has mapped of a domain that is gone stays as it was, and is free when it is unmapped.
fn held(toolstack: &Toolstack) -> Result<()> {
    let (id, _) = make(toolstack, 1, 16)?;
    destroy(toolstack, id)?;
    let before = toolstack.free_pages()?;
    let (id, _) = make(toolstack, 1, 16)?;
    let page = toolstack.map(id, layout::RAM0.base >> 12, 3)?;
    page.write(0, b"still there");
    destroy(toolstack, id)?;
    ensure!(is_gone(toolstack, id), "{id} is still there");
    ensure!(page.read(0, 11) == b"still there", "it has changed");
    let now = toolstack.free_pages()?;
    ensure!(
        now + 3 == before,
        "{now} pages of {before} free, with 3 mapped"
    );
    drop(page);
    let after = toolstack.free_pages()?;
    ensure!(after == before, "{after} pages of {before} free");
    println!("DOMAINS: 3 pages held");
    Ok(())
}

fn refusals(toolstack: &Toolstack) -> Result<()> {
    let good = CreateDomain {
        flags: create_flags::HVM | create_flags::HAP,
        max_vcpus: 1,
        max_grant_frames: 64,
        max_maptrack_frames: 1024,
        max_evtchn_port: -1,
        grant_opts: 1,
        ..CreateDomain::new_zeroed()
    };
    let expect = |what: &str, number: i32, errno: Errno| {
        let expected = i32::from(errno.number());
        ensure!(number == expected, "{what}: {number}, not {errno}");
        Ok(())
    };
    for (what, mut request) in [
        ("no flags", CreateDomain { flags: 0, ..good }),
        (
            "unknown flags",
            CreateDomain {
                flags: 0xffff,
                ..good
            },
        ),
        (
            "no vCPUs",
            CreateDomain {
                max_vcpus: 0,
                ..good
            },
        ),
        (
            "many vCPUs",
            CreateDomain {
                max_vcpus: 129,
                ..good
            },
        ),
        (
            "a GICv7",
            CreateDomain {
                gic_version: 7,
                ..good
            },
        ),
        (
            "many SPIs",
            CreateDomain {
                nr_spis: 961,
                ..good
            },
        ),
        ("SVE", CreateDomain { sve_vl: 1, ..good }),
        (
            "a TEE",
            CreateDomain {
                tee_type: 1,
                ..good
            },
        ),
        (
            "a pool",
            CreateDomain {
                cpupool_id: 1,
                ..good
            },
        ),
        (
            "grants of version 2",
            CreateDomain {
                grant_opts: 2,
                ..good
            },
        ),
        (
            "many grants",
            CreateDomain {
                max_grant_frames: 65,
                ..good
            },
        ),
    ] {
        let answer = toolstack.domctl(DomctlOp::CreateDomain, DomId::new(0), &mut request);
        expect(what, number_of(answer), Errno::Invalid)?;
    }
    let id = toolstack.create(1)?;
    let answer = toolstack.domctl(DomctlOp::CreateDomain, id, &mut { good });
    expect("the same id", number_of(answer), Errno::Exists)?;
    let answer = toolstack.domctl(DomctlOp::MaxVcpus, id, &mut MaxVcpus { max: 2 });
    expect("another number of vCPUs", number_of(answer), Errno::Invalid)?;
    let size = &mut PagingMempool { size: 4097 };
    let answer = toolstack.domctl(DomctlOp::SetPagingMempoolSize, id, size);
    expect("a broken pool", number_of(answer), Errno::Invalid)?;
    ensure!(
        toolstack.populate(id, layout::RAM0.base >> 12, 1, 0)? == 0,
        "memory beyond what it may have"
    );
    for operation in [DomctlOp::DestroyDomain, DomctlOp::PauseDomain] {
        let answer = toolstack.command(operation, DomId::new(0));
        expect("to itself", number_of(answer), Errno::Invalid)?;
        let answer = toolstack.command(operation, DomId::new(0x7000));
        expect("to nobody", number_of(answer), Errno::NoDomain)?;
    }
    toolstack.command(DomctlOp::UnpauseDomain, id)?;
    let answer = toolstack.command(DomctlOp::UnpauseDomain, id);
    expect("a pause too many", number_of(answer), Errno::Invalid)?;
    let answer = toolstack.add_vuart(id).map_err(|error| {
        let cause = error.downcast_ref::<io::Error>();
        cause.and_then(io::Error::raw_os_error).unwrap_or(0)
    });
    expect(
        "a late port",
        answer.err().unwrap_or(0),
        Errno::NotPermitted,
    )?;
    ensure!(
        toolstack.domains()?.len() == 2,
        "{:?}",
        toolstack.domains()?
    );
    destroy(toolstack, id)?;
    ensure!(
        toolstack.domains()?.len() == 1,
        "{:?}",
        toolstack.domains()?
    );
    println!("DOMAINS: refused");
    Ok(())
}
