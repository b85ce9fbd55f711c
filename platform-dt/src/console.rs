//! Which UART is the console, and where its registers are.

use xen_types::{HpaRange, Interrupt};

use crate::error::{Path, Word};
use crate::node::Status;
use crate::property::Property;
use crate::{Dtb, Node, TreeError};

/// Where the choice of the console comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConsoleChoice<'s> {
    /// The boot loader's: `/chosen/stdout-path`, or the older `linux,stdout-path`.
    StdoutPath,
    /// The user's, as `dtuart=` gives it: a path or an alias. Options may follow after a `:`; the
    /// firmware has set the line already, so they are ignored.
    Named(&'s str),
}

/// The programming interface of a UART.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UartKind {
    /// Arm PL011, or the subset of it that SBSA demands.
    Pl011,
    /// Renesas SCIF.
    Scif,
    /// Renesas HSCIF: SCIF with larger FIFOs.
    Hscif,
    /// The 8250 family: 16550 and what is compatible with it.
    Ns16550,
    /// The 8250-like "mini UART" of BCM2835, behind an enable bit.
    BcmAux,
    /// NXP i.MX.
    Imx,
}

/// A UART as the tree describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Uart<'a> {
    /// Its node, which displays as its path.
    pub node: Node<'a>,
    /// How it is programmed.
    pub kind: UartKind,
    /// Its registers, as the processor addresses them.
    pub regs: HpaRange,
    /// log2 of the distance of its registers, 0 to 3. It matters to the 8250 family.
    pub reg_shift: u8,
    /// Bytes of an access to a register: 1, 2 or 4.
    pub reg_io_width: u8,
    /// The frequency of its clock in Hz, where its node gives it.
    pub clock_frequency: Option<u32>,
    /// Its first interrupt, if that is a line of the GIC.
    pub interrupt: Option<Interrupt>,
}

/// What is known of the UARTs that are compatible with one of `compatible`.
struct Family {
    kind: UartKind,
    /// Used where `reg-shift` is absent.
    shift: u8,
    /// Used where `reg-io-width` is absent.
    width: u8,
    compatible: &'static [&'static str],
}

/// All supported UARTs. The first family that fits counts, so the special come before the general.
const FAMILIES: &[Family] = &[
    // SBSA's subset may be accessed with 32 bits only.
    Family {
        kind: UartKind::Pl011,
        shift: 0,
        width: 4,
        compatible: &["arm,sbsa-uart"],
    },
    Family {
        kind: UartKind::Pl011,
        shift: 0,
        width: 2,
        compatible: &["arm,pl011"],
    },
    Family {
        kind: UartKind::Hscif,
        shift: 0,
        width: 2,
        compatible: &["renesas,hscif"],
    },
    Family {
        kind: UartKind::Scif,
        shift: 0,
        width: 2,
        compatible: &["renesas,scif"],
    },
    Family {
        kind: UartKind::BcmAux,
        shift: 2,
        width: 4,
        compatible: &["brcm,bcm2835-aux-uart"],
    },
    Family {
        kind: UartKind::Imx,
        shift: 0,
        width: 4,
        compatible: &[
            "fsl,imx6q-uart",
            "fsl,imx21-uart",
            "fsl,imx8mq-uart",
            "fsl,imx8mm-uart",
            "fsl,imx8mn-uart",
            "fsl,imx8mp-uart",
        ],
    },
    // These have registers 4 bytes apart without saying so.
    Family {
        kind: UartKind::Ns16550,
        shift: 2,
        width: 4,
        compatible: &[
            "mediatek,mt6577-uart",
            "ti,am654-uart",
            "ti,am4372-uart",
            "ti,am3352-uart",
            "ti,omap4-uart",
            "ti,omap3-uart",
            "ti,omap2-uart",
        ],
    },
    Family {
        kind: UartKind::Ns16550,
        shift: 0,
        width: 1,
        compatible: &[
            "ns16550a",
            "ns16550",
            "ns16850",
            "ns16750",
            "ns16450",
            "ns8250",
            "snps,dw-apb-uart",
            "nvidia,tegra20-uart",
            "altr,16550-FIFO32",
            "altr,16550-FIFO64",
            "altr,16550-FIFO128",
            "fsl,ns16550",
            "fsl,16550-FIFO64",
        ],
    },
];

