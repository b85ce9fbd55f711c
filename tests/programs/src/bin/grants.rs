//! Grants from Dom0 to itself: granted by gntalloc, mapped by gntdev, written on one side and read on
//! the other, many times; and what must be refused.

use anyhow::{Context as _, Result, ensure};
use dom0_programs::grants::{Granting, Mapper};

const ROUNDS: u32 = 200;

fn main() -> Result<()> {
    let granting = Granting::open()?;
    let mapper = Mapper::open()?;
    for round in 0..ROUNDS {
        round_trip(&granting, &mapper, round).with_context(|| format!("round {round}"))?;
    }
    println!("GRANTS: {ROUNDS} rounds");

    many_at_once(&granting, &mapper)?;
    ensure!(
        mapper.map(0, 7).is_err(),
        "an entry that grants nothing was mapped"
    );
    ensure!(
        mapper.map(0, 1 << 20).is_err(),
        "an entry outside the table was mapped"
    );
    ensure!(
        mapper.map(77, 8).is_err(),
        "a grant of no domain was mapped"
    );
    let read_only = granting.grant(0, false)?;
    ensure!(
        mapper.map(0, read_only.reference).is_err(),
        "a grant for reading was mapped for writing"
    );
    println!("GRANTS: refusals as they should be");
    println!("GRANTS: done");
    Ok(())
}

fn round_trip(granting: &Granting, mapper: &Mapper, round: u32) -> Result<()> {
    let granted = granting.grant(0, true).context("grant")?;
    let mapped = mapper.map(0, granted.reference).context("map")?;
    let word = round.wrapping_mul(0x9e37_79b9).to_le_bytes();
    granted.page.write(100, &word);
    ensure!(
        mapped.read()[100..104] == word,
        "written here, not read there"
    );
    mapped.write(4092, &word);
    ensure!(
        granted.page.read(4092, 4) == word,
        "written there, not read here"
    );
    Ok(())
}

/// One page mapped several times, and several pages at a time.
fn many_at_once(granting: &Granting, mapper: &Mapper) -> Result<()> {
    let granted: Vec<_> = (0..16)
        .map(|_| granting.grant(0, true))
        .collect::<Result<_, _>>()?;
    let mapped: Vec<_> = granted
        .iter()
        .chain(&granted)
        .map(|granted| mapper.map(0, granted.reference))
        .collect::<Result<_, _>>()?;
    for (number, granted) in granted.iter().enumerate() {
        granted.page.write(0, &[number as u8 + 1; 64]);
    }
    for (number, mapped) in mapped.iter().enumerate() {
        let expected = (number % granted.len()) as u8 + 1;
        ensure!(
            mapped.read()[..64] == [expected; 64],
            "mapping {number} shows another page"
        );
    }
    println!(
        "GRANTS: {} mappings of {} pages at once",
        mapped.len(),
        granted.len()
    );
    Ok(())
}
