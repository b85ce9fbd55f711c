//! The boards that QEMU simulates and that the image knows, and their limits.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};

/// A board of QEMU's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Board {
    /// QEMU's own, of any size.
    Virt,
    /// NXP's i.MX 8M Plus evaluation kit.
    Imx8mpEvk,
    /// Raspberry Pi 4 model B.
    Raspi4b,
}

impl Board {
    const ALL: [Self; 3] = [Self::Virt, Self::Imx8mpEvk, Self::Raspi4b];

    /// QEMU's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Virt => "virt",
            Self::Imx8mpEvk => "imx8mp-evk",
            Self::Raspi4b => "raspi4b",
        }
    }

    /// RAM when none is asked for.
    #[must_use]
    pub const fn default_memory(self) -> Memory {
        Memory::mib(match self {
            Self::Virt => 4096,
            Self::Imx8mpEvk => 3072,
            Self::Raspi4b => 2048,
        })
    }

    /// The most CPUs it can have.
    #[must_use]
    pub const fn most_cpus(self, gic: GicVersion) -> u32 {
        match (self, gic) {
            // The GICv2 architecture's own limit.
            (Self::Virt, GicVersion::V2) => 8,
            (Self::Virt, GicVersion::V3) => 512,
            (Self::Imx8mpEvk | Self::Raspi4b, _) => 4,
        }
    }

    /// The device tree that Linux has for it, in a kernel's folder of them; none if QEMU makes it.
    #[must_use]
    pub const fn device_tree(self) -> Option<&'static str> {
        match self {
            Self::Virt => None,
            Self::Imx8mpEvk => Some("freescale/imx8mp-evk.dtb"),
            Self::Raspi4b => Some("broadcom/bcm2711-rpi-4-b.dtb"),
        }
    }

    /// Where QEMU's own boot loader puts an `Image`.
    #[must_use]
    pub const fn load_address(self) -> u64 {
        match self {
            Self::Virt | Self::Imx8mpEvk => 0x4020_0000,
            Self::Raspi4b => 0x20_0000,
        }
    }

    /// The serial port, counted as QEMU does, that the board's device tree makes its console.
    #[must_use]
    pub const fn console_port(self) -> usize {
        match self {
            Self::Virt => 0,
            Self::Imx8mpEvk | Self::Raspi4b => 1,
        }
    }
}

impl fmt::Display for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Board {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let known = Self::ALL.map(Self::name);
        match Self::ALL.into_iter().find(|board| board.name() == text) {
            Some(board) => Ok(board),
            None => bail!("the machines are {}", known.join(", ")),
        }
    }
}

/// The interrupt controller of the virt board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GicVersion {
    /// GICv2 (GIC-400).
    V2,
    /// GICv3 with an ITS.
    V3,
}

impl fmt::Display for GicVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V2 => "2",
            Self::V3 => "3",
        })
    }
}

impl FromStr for GicVersion {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "2" => Ok(Self::V2),
            "3" => Ok(Self::V3),
            _ => bail!("a GIC is version 2 or 3"),
        }
    }
}

/// An amount of RAM in whole MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Memory {
    mib: u64,
}

impl Memory {
    /// That many MiB.
    #[must_use]
    pub const fn mib(mib: u64) -> Self {
        Self { mib }
    }

    /// That many GiB.
    #[must_use]
    pub const fn gib(gib: u64) -> Self {
        Self::mib(gib * 1024)
    }

    /// The amount in MiB.
    #[must_use]
    pub const fn as_mib(self) -> u64 {
        self.mib
    }
}

/// As QEMU takes it: `512M`, `4G`.
impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mib.is_multiple_of(1024) {
            write!(f, "{}G", self.mib / 1024)
        } else {
            write!(f, "{}M", self.mib)
        }
    }
}

impl FromStr for Memory {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || format!("`{text}` is not a size such as 512M or 4G");
        let unit = text.chars().last().with_context(bad)?;
        let number: u64 = text[..text.len() - unit.len_utf8()]
            .parse()
            .with_context(bad)?;
        let mib = match unit {
            'M' | 'm' => Some(number),
            'G' | 'g' => number.checked_mul(1024),
            _ => None,
        };
        let memory = Self::mib(mib.with_context(bad)?);
        ensure!(memory.mib > 0, bad());
        Ok(memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!("512M".parse::<Memory>().unwrap(), Memory::mib(512));
        assert_eq!("4g".parse::<Memory>().unwrap(), Memory::gib(4));
        assert_eq!(Memory::mib(1536).to_string(), "1536M");
        assert_eq!(Memory::mib(8192).to_string(), "8G");
        for bad in [
            "",
            "4",
            "G",
            "-1G",
            "0M",
            "4T",
            "4é",
            "99999999999999999999G",
        ] {
            assert!(bad.parse::<Memory>().is_err(), "{bad}");
        }
    }

    #[test]
    fn boards_are_found_by_qemus_names() {
        for board in Board::ALL {
            assert_eq!(board.to_string().parse::<Board>().unwrap(), board);
        }
        let error = "pc".parse::<Board>().unwrap_err().to_string();
        assert_eq!(error, "the machines are virt, imx8mp-evk, raspi4b");
    }
}
