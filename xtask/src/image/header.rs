//! The two headers at the start of the image file.
//!
//! First the 64 bytes of the arm64 boot protocol (Linux, `Documentation/arch/arm64/booting.rst`),
//! then 64 bytes of ours, which the build fills in and the image reads: where the symbol table
//! is, and the console to use when the device tree names none. All numbers are little-endian.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};

/// The magic number of the arm64 boot protocol, `ARM\x64`, at this offset.
const IMAGE_MAGIC: (usize, &[u8]) = (56, b"ARM\x64");
/// Offset of the size that the image occupies from its start, for the boot loader.
const IMAGE_SIZE: usize = 16;

/// The magic number of our block, at this offset.
const CONFIG_MAGIC: (usize, &[u8]) = (64, b"XRSCONF1");
const SYMBOLS_OFFSET: usize = 72;
const SYMBOLS_SIZE: usize = 80;
const CONSOLE_KIND: usize = 88;
const CONSOLE_REG_SHIFT: usize = 92;
const CONSOLE_IO_WIDTH: usize = 93;
const CONSOLE_ADDRESS: usize = 96;
/// Both headers together.
const HEADERS_SIZE: usize = 128;

/// Checks that a flat image starts with both headers.
///
/// # Errors
/// If one of them is not there.
pub fn check(image: &[u8]) -> Result<()> {
    ensure!(
        image.len() >= HEADERS_SIZE,
        "the image has no room for its headers"
    );
    check_boot(image)?;
    check_magic(image, "xen-rs", CONFIG_MAGIC)
}

/// Checks that a flat image starts with the header of the boot protocol.
///
/// # Errors
/// If it does not.
pub fn check_boot(image: &[u8]) -> Result<()> {
    check_magic(image, "arm64 Image", IMAGE_MAGIC)
}

fn check_magic(image: &[u8], name: &str, (offset, magic): (usize, &[u8])) -> Result<()> {
    let found = image.get(offset..).unwrap_or_default();
    ensure!(
        found.starts_with(magic),
        "the image has no {name} header: {} is not at offset {offset}",
        magic.escape_ascii()
    );
    Ok(())
}

/// Says how much memory the image occupies from its start, in bytes.
///
/// # Errors
/// If the file is not an image.
pub fn set_image_size(image: &mut [u8], size: u64) -> Result<()> {
    check(image)?;
    put(image, IMAGE_SIZE, &size.to_le_bytes());
    Ok(())
}

/// Says where in the file the symbol table is, in bytes from its start.
///
/// # Errors
/// If the file is not an image.
pub fn set_symbols(image: &mut [u8], offset: u64, size: u64) -> Result<()> {
    check(image)?;
    put(image, SYMBOLS_OFFSET, &offset.to_le_bytes());
    put(image, SYMBOLS_SIZE, &size.to_le_bytes());
    Ok(())
}

/// Gives the image a console for when the device tree names none.
///
/// # Errors
/// If the file is not an image.
pub fn set_console(image: &mut [u8], console: &EarlyConsole) -> Result<()> {
    check(image)?;
    put(image, CONSOLE_KIND, &(console.kind as u32).to_le_bytes());
    put(image, CONSOLE_REG_SHIFT, &[console.reg_shift]);
    put(image, CONSOLE_IO_WIDTH, &[console.io_width]);
    put(image, CONSOLE_ADDRESS, &console.address.to_le_bytes());
    Ok(())
}

fn put(image: &mut [u8], offset: usize, bytes: &[u8]) {
    image[offset..offset + bytes.len()].copy_from_slice(bytes);
}

/// A serial port by its registers: `pl011,0x09000000` or `ns16550,0xfe215040,2,4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlyConsole {
    /// What kind of port it is.
    pub kind: ConsoleKind,
    /// Physical address of its registers.
    pub address: u64,
    /// A register's number is shifted left by this to make its offset.
    pub reg_shift: u8,
    /// Width of a register access in bytes: 1, 2 or 4.
    pub io_width: u8,
}

/// The kinds of serial port that the image can drive; the number is the one in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ConsoleKind {
    /// Arm PrimeCell UART.
    Pl011 = 1,
    /// 8250 and its descendants.
    Ns16550 = 2,
    /// Renesas SCIF.
    Scif = 3,
    /// Renesas HSCIF.
    Hscif = 4,
    /// NXP i.MX UART.
    Imx = 5,
    /// Broadcom's auxiliary "mini" UART.
    BcmAux = 6,
}

