//! A function of the machine, as it was found.

use alloc::vec::Vec;

use thiserror::Error;

use crate::bar::{self, Bar, BarFault, Bars};
use crate::capability::{
    self, Acs, AdvancedFeatures, Ari, CapabilityId, Entry, Express, ExtendedCapabilityId,
    ListFault, Msi, MsiX, MsiXFault, PowerManagement, SrIov,
};
use crate::config::{ConfigAccess, ConfigOffset, Function, Register};
use crate::header::{self, Layout};
use crate::intx::Pin;
use crate::sizing::{self, Sizes};
use crate::{Class, HostSbdf};

/// A function as enumeration found it, and since then not read again: what is decided by it does not
/// change when the function does (XSA-337).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its name.
    pub sbdf: HostSbdf,
    /// The bridge that it is behind; `None` on a root bus.
    pub parent: Option<HostSbdf>,
    /// For a virtual function: the physical one.
    pub physical: Option<HostSbdf>,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision id.
    pub revision: u8,
    /// What it is for.
    pub class: Class,
    /// Subsystem vendor id and subsystem id, of an endpoint.
    pub subsystem: Option<(u16, u16)>,
    /// What its header describes.
    pub layout: Layout,
    /// Whether the header says that the device has other functions.
    pub multifunction: bool,
    /// The interrupt pin that it uses.
    pub pin: Option<Pin>,
    /// Base address registers.
    pub bars: Bars,
    /// Expansion ROM.
    pub rom: Option<Bar>,
    /// Its capabilities, in the order of their list.
    pub capabilities: Vec<Entry<CapabilityId>>,
    /// Its extended capabilities, in the order of their list.
    pub extended: Vec<Entry<ExtendedCapabilityId>>,
    /// PCI Express; `None` for a function of conventional PCI.
    pub express: Option<Express>,
    /// Power management.
    pub power: Option<PowerManagement>,
    /// Advanced features of conventional PCI.
    pub advanced_features: Option<AdvancedFeatures>,
    /// MSI.
    pub msi: Option<Msi>,
    /// MSI-X.
    pub msi_x: Option<MsiX>,
    /// Access control services.
    pub acs: Option<Acs>,
    /// Alternative routing ids.
    pub ari: Option<Ari>,
    /// How many of its BARs can have other sizes, 0 to 6.
    pub resizable_bars: u16,
    /// The virtual functions that it can have.
    pub sr_iov: Option<SrIov>,
    /// What is wrong with it, though not so wrong that it cannot be used.
    pub faults: Vec<DeviceFault>,
}

