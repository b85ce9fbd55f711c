//! Drives QEMU's edu devices as a malicious driver would.
//!
//! `edu read ADDRESS` and `edu write ADDRESS` move a page; `edu doorbell ADDRESS EVENTS` writes the
//! numbers below EVENTS, one after the other, to a register of 32 bits; `edu storm ADDRESS FAULTS` moves
//! pages of all devices, at the address and behind it, where nothing is, until there were so many
//! faults, and compares how much work the program gets done meanwhile with how much it does otherwise.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use dom0_programs::device::PAGE_SIZE;
use dom0_programs::edu::{Direction, DmaPage, Edu};

/// QEMU accesses four bytes at a time what is no memory, and each access is a fault.
const FAULTS_OF_A_PAGE: u64 = PAGE_SIZE as u64 / 4;
/// How long the program works undisturbed, and the least that it works disturbed.
const MEASURE: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let devices = Edu::all()?;
    let first = devices.first().context("there is no edu device")?;
    match arguments[..] {
        ["read", address] => read(first, number(address)?),
        ["write", address] => write(first, number(address)?),
        ["doorbell", address, events] => doorbell(first, number(address)?, number(events)?),
        ["storm", address, faults] => storm(&devices, number(address)?, number(faults)?),
        _ => bail!("read ADDRESS, write ADDRESS, doorbell ADDRESS EVENTS, storm ADDRESS FAULTS"),
    }
}

fn number(text: &str) -> Result<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    u64::from_str_radix(digits, radix).with_context(|| format!("{text} is no number"))
}

/// What the device has read goes to a page of the program's own, whose bytes are shown.
fn read(edu: &Edu, address: u64) -> Result<()> {
    let page = DmaPage::filled(0x5a)?;
    edu.transfer(Direction::Read, page.address(), PAGE_SIZE);
    edu.transfer(Direction::Read, address, PAGE_SIZE);
    page.write(&[0xa5; PAGE_SIZE]);
    edu.transfer(Direction::Write, page.address(), PAGE_SIZE);
    let bytes = page.bytes();
    ensure!(
        bytes != [0xa5; PAGE_SIZE],
        "the device does not even reach the program's memory"
    );
    let sum = bytes.iter().fold(0_u64, |sum, byte| {
        // FNV-1a.
        (sum ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    });
    let kind = match bytes.iter().all(|byte| *byte == bytes[0]) {
        true => format!("{:#04x} all over", bytes[0]),
        false => "data".to_string(),
    };
    println!("EDU: read {address:#x}: {kind}, sum {sum:#018x}");
    Ok(())
}

/// A pattern goes out.
fn write(edu: &Edu, address: u64) -> Result<()> {
    let page = DmaPage::filled(0x5a)?;
    edu.transfer(Direction::Read, page.address(), PAGE_SIZE);
    edu.transfer(Direction::Write, address, PAGE_SIZE);
    println!("EDU: wrote {address:#x}");
    Ok(())
}

fn doorbell(edu: &Edu, address: u64, events: u64) -> Result<()> {
    let page = DmaPage::filled(0)?;
    for event in 0..events {
        page.write(&(event as u32).to_le_bytes());
        edu.transfer(Direction::Read, page.address(), 4);
        edu.transfer(Direction::Write, address, 4);
    }
    println!("EDU: rang {events} times at {address:#x}");
    Ok(())
}

fn storm(devices: &[Edu], address: u64, faults: u64) -> Result<()> {
    let page = DmaPage::filled(0)?;
    let calm = || work(devices, |_| page.address(), |_, time| time < MEASURE).0;
    let before = calm();
    let transfers = faults.div_ceil(FAULTS_OF_A_PAGE);
    // Never twice the same page: the records of faults are all different.
    let (stormy, done) = work(
        devices,
        |transfer| address + transfer * PAGE_SIZE as u64,
        |done, time| done < transfers || time < MEASURE,
    );
    // What else the kernel has to do, it has less of as time goes by: the better of both counts.
    let undisturbed = before.speed().max(calm().speed());
    println!(
        "EDU: {} faults of {} devices in {} ms: {:.1} % of the speed without",
        done * FAULTS_OF_A_PAGE,
        devices.len(),
        done_in(stormy),
        100.0 * stormy.speed() / undisturbed
    );
    Ok(())
}

fn done_in(work: Work) -> u128 {
    work.time.as_millis()
}

/// What a program got done.
#[derive(Clone, Copy)]
struct Work {
    units: u64,
    time: Duration,
}

impl Work {
    fn speed(self) -> f64 {
        self.units as f64 / self.time.as_secs_f64()
    }
}

/// Works while `goes_on`, and sends each device that has nothing to do to write the next address.
fn work(
    devices: &[Edu],
    address: impl Fn(u64) -> u64,
    goes_on: impl Fn(u64, Duration) -> bool,
) -> (Work, u64) {
    let began = Instant::now();
    let (mut units, mut started) = (0, 0);
    let mut state = 1_u64;
    while goes_on(started, began.elapsed()) {
        for edu in devices.iter().filter(|edu| !edu.is_busy()) {
            edu.start(Direction::Write, address(started), PAGE_SIZE);
            started += 1;
        }
        for _ in 0..20_000 {
            state = std::hint::black_box(
                state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1),
            );
        }
        units += 1;
    }
    let time = began.elapsed();
    while devices.iter().any(Edu::is_busy) {
        std::thread::yield_now();
    }
    (Work { units, time }, started)
}