/// Name, kind, and the register shift and access width when none are given.
const KINDS: [(&str, ConsoleKind, u8, u8); 6] = [
    ("pl011", ConsoleKind::Pl011, 0, 4),
    ("ns16550", ConsoleKind::Ns16550, 0, 1),
    ("scif", ConsoleKind::Scif, 0, 2),
    ("hscif", ConsoleKind::Hscif, 0, 2),
    ("imx", ConsoleKind::Imx, 0, 4),
    ("bcm-aux", ConsoleKind::BcmAux, 2, 4),
];

impl FromStr for EarlyConsole {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let mut fields = text.split(',');
        let name = fields.next().unwrap_or_default();
        let Some((_, kind, shift, width)) = KINDS.iter().find(|(known, ..)| *known == name) else {
            let known: Vec<_> = KINDS.iter().map(|(name, ..)| *name).collect();
            bail!("console `{name}` is not one of {}", known.join(", "));
        };
        let address = fields
            .next()
            .context("the address is missing: KIND,ADDRESS")?;
        let console = Self {
            kind: *kind,
            address: parse_address(address)?,
            reg_shift: fields
                .next()
                .map_or(Ok(*shift), str::parse)
                .context("the register shift")?,
            io_width: fields
                .next()
                .map_or(Ok(*width), str::parse)
                .context("the access width")?,
        };
        ensure!(console.address != 0, "the address is 0");
        ensure!(
            console.reg_shift <= 3,
            "register shift {} is above 3",
            console.reg_shift
        );
        ensure!(
            [1, 2, 4].contains(&console.io_width),
            "an access width is 1, 2 or 4 bytes"
        );
        ensure!(
            fields.next().is_none(),
            "more than KIND,ADDRESS,REG-SHIFT,IO-WIDTH"
        );
        Ok(console)
    }
}

fn parse_address(text: &str) -> Result<u64> {
    let number = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    number.with_context(|| format!("`{text}` is not an address"))
}

impl fmt::Display for EarlyConsole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = KINDS
            .iter()
            .find(|(_, kind, ..)| *kind == self.kind)
            .map_or("", |k| k.0);
        write!(
            f,
            "{name},{:#x},{},{}",
            self.address, self.reg_shift, self.io_width
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blank() -> Vec<u8> {
        let mut image = vec![0; 4096];
        put(&mut image, IMAGE_MAGIC.0, IMAGE_MAGIC.1);
        put(&mut image, CONFIG_MAGIC.0, CONFIG_MAGIC.1);
        image
    }

    #[test]
    fn a_file_without_headers_is_refused() {
        assert!(check(&blank()).is_ok());
        assert!(check(&blank()[..127]).is_err());
        let mut image = blank();
        image[64] = b'Y';
        let error = set_image_size(&mut image, 4096).unwrap_err().to_string();
        assert_eq!(
            error,
            "the image has no xen-rs header: XRSCONF1 is not at offset 64"
        );
    }

    #[test]
    fn fields_land_where_the_image_reads_them() {
        let mut image = blank();
        set_image_size(&mut image, 0x12_3000).unwrap();
        set_symbols(&mut image, 0x8_0010, 0x1234).unwrap();
        let console: EarlyConsole = "ns16550,0xfe215040,2,4".parse().unwrap();
        set_console(&mut image, &console).unwrap();
        let u64_at = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
        assert_eq!(u64_at(16), 0x12_3000);
        assert_eq!(u64_at(64 + 8), 0x8_0010);
        assert_eq!(u64_at(64 + 16), 0x1234);
        assert_eq!(image[64 + 24..64 + 32], [2, 0, 0, 0, 2, 4, 0, 0]);
        assert_eq!(u64_at(64 + 32), 0xfe21_5040);
        assert!(check(&image).is_ok());
    }

    #[test]
    fn consoles_are_parsed() {
        let parse = |text: &str| text.parse::<EarlyConsole>();
        assert_eq!(
            parse("pl011,0x09000000").unwrap().to_string(),
            "pl011,0x9000000,0,4"
        );
        assert_eq!(parse("bcm-aux,4263595072").unwrap().reg_shift, 2);
        for bad in [
            "",
            "pl011",
            "pl011,",
            "pl011,0",
            "pl011,x",
            "uart,0x1",
            "pl011,0x1,4",
            "pl011,0x1,0,3",
            "pl011,0x1,0,4,5",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
