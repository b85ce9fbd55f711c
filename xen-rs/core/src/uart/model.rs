//! From a device tree's description to the driver that fits.

use platform_dt::UartKind;

use super::Width;

/// Which serial port it is, with what its driver needs to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Model {
    /// Arm PL011, accessed with 16 bits.
    Pl011,
    /// Arm PL011 on a bus that takes 32-bit accesses only (`reg-io-width = <4>`).
    Pl011Word,
    /// The subset of it that SBSA asks for: no control register, 32-bit accesses.
    Sbsa,
    /// Renesas SCIF.
    Scif,
    /// Renesas HSCIF.
    Hscif,
    /// 8250 family.
    Ns16550 {
        /// log2 of the distance of two registers, 0 to 3.
        shift: u8,
        /// Size of an access.
        width: Width,
    },
    /// The mini UART of BCM2835: like an 8250 with a few bits elsewhere.
    BcmAux,
    /// NXP i.MX.
    Imx,
}

impl From<&platform_dt::Uart<'_>> for Model {
    fn from(uart: &platform_dt::Uart<'_>) -> Self {
        if uart.node.is_compatible(&["arm,sbsa-uart"]) {
            Self::Sbsa
        } else {
            Self::new(uart.kind, uart.reg_shift, uart.reg_io_width)
        }
    }
}

impl Model {
    /// The model of a `kind`, with its device tree node's `reg-shift` and `reg-io-width` (or what
    /// is used where they are absent).
    pub const fn new(kind: UartKind, reg_shift: u8, reg_io_width: u8) -> Self {
        match kind {
            UartKind::Pl011 => match reg_io_width {
                4 => Self::Pl011Word,
                _ => Self::Pl011,
            },
            UartKind::Scif => Self::Scif,
            UartKind::Hscif => Self::Hscif,
            UartKind::Ns16550 => Self::Ns16550 {
                shift: reg_shift,
                width: match reg_io_width {
                    1 => Width::Byte,
                    2 => Width::Half,
                    _ => Width::Word,
                },
            },
            UartKind::BcmAux => Self::BcmAux,
            UartKind::Imx => Self::Imx,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacing_and_width_go_to_those_that_have_them() {
        assert_eq!(Model::new(UartKind::Pl011, 0, 2), Model::Pl011);
        assert_eq!(Model::new(UartKind::Pl011, 0, 1), Model::Pl011);
        assert_eq!(Model::new(UartKind::Pl011, 0, 4), Model::Pl011Word);
        assert_eq!(Model::new(UartKind::BcmAux, 0, 1), Model::BcmAux);
        for (bytes, width) in [(1, Width::Byte), (2, Width::Half), (4, Width::Word)] {
            assert_eq!(
                Model::new(UartKind::Ns16550, 2, bytes),
                Model::Ns16550 { shift: 2, width }
            );
        }
    }
}
