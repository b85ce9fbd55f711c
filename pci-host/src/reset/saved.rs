//! What a function has to get back after a reset: what firmware and the hypervisor have set up, and
//! nothing that a guest has.

use arrayvec::ArrayVec;

use crate::capability::{ExtendedCapabilityId as Extended, PortType, express};
use crate::config::{Access, ConfigAccess, ConfigOffset, Function, Width};
use crate::enumerate::BusNumbers;
use crate::header::{self, BridgeControl, Command};
use crate::sizing::with_decode_off;
use crate::{Device, HostSbdf};

/// As many registers as a function can have in [`EXPRESS`], [`EXTENDED`], [`HEADER`], [`BRIDGE`] and
/// six Resizable BARs.
const MOST: usize = 40;

/// Registers of the header: cache line size, latency timer, interrupt line.
const HEADER: &[(u16, Width)] = &[
    (0x0c, Width::Byte),
    (0x0d, Width::Byte),
    (0x3c, Width::Byte),
];

/// Registers of a bridge: its windows, and their upper halves.
const BRIDGE: &[(u16, Width)] = &[
    (0x1c, Width::Word),
    (0x20, Width::Dword),
    (0x24, Width::Dword),
    (0x28, Width::Dword),
    (0x2c, Width::Dword),
    (0x30, Width::Dword),
];

/// Registers of PCI Express; of the last ones only ports have a use.
const EXPRESS: &[u16] = &[
    express::register::DEVICE_CONTROL,
    express::register::LINK_CONTROL,
];
const EXPRESS_2: &[u16] = &[
    express::register::DEVICE_CONTROL_2,
    express::register::LINK_CONTROL_2,
];

/// Registers of extended capabilities: which errors count and as what, access control, latency
/// tolerance.
const EXTENDED: &[(Extended, u16, Width)] = &[
    (Extended::ADVANCED_ERRORS, 0x08, Width::Dword),
    (Extended::ADVANCED_ERRORS, 0x0c, Width::Dword),
    (Extended::ADVANCED_ERRORS, 0x14, Width::Dword),
    (Extended::ACS, 0x06, Width::Word),
    (Extended::LATENCY_TOLERANCE, 0x04, Width::Dword),
];

/// A function and what its registers hold.
#[derive(Clone, Debug)]
pub(super) struct Saved {
    pub sbdf: HostSbdf,
    device: Device,
    registers: ArrayVec<(Access, u32), MOST>,
    bridge: Option<(BusNumbers, BridgeControl, Command)>,
}

impl Saved {
    /// Reads what a function has to get back.
    pub fn read<C: ConfigAccess + ?Sized>(config: &C, device: &Device) -> Self {
        let function = Function::new(config, device.sbdf);
        let mut saved = Self {
            sbdf: device.sbdf,
            device: device.clone(),
            registers: ArrayVec::new(),
            bridge: None,
        };
        // A BAR's size first: its address depends on it.
        saved.resizable(function);
        HEADER
            .iter()
            .for_each(|(at, width)| saved.keep(function, Some(*at), *width));
        saved.express(function);
        for (id, at, width) in EXTENDED {
            let start = device.find_extended(*id);
            saved.keep(function, start.and_then(|start| offset(start, *at)), *width);
        }
        if device.is_bridge() {
            BRIDGE
                .iter()
                .for_each(|(at, width)| saved.keep(function, Some(*at), *width));
            let control = function.read(header::BRIDGE_CONTROL);
            saved.bridge = Some((
                BusNumbers::read(function),
                control - BridgeControl::SECONDARY_BUS_RESET,
                function.read(header::COMMAND),
            ));
        }
        saved
    }

    /// The function as it was found.
    pub fn device(&self) -> &Device {
        &self.device
    }

    fn express<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>) {
        let Some(express) = self.device.express else {
            return;
        };
        let second = if express.version >= 2 { EXPRESS_2 } else { &[] };
        for register in EXPRESS.iter().chain(second) {
            let at = offset(express.offset, *register);
            self.keep(function, at, Width::Word);
        }
        if express.port == PortType::SwitchDownstream {
            let at = offset(express.offset, express::register::SLOT_CONTROL);
            self.keep(function, at, Width::Word);
        }
    }

    /// The sizes of Resizable BARs (7.8.6.3).
    fn resizable<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>) {
        let Some(start) = self.device.find_extended(Extended::RESIZABLE_BAR) else {
            return;
        };
        for number in 0..self.device.resizable_bars {
            self.keep(function, offset(start, 8 + 8 * number), Width::Dword);
        }
    }

    fn keep<C: ConfigAccess + ?Sized>(
        &mut self,
        function: Function<'_, C>,
        at: Option<u16>,
        width: Width,
    ) {
        if let Some(access) = access(at, width) {
            let value = function.read_access(access);
            // There is a place for each: `MOST` counts them.
            let _ = self.registers.try_push((access, value));
        }
    }

    /// Gives the function back what it had. An endpoint answers nothing and asks for nothing.
    pub fn restore<C: ConfigAccess + ?Sized>(&self, config: &C) {
        let function = Function::new(config, self.sbdf);
        if let Some(power) = self.device.power {
            power.set_state(function, 0);
        }
        with_decode_off(function, || {
            for (access, value) in &self.registers {
                function.write_access(*access, *value);
            }
            self.restore_bars(function);
        });
        match self.bridge {
            Some((numbers, control, command)) => {
                numbers.write(function);
                function.write(header::BRIDGE_CONTROL, control);
                function.write(header::COMMAND, command);
            }
            None => function.write(header::COMMAND, Command::INTX_DISABLE),
        }
    }

    fn restore_bars<C: ConfigAccess + ?Sized>(&self, function: Function<'_, C>) {
        // A virtual function has none of its own.
        if self.device.physical.is_some() {
            return;
        }
        for (number, bar) in self.device.bars.iter().enumerate() {
            let register = |number| header::bar(self.device.layout, number);
            if let (Some(bar), Some(low)) = (bar, register(number)) {
                let high = register(number + 1).filter(|_| bar.kind.is_64bit());
                bar.write(function, low, high);
            }
        }
        if let Some(rom) = self.device.rom {
            rom.write(function, self.device.layout.rom(), None);
        }
    }
}

fn offset(start: ConfigOffset, bytes: u16) -> Option<u16> {
    start.checked_add(bytes).map(ConfigOffset::get)
}

fn access(at: Option<u16>, width: Width) -> Option<Access> {
    Access::new(ConfigOffset::new(at?)?, width)
}