impl<'a> Dtb<'a> {
    /// The UART that `choice` means. It must exist, be usable, be of a known kind, and have
    /// registers that the processor can address.
    pub fn console(&self, choice: ConsoleChoice<'_>) -> Result<Uart<'a>, TreeError> {
        let (place, value) = match choice {
            ConsoleChoice::StdoutPath => self.stdout_path()?,
            ConsoleChoice::Named(name) => ("dtuart=", name),
        };
        let name = value.split(':').next().unwrap_or(value);
        Uart::read(self.resolve(place, name)?)
    }

    /// The boot loader's choice, and where it stands.
    fn stdout_path(&self) -> Result<(&'static str, &'a str), TreeError> {
        let chosen = self.node("/chosen").ok_or(TreeError::NoNode {
            what: "/chosen node, so no stdout-path chooses a console",
        })?;
        let property = |name| chosen.property(name);
        let (place, path) = property("stdout-path")
            .map(|path| ("/chosen/stdout-path", path))
            .or_else(|| {
                property("linux,stdout-path").map(|path| ("/chosen/linux,stdout-path", path))
            })
            .ok_or_else(|| chosen.missing("stdout-path"))?;
        let path = path
            .string()
            .ok_or_else(|| chosen.malformed(path.name, "text in UTF-8 that ends in a NUL"))?;
        Ok((place, path))
    }
}

impl<'a> Uart<'a> {
    fn read(node: Node<'a>) -> Result<Self, TreeError> {
        let family = family(node)?;
        if node.status() != Status::Okay {
            return Err(not_available(node));
        }
        Ok(Self {
            node,
            kind: family.kind,
            regs: node.registers(0)?.ok_or_else(|| node.missing("reg"))?,
            reg_shift: one_of(node, "reg-shift", &[0, 1, 2, 3], "0 to 3")?.unwrap_or(family.shift),
            reg_io_width: one_of(node, "reg-io-width", &[1, 2, 4], "1, 2 or 4")?
                .unwrap_or(family.width),
            clock_frequency: node.property("clock-frequency").and_then(Property::u32),
            interrupt: node.interrupt(0),
        })
    }
}

fn family(node: Node<'_>) -> Result<&'static Family, TreeError> {
    let fits = |family: &&Family| node.is_compatible(family.compatible);
    FAMILIES
        .iter()
        .find(fits)
        .ok_or_else(|| match node.property("compatible") {
            Some(compatible) => TreeError::UnknownUart {
                node: Path::new(node),
                compatible: Word::new(compatible.strings().next().unwrap_or("")),
            },
            None => node.missing("compatible"),
        })
}

fn not_available(node: Node<'_>) -> TreeError {
    let status = node.property("status").and_then(Property::string);
    TreeError::NotAvailable {
        node: Path::new(node),
        status: Word::new(status.unwrap_or("")),
    }
}

/// The number that `property` gives, which must be one of `allowed`.
fn one_of(
    node: Node<'_>,
    property: &str,
    allowed: &[u8],
    expected: &'static str,
) -> Result<Option<u8>, TreeError> {
    let Some(value) = node.property(property) else {
        return Ok(None);
    };
    let value = value
        .u32()
        .ok_or_else(|| node.malformed(property, "4 bytes long"))?;
    let number = allowed.iter().find(|&&number| u32::from(number) == value);
    number.copied().map(Some).ok_or_else(|| TreeError::Value {
        node: Path::new(node),
        property: Word::new(property),
        value: value.into(),
        expected,
    })
}

#[cfg(test)]
mod tests;
