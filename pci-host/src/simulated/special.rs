//! Capabilities whose registers do something.

use alloc::vec::Vec;

use super::SimFunction;
use crate::bar::BarKind;
use crate::config::{Access, Width};

/// What the function has that acts: offsets of capabilities, BARs, and the time a reset takes.
#[derive(Clone, Debug, Default)]
pub(super) struct Special {
    /// Register, kind and size of each BAR.
    pub bars: Vec<(u16, BarKind, u64)>,
    pub express: Option<u16>,
    pub power: Option<u16>,
    pub advanced_features: Option<u16>,
    pub msi: Option<u16>,
    pub msi_x: Option<u16>,
    pub sr_iov: Option<u16>,
    pub ari: Option<u16>,
    /// Microseconds for which a reset makes it go away.
    pub reset_time: u64,
}

/// Device/port type of the PCI Express capability (PCI Express Base 6.0, 7.5.3.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the specification's own words")]
#[repr(u8)]
pub enum PortType {
    Endpoint = 0,
    LegacyEndpoint = 1,
    RootPort = 4,
    SwitchUpstream = 5,
    SwitchDownstream = 6,
    ToPciBridge = 7,
    IntegratedEndpoint = 9,
}

impl SimFunction {
    /// With a PCI Express capability of version 2. Ports forward ARI.
    pub fn with_express(self, port: PortType, function_level_reset: bool) -> Self {
        self.with_capability(0x10, 0x3c, |function, at| {
            let slot = matches!(port, PortType::RootPort | PortType::SwitchDownstream);
            let flags = 2 | (port as u32) << 4 | u32::from(slot) << 8;
            function.preset(at + 2, Width::Word, flags);
            let flr = u32::from(function_level_reset) << 28;
            function.preset(at + 4, Width::Dword, flr | 1 << 15);
            function.allow(
                at + 8,
                Width::Word,
                0x7fff | u32::from(function_level_reset) << 15,
            );
            function.clears(at + 10, Width::Word, 0x000f);
            // Link: 2.5 GT/s, one lane; active; the port says when it is.
            function.preset(at + 0x0c, Width::Dword, 1 << 20 | 1 << 4 | 1);
            function.allow(at + 0x10, Width::Word, 0x0ffb);
            function.preset(at + 0x12, Width::Word, 1 << 13 | 1 << 4 | 1);
            function.clears(at + 0x12, Width::Word, 0xc000);
            if slot {
                // Hot-plug capable, something present.
                function.preset(at + 0x14, Width::Dword, 1 << 6);
                function.allow(at + 0x18, Width::Word, 0x1fff);
                function.clears(at + 0x1a, Width::Word, 0x011f);
                function.preset(at + 0x24, Width::Dword, 1 << 5);
            }
            function.allow(at + 0x28, Width::Word, 0xffff);
            function.special.express = Some(at);
        })
    }

    /// With power management, which loses state between D3hot and D0 unless `no_soft_reset`.
    pub fn with_power_management(self, no_soft_reset: bool) -> Self {
        self.with_capability(0x01, 8, |function, at| {
            function.preset(at + 2, Width::Word, 0xc803);
            function.preset(at + 4, Width::Word, u32::from(no_soft_reset) << 3);
            function.allow(at + 4, Width::Word, 0x0103);
            function.clears(at + 4, Width::Word, 0x8000);
            function.special.power = Some(at);
        })
    }

    /// With the advanced features capability of conventional PCI: function level reset.
    pub fn with_advanced_features(self) -> Self {
        self.with_capability(0x13, 6, |function, at| {
            function.preset(at + 2, Width::Byte, 6);
            function.preset(at + 3, Width::Byte, 3);
            function.allow(at + 4, Width::Byte, 1);
            function.special.advanced_features = Some(at);
        })
    }

