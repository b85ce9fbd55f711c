//! Addresses for what firmware has left without: BARs, and the windows of bridges before them.
//!
//! What has a sensible address keeps it. The rest gets one from the windows of the host bridge, large
//! things first, so that the windows of bridges are as small as they can be. No two BARs share a page
//! of memory: a page belongs to one domain.

mod area;
mod demand;
mod registers;
mod window;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use arrayvec::ArrayVec;
use thiserror::Error;

use self::area::{Area, LIMIT_32, Request, Span};
use self::demand::{bar_request, page_of};
use self::window::BridgeWindow;
use crate::bar::{Bar, BarKind};
use crate::bridge::{Bridge, Space};
use crate::config::Function;
use crate::sizing;
use crate::{Device, HostSbdf};

/// The smallest piece of memory that a domain can be given.
const PAGE: u64 = 4096;
/// What a port gets for what may be plugged in, of memory and of prefetchable memory.
const HOT_PLUG_SIZE: u64 = 2 << 20;

/// Why something has no addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Error)]
pub enum ResourceFault {
    /// A BAR; 6 is the ROM.
    #[error("no room for BAR {bar}: {size:#x} bytes of {kind}")]
    Bar {
        /// Its number.
        bar: u8,
        /// What it asks for.
        kind: BarKind,
        /// How much of it.
        size: u64,
    },
    /// A BAR of all virtual functions.
    #[error("no room for BAR {bar} of its virtual functions: {size:#x} bytes of {kind}")]
    VirtualBar {
        /// Its number.
        bar: u8,
        /// What it asks for.
        kind: BarKind,
        /// How much of it, for all virtual functions.
        size: u64,
    },
    /// A bridge's window.
    #[error("no room for a window of {size:#x} bytes of {}", name(*.space))]
    Window {
        /// What it forwards.
        space: Space,
        /// How much of it.
        size: u64,
    },
}

/// Gives addresses to all `devices` behind the bridge, each of which comes after the one that it is
/// behind. They learn what they got.
pub fn assign(bridge: &Bridge, devices: &mut [Device]) -> Vec<(HostSbdf, ResourceFault)> {
    let nodes = nodes(bridge, devices);
    let mut assigner = Assigner {
        bridge,
        devices,
        nodes,
        faults: Vec::new(),
    };
    let mut areas = assigner.root_areas();
    assigner.settle(None, &mut areas);
    assigner.measure();
    assigner.fill(None, &mut areas);
    assigner.open();
    assigner.faults
}

/// Which device's registers hold an address, and which of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slot {
    Bar(usize),
    Rom,
    Virtual(usize),
    Window(usize),
}

/// A window and where it is, if that is settled.
#[derive(Clone, Debug)]
struct Window {
    window: BridgeWindow,
    span: Option<Span>,
    /// What is left for the bus behind.
    area: Option<Area>,
    /// What it must hold where it is not settled: what is needed, and that with all that would be
    /// nice to have. `None` for nothing.
    needed: Option<Request>,
    wanted: Option<Request>,
}

/// What is known of a device beside itself.
struct Node {
    /// What is behind it.
    children: Vec<usize>,
    windows: ArrayVec<Window, 3>,
}

/// Something that wants addresses, and whether it can do without.
#[derive(Clone, Copy)]
struct Wish {
    device: usize,
    slot: Slot,
    request: Request,
    /// What will do if there is no room for that.
    instead: Option<Request>,
    optional: bool,
}

struct Assigner<'a> {
    bridge: &'a Bridge,
    devices: &'a mut [Device],
    /// One for each device.
    nodes: Vec<Node>,
    faults: Vec<(HostSbdf, ResourceFault)>,
}