/// What is wrong with a function's config space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum DeviceFault {
    /// A base address register makes no sense.
    #[error("BAR {0} is ignored: {1}")]
    Bar(u8, BarFault),
    /// A base address register for virtual functions makes no sense.
    #[error("BAR {0} of its virtual functions is ignored: {1}")]
    VirtualBar(u8, BarFault),
    /// A list of capabilities has no proper end.
    #[error(transparent)]
    List(#[from] ListFault),
    /// MSI-X cannot be used.
    #[error(transparent)]
    MsiX(#[from] MsiXFault),
}

/// A header of a kind that nobody knows: the function is left alone (XSA-49).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("its header is of no known type: it is left alone")]
pub struct UnknownHeader;

impl Device {
    /// Reads what there is to know of a function that answers. Sizing its registers needs it to be
    /// idle; virtual functions that it has are turned off. `ari` tells whether requests to function
    /// numbers above 7 arrive there.
    pub fn read<C: ConfigAccess + ?Sized>(
        function: Function<'_, C>,
        parent: Option<HostSbdf>,
        ari: bool,
    ) -> Result<Self, UnknownHeader> {
        let header_type = function.read(header::HEADER_TYPE);
        let layout = header_type.layout().ok_or(UnknownHeader)?;
        let mut device = Self::identify(function, parent, layout);
        device.multifunction = header_type.is_multifunction();
        let sizes = sizing::header(function, layout);
        device.note_bars(&sizes, DeviceFault::Bar);
        (device.bars, device.rom) = (sizes.bars, sizes.rom);
        device.read_capabilities(function);
        device.read_sr_iov(function, ari);
        Ok(device)
    }

    /// The ids, without sizes and capabilities.
    fn identify<C: ConfigAccess + ?Sized>(
        function: Function<'_, C>,
        parent: Option<HostSbdf>,
        layout: Layout,
    ) -> Self {
        let class_revision = function.read(header::CLASS_REVISION);
        let subsystem = || {
            (
                function.read(header::SUBSYSTEM_VENDOR_ID),
                function.read(header::SUBSYSTEM_ID),
            )
        };
        Self {
            sbdf: function.sbdf(),
            parent,
            physical: None,
            vendor: function.read(header::VENDOR_ID),
            device: function.read(header::DEVICE_ID),
            revision: class_revision as u8,
            class: Class::from_class_revision(class_revision),
            subsystem: (layout == Layout::Endpoint).then(subsystem),
            layout,
            multifunction: false,
            pin: Pin::from_register(function.read(header::INTERRUPT_PIN)),
            bars: Bars::default(),
            rom: None,
            capabilities: Vec::new(),
            extended: Vec::new(),
            express: None,
            power: None,
            advanced_features: None,
            msi: None,
            msi_x: None,
            acs: None,
            ari: None,
            resizable_bars: 0,
            sr_iov: None,
            faults: Vec::new(),
        }
    }

    /// Virtual function `index` of `physical`, which is `function` and enabled. Most of its header
    /// reads as zero: it is as the physical function's, and so are its BARs (9.3.4). `None` where it
    /// does not answer.
    pub fn read_virtual<C: ConfigAccess + ?Sized>(
        function: Function<'_, C>,
        physical: &Device,
        index: u16,
    ) -> Option<Self> {
        let sr_iov = physical.sr_iov?;
        if function.read(header::CLASS_REVISION) == u32::MAX {
            return None;
        }
        let mut device = Self::identify(function, physical.parent, Layout::Endpoint);
        device.physical = Some(physical.sbdf);
        device.vendor = physical.vendor;
        device.device = sr_iov.device;
        device.bars = sr_iov.bars.map(|bar| bar.map(|bar| bar.nth(index)));
        device.pin = None;
        device.read_capabilities(function);
        Some(device)
    }

    fn read_capabilities<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>) {
        let list = capability::capabilities(function);
        self.faults.extend(list.fault.map(DeviceFault::List));
        let find = |id| list.find(id);
        self.express = find(CapabilityId::PCI_EXPRESS).and_then(|at| Express::read(function, at));
        self.power =
            find(CapabilityId::POWER_MANAGEMENT).and_then(|at| PowerManagement::read(function, at));
        self.advanced_features = find(CapabilityId::ADVANCED_FEATURES)
            .and_then(|at| AdvancedFeatures::read(function, at));
        self.msi = find(CapabilityId::MSI).and_then(|at| Msi::read(function, at));
        let msi_x = find(CapabilityId::MSI_X).and_then(|at| MsiX::read(function, at, &self.bars));
        match msi_x {
            Some(Ok(msi_x)) => self.msi_x = Some(msi_x),
            Some(Err(fault)) => self.faults.push(fault.into()),
            None => {}
        }
        self.capabilities = list.entries.to_vec();
        // Only what is PCI Express has extended config space for sure (7.2.2).
        if self.express.is_some() {
            self.read_extended(function);
        }
    }

    fn read_extended<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>) {
        let list = capability::extended_capabilities(function);
        self.faults.extend(list.fault.map(DeviceFault::List));
        self.acs = list
            .find(ExtendedCapabilityId::ACS)
            .and_then(|at| Acs::read(function, at));
        self.ari = list
            .find(ExtendedCapabilityId::ARI)
            .and_then(|at| Ari::read(function, at));
        // The number is in the control of the first (7.8.6.3).
        let control = list.find(ExtendedCapabilityId::RESIZABLE_BAR);
        let control = control.and_then(|at| Register::<u32>::new(at.checked_add(8)?));
        let count = control.map_or(0, |control| function.read(control) >> 5 & 7);
        self.resizable_bars = count.min(6) as u16;
        self.extended = list.entries.to_vec();
    }

    fn read_sr_iov<C: ConfigAccess + ?Sized>(&mut self, function: Function<'_, C>, ari: bool) {
        let Some(at) = self.find_extended(ExtendedCapabilityId::SR_IOV) else {
            return;
        };
        if let Some((sr_iov, sizes)) = SrIov::read(function, at, ari) {
            self.note_bars(&sizes, DeviceFault::VirtualBar);
            self.sr_iov = Some(sr_iov);
        }
    }

    fn note_bars(&mut self, sizes: &Sizes, fault: fn(u8, BarFault) -> DeviceFault) {
        let faults = sizes.faults.iter();
        self.faults
            .extend(faults.map(|&(number, what)| fault(number, what)));
    }

    /// The same, with the addresses that its registers hold now: whoever has it may have moved it.
    #[must_use]
    pub fn with_addresses_of<C: ConfigAccess + ?Sized>(&self, function: Function<'_, C>) -> Self {
        let mut device = self.clone();
        if device.physical.is_some() {
            return device;
        }
        let layout = device.layout;
        let register = |number| header::bar(layout, number);
        bar::read_addresses(function, &mut device.bars, register);
        if let Some(rom) = &mut device.rom {
            rom.read_address(function, layout.rom(), None);
        }
        if let Some(sr_iov) = &mut device.sr_iov {
            let known = *sr_iov;
            bar::read_addresses(function, &mut sr_iov.bars, |number| {
                known.bar_register(number)
            });
        }
        device
    }

    /// Where its first capability of that kind is.
    pub fn find(&self, id: CapabilityId) -> Option<ConfigOffset> {
        let entry = self.capabilities.iter().find(|entry| entry.id == id)?;
        Some(entry.offset)
    }

    /// Where its first extended capability of that kind is.
    pub fn find_extended(&self, id: ExtendedCapabilityId) -> Option<ConfigOffset> {
        let entry = self.extended.iter().find(|entry| entry.id == id)?;
        Some(entry.offset)
    }

    /// Whether it is a bridge, which is never given away.
    pub fn is_bridge(&self) -> bool {
        self.layout == Layout::Bridge
    }

    /// Whether it is a port with a link behind it, on which just one device can be.
    pub fn leads_to_link(&self) -> bool {
        let express = self.express.filter(|_| self.is_bridge());
        express.is_some_and(|express| express.port.is_downstream())
    }
}