    /// With MSI for `1 << vectors` vectors, 64-bit addresses and masks.
    pub fn with_msi(self, vectors: u32) -> Self {
        self.with_capability(0x05, 0x18, |function, at| {
            function.preset(at + 2, Width::Word, vectors << 1 | 1 << 7 | 1 << 8);
            function.allow(at + 2, Width::Word, 0x0071);
            function.allow(at + 4, Width::Dword, !3);
            function.allow(at + 8, Width::Dword, u32::MAX);
            function.allow(at + 0xc, Width::Word, 0xffff);
            let mask = 1u32
                .checked_shl(1 << vectors)
                .map_or(u32::MAX, |bit| bit - 1);
            function.allow(at + 0x10, Width::Dword, mask);
            function.special.msi = Some(at);
        })
    }

    /// With MSI-X: `vectors` entries at `table`, pending bits at `pending`, each a BAR and an offset.
    pub fn with_msi_x(self, vectors: u16, table: (u8, u32), pending: (u8, u32)) -> Self {
        self.with_capability(0x11, 0xc, |function, at| {
            function.preset(at + 2, Width::Word, u32::from(vectors - 1));
            function.allow(at + 2, Width::Word, 0xc000);
            function.preset(at + 4, Width::Dword, table.1 | u32::from(table.0));
            function.preset(at + 8, Width::Dword, pending.1 | u32::from(pending.0));
            function.special.msi_x = Some(at);
        })
    }

    /// With advanced error reporting.
    pub fn with_advanced_errors(self) -> Self {
        self.with_extended(0x0001, 0x48, |function, at| {
            function.clears(at + 4, Width::Dword, u32::MAX);
            function.allow(at + 8, Width::Dword, u32::MAX);
            function.clears(at + 0x10, Width::Dword, u32::MAX);
            function.allow(at + 0x14, Width::Dword, u32::MAX);
        })
    }

    /// With access control services of these capabilities.
    pub fn with_acs(self, capabilities: u16) -> Self {
        self.with_extended(0x000d, 8, |function, at| {
            function.preset(at + 4, Width::Word, capabilities.into());
            function.allow(at + 6, Width::Word, u32::from(capabilities) & 0x7f);
        })
    }

    /// With alternative routing ids; `next` is the device's next function, 0 for none.
    pub fn with_ari(self, next: u8) -> Self {
        self.with_extended(0x000e, 8, |function, at| {
            function.preset(at + 4, Width::Word, u32::from(next) << 8);
            function.special.ari = Some(at);
        })
    }

    /// With SR-IOV: `total` virtual functions, the first `offset` after this one and each `stride`
    /// after the one before, with BARs of these sizes.
    pub fn with_sr_iov(
        mut self,
        total: u16,
        (offset, stride): (u16, u16),
        device: u16,
        bars: &[(usize, BarKind, u64)],
    ) -> Self {
        let vendor = self.get(0, Width::Word) as u16;
        self.virtual_functions = (0..total).map(|_| virtual_function(vendor, bars)).collect();
        self.with_extended(0x0010, 0x40, |function, at| {
            function.allow(at + 8, Width::Word, 0x001f);
            function.preset(at + 0x0c, Width::Word, total.into());
            function.preset(at + 0x0e, Width::Word, total.into());
            function.allow(at + 0x10, Width::Word, 0xffff);
            function.preset(at + 0x14, Width::Word, offset.into());
            function.preset(at + 0x16, Width::Word, stride.into());
            function.preset(at + 0x1a, Width::Word, device.into());
            function.preset(at + 0x1c, Width::Dword, 0x553);
            function.preset(at + 0x20, Width::Dword, 1);
            function.allow(at + 0x20, Width::Dword, 0x553);
            for &(index, kind, size) in bars {
                let register = at + 0x24 + 4 * index as u16;
                let mask = !(size - 1) & !u64::from(kind.flag_mask());
                function.preset(register, Width::Dword, kind.flags());
                function.allow(register, Width::Dword, mask as u32);
                if kind.is_64bit() {
                    function.allow(register + 4, Width::Dword, (mask >> 32) as u32);
                }
            }
            function.special.sr_iov = Some(at);
        })
    }