fn nodes(bridge: &Bridge, devices: &[Device]) -> Vec<Node> {
    let node = |device: &Device| Node {
        children: Vec::new(),
        windows: windows(Function::new(bridge, device.sbdf), device),
    };
    let mut nodes: Vec<Node> = devices.iter().map(node).collect();
    let places = devices.iter().enumerate();
    let places: BTreeMap<_, _> = places.map(|(place, device)| (device.sbdf, place)).collect();
    for (place, device) in devices.iter().enumerate() {
        let parent = device.parent.and_then(|parent| places.get(&parent));
        if let Some(parent) = parent.and_then(|parent| nodes.get_mut(*parent)) {
            parent.children.push(place);
        }
    }
    nodes
}

fn windows(bridge: Function<'_, Bridge>, device: &Device) -> ArrayVec<Window, 3> {
    if !device.is_bridge() {
        return ArrayVec::new();
    }
    let windows = BridgeWindow::of(bridge).into_iter();
    windows
        .map(|window| Window {
            window,
            span: None,
            area: None,
            needed: None,
            wanted: None,
        })
        .collect()
}

impl Assigner<'_> {
    fn function(&self, device: usize) -> Option<Function<'_, Bridge>> {
        let device = self.devices.get(device)?;
        Some(Function::new(self.bridge, device.sbdf))
    }

    /// What the host bridge forwards. Nothing is put at address 0, which means "nowhere" in a BAR.
    fn root_areas(&self) -> Vec<Area> {
        let windows = self.bridge.description().windows.iter();
        let area = |window: &crate::bridge::Window| {
            let last = window.last_bus_address()?;
            let span = Span::between(window.bus_address.max(PAGE), last)?;
            let wide = window.space != Space::Io && span.first > LIMIT_32;
            Some(Area::new(window.space, wide, span))
        };
        windows.filter_map(area).collect()
    }

    /// The devices directly behind a bridge, or on the root bus.
    fn on_bus(&self, parent: Option<usize>) -> Vec<usize> {
        match parent {
            Some(parent) => self
                .nodes
                .get(parent)
                .map_or(Vec::new(), |node| node.children.clone()),
            None => {
                let devices = self.devices.iter().enumerate();
                let on_root = devices.filter(|(_, device)| device.parent.is_none());
                on_root.map(|(place, _)| place).collect()
            }
        }
    }

    /// Takes from `areas` what the devices of a bus have already. What cannot stay is forgotten.
    fn settle(&mut self, parent: Option<usize>, areas: &mut [Area]) {
        let on_bus = self.on_bus(parent);
        for &device in &on_bus {
            for slot in self.slots(device) {
                self.settle_slot(device, slot, areas);
            }
        }
        for &device in &on_bus {
            self.settle_windows(device, areas);
        }
    }

    fn settle_slot(&mut self, device: usize, slot: Slot, areas: &mut [Area]) {
        let Some((bar, copies)) = self.bar(device, slot) else {
            return;
        };
        let Some(request) = bar_request(bar, copies) else {
            return;
        };
        let span = bar.address.and_then(|address| {
            // Whole pages: a page that is somebody's is not shared.
            let first = address & !(page_of(bar) - 1);
            Span::new(first, request.size)
        });
        let stays = span.is_some_and(|span| take(areas, request.space, span));
        if !stays {
            self.set_address(device, slot, None);
        }
    }

    fn settle_windows(&mut self, device: usize, areas: &mut [Area]) {
        let count = self.nodes.get(device).map_or(0, |node| node.windows.len());
        for place in 0..count {
            let Some(window) = self.window(device, place) else {
                continue;
            };
            let function = self.function(device);
            let span = function.and_then(|function| window.read(function));
            let span = span.filter(|span| take(areas, window.space, *span));
            self.put_window(device, place, span);
        }
        self.inside(device, |assigner, areas| {
            assigner.settle(Some(device), areas);
        });
        self.release_unused(device, areas);
    }

    /// Closes the windows of a bridge in which nothing of what is behind it is: they may be too small.
    fn release_unused(&mut self, device: usize, areas: &mut [Area]) {
        let Some(node) = self.nodes.get_mut(device) else {
            return;
        };
        if node.children.is_empty() {
            return;
        }
        for window in &mut node.windows {
            let Some(span) = window.span else {
                continue;
            };
            if window.area.as_ref().is_some_and(|area| area.is_whole(span)) {
                (window.span, window.area) = (None, None);
                give_back(areas, window.window.space, span);
            }
        }
    }

    /// Works on the areas behind a bridge.
    fn inside(&mut self, device: usize, work: impl FnOnce(&mut Self, &mut [Area])) {
        let Some(node) = self.nodes.get_mut(device) else {
            return;
        };
        let windows = node.windows.iter_mut();
        let mut areas: Vec<Area> = windows.filter_map(|window| window.area.take()).collect();
        work(self, &mut areas);
        let Some(node) = self.nodes.get_mut(device) else {
            return;
        };
        let open = node
            .windows
            .iter_mut()
            .filter(|window| window.span.is_some());
        for (window, area) in open.zip(areas) {
            window.area = Some(area);
        }
    }

    fn window(&self, device: usize, place: usize) -> Option<BridgeWindow> {
        Some(self.nodes.get(device)?.windows.get(place)?.window)
    }

    /// Notes where a window is.
    fn put_window(&mut self, device: usize, place: usize, span: Option<Span>) {
        let node = self.nodes.get_mut(device);
        if let Some(window) = node.and_then(|node| node.windows.get_mut(place)) {
            let BridgeWindow { space, wide } = window.window;
            let wide = wide && space != Space::Io;
            window.span = span;
            window.area = span.map(|span| Area::new(space, wide, span));
        }
    }

    /// Gives addresses to what has none on a bus and behind it.
    fn fill(&mut self, parent: Option<usize>, areas: &mut [Area]) {
        let on_bus = self.on_bus(parent);
        for wish in self.wishes(&on_bus, true) {
            self.grant(wish, areas);
        }
        for &device in &on_bus {
            self.inside(device, |assigner, areas| {
                assigner.fill(Some(device), areas);
            });
        }
    }

    fn grant(&mut self, wish: Wish, areas: &mut [Area]) {
        let mut span = area::allocate(areas, wish.request);
        if let (None, Some(needed)) = (span, wish.instead) {
            span = area::allocate(areas, needed);
        }
        match (span, wish.slot) {
            (None, _) => self.refuse(wish),
            (span, Slot::Window(place)) => self.put_window(wish.device, place, span),
            (Some(span), slot) => {
                self.set_address(wish.device, slot, Some(span.first));
                self.write_address(wish.device, slot);
            }
        }
    }

    fn refuse(&mut self, wish: Wish) {
        let Some(device) = self.devices.get(wish.device) else {
            return;
        };
        let size = wish.request.size;
        let kind = |bar: Option<(Bar, u16)>| bar.map_or(BarKind::Io, |(bar, _)| bar.kind);
        let kind = kind(self.bar(wish.device, wish.slot));
        let fault = match wish.slot {
            Slot::Bar(bar) => ResourceFault::Bar {
                bar: bar as u8,
                kind,
                size,
            },
            Slot::Rom => ResourceFault::Bar {
                bar: sizing::ROM,
                kind,
                size,
            },
            Slot::Virtual(bar) => ResourceFault::VirtualBar {
                bar: bar as u8,
                kind,
                size,
            },
            Slot::Window(_) => ResourceFault::Window {
                space: wish.request.space,
                size,
            },
        };
        self.faults.push((device.sbdf, fault));
    }
}

fn take(areas: &mut [Area], space: Space, span: Span) -> bool {
    let mut suited = areas.iter_mut().filter(|area| area.suits(space));
    suited.any(|area| area.take(span))
}

fn give_back(areas: &mut [Area], space: Space, span: Span) {
    let mut suited = areas.iter_mut().filter(|area| area.suits(space));
    if let Some(area) = suited.find(|area| area.covers(span)) {
        area.give_back(span);
    }
}

fn name(space: Space) -> &'static str {
    match space {
        Space::Io => "I/O",
        Space::Memory { prefetchable: true } => "prefetchable memory",
        Space::Memory { .. } => "memory",
    }
}

#[cfg(test)]
mod tests;