    /// With one BAR of 256 MiB that says it could be of 256 MiB to 16 GiB. Its size is kept, but does
    /// nothing.
    pub fn with_resizable_bar(self, bar: u8) -> Self {
        self.with_extended(0x0015, 12, |function, at| {
            function.preset(at + 4, Width::Dword, 0x7f << 12);
            function.preset(at + 8, Width::Dword, 8 << 8 | 1 << 5 | u32::from(bar));
            function.allow(at + 8, Width::Dword, 0x3f00);
        })
    }

    /// That is away for `microseconds` after a reset.
    pub fn with_reset_time(mut self, microseconds: u64) -> Self {
        self.special.reset_time = microseconds;
        self
    }

    /// Without hot plug: the port's slot is not one, and a link goes nowhere if `link` is false.
    pub fn with_link(mut self, link: bool) -> Self {
        let at = self
            .special
            .express
            .expect("a port with a PCI Express capability");
        let status = self.get(at + 0x12, Width::Word) & !(1 << 13);
        self.preset(at + 0x12, Width::Word, status | u32::from(link) << 13);
        self
    }

    /// Whether the port forwards requests to functions above 7.
    pub(super) fn forwards_ari(&self) -> bool {
        self.special
            .express
            .is_some_and(|at| self.get(at + 0x28, Width::Word) & 1 << 5 != 0)
    }

    /// Whether behind the port is a link, so that there is one device only.
    pub(super) fn leads_to_a_link(&self) -> bool {
        let port = self
            .special
            .express
            .map(|at| self.get(at + 2, Width::Word) >> 4 & 0xf);
        matches!(port, Some(4 | 6))
    }

    /// Offset and stride of virtual functions, and how many there are now.
    pub(super) fn enabled_virtual_functions(&self) -> Option<(u16, u16, u16)> {
        let at = self.special.sr_iov?;
        let enabled = self.get(at + 8, Width::Word) & 1 != 0;
        let field = |offset| self.get(at + offset, Width::Word) as u16;
        enabled.then(|| (field(0x14), field(0x16), field(0x10)))
    }

    /// What a write to `access` sets off; `before` is the dword's former value. Returns whether all
    /// behind the bridge must be reset.
    pub(super) fn after_write(&mut self, access: Access, before: u32, now: u64) -> bool {
        let covers = |register: u16| {
            let first = access.offset().get();
            (first..first + access.width().bytes()).contains(&register)
        };
        if let Some(at) = self.special.express
            && covers(at + 9)
            && self.take(at + 9, 1 << 7)
        {
            self.reset(now);
        }
        if let Some(at) = self.special.advanced_features
            && covers(at + 4)
            && self.take(at + 4, 1)
        {
            self.reset(now);
        }
        if let Some(at) = self.special.power
            && covers(at + 4)
        {
            let (was, is) = (before & 3, self.get(at + 4, Width::Word) & 3);
            let keeps = self.get(at + 4, Width::Word) & 1 << 3 != 0;
            if was == 3 && is == 0 && !keeps {
                self.reset(now);
            }
        }
        let starts = |register: u16, was: u32, function: &Self| {
            covers(register) && was & 1 == 0 && function.get(register, Width::Byte) & 1 != 0
        };
        if let Some(at) = self.special.sr_iov
            && starts(at + 8, before, self)
        {
            for function in &mut self.virtual_functions {
                function.reset(now);
            }
        }
        self.is_bridge() && covers(0x3e) && self.get(0x3e, Width::Byte) & 1 << 6 != 0
    }

    /// Whether a write has set `bit` of a byte that reads as 0: it is taken out again.
    fn take(&mut self, offset: u16, bit: u32) -> bool {
        let bits = self.get(offset, Width::Byte);
        self.set(offset, Width::Byte, bits & !bit);
        bits & bit != 0
    }
}

fn virtual_function(vendor: u16, bars: &[(usize, BarKind, u64)]) -> SimFunction {
    let mut function = SimFunction::endpoint(vendor, 0xffff, 0x02_00_00)
        .with(0x00, Width::Dword, u32::MAX)
        .with_writable(0x04, Width::Word, 0x0004)
        .with_express(PortType::Endpoint, true);
    function.special.bars = bars
        .iter()
        .map(|&(index, kind, size)| (0x10 + 4 * index as u16, kind, size))
        .collect();
    function
}
