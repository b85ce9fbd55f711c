//! What wants addresses, and how large the windows before it must be.

use alloc::vec::Vec;
use core::cmp::Reverse;

use super::area::{self, LIMIT_32, Request};
use super::window::BridgeWindow;
use super::{Assigner, HOT_PLUG_SIZE, PAGE, Slot, Window, Wish};
use crate::bar::{Bar, BarKind};
use crate::bridge::Space;

impl Assigner<'_> {
    /// Finds how large the windows that are not settled must be, those of the innermost bridges
    /// first.
    pub(super) fn measure(&mut self) {
        for device in (0..self.nodes.len()).rev() {
            for place in 0..self.windows_of(device) {
                let needed = self.window_request(device, place, false);
                let wanted = self.window_request(device, place, true);
                let node = self.nodes.get_mut(device);
                if let Some(window) = node.and_then(|node| node.windows.get_mut(place)) {
                    (window.needed, window.wanted) = (needed, wanted);
                }
            }
        }
    }

    pub(super) fn windows_of(&self, device: usize) -> usize {
        self.nodes.get(device).map_or(0, |node| node.windows.len())
    }

    /// What a window has to hold; `None` for nothing.
    fn window_request(&self, device: usize, place: usize, all: bool) -> Option<Request> {
        let node = self.nodes.get(device)?;
        let window = node.windows.get(place)?.window;
        let behind = self.wishes(&node.children, all);
        let here = behind.iter().map(|wish| wish.request);
        let here = here.filter(|request| route(&node.windows, *request) == Some(place));
        let granularity = window.granularity();
        let mut measured = area::measure(here, granularity);
        if all && self.awaits_hot_plug(device) && window.space != Space::Io {
            let (size, align) = measured.unwrap_or((0, granularity));
            measured = Some((size.max(HOT_PLUG_SIZE), align));
        }
        let (size, align) = measured?;
        Some(Request {
            space: window.space,
            limit: window.limit(),
            size,
            align,
        })
    }

    /// What the devices want that has no addresses yet, in the order in which it gets some: what is
    /// needed first, and large things first. With `all`, also what they can do without.
    pub(super) fn wishes(&self, devices: &[usize], all: bool) -> Vec<Wish> {
        let mut wishes = Vec::new();
        for &device in devices {
            let bars = self.slots(device).into_iter();
            wishes.extend(bars.filter_map(|slot| self.bar_wish(device, slot)));
            let windows = 0..self.windows_of(device);
            wishes.extend(windows.filter_map(|place| self.window_wish(device, place, all)));
        }
        wishes.retain(|wish| all || !wish.optional);
        wishes.sort_by_key(|wish| {
            let Request { align, size, .. } = wish.request;
            (wish.optional, Reverse(align), Reverse(size))
        });
        wishes
    }

    fn bar_wish(&self, device: usize, slot: Slot) -> Option<Wish> {
        let (bar, copies) = self.bar(device, slot)?;
        if bar.address.is_some() {
            return None;
        }
        Some(Wish {
            device,
            slot,
            request: bar_request(bar, copies)?,
            instead: None,
            optional: !matches!(slot, Slot::Bar(_)),
        })
    }

    fn window_wish(&self, device: usize, place: usize, all: bool) -> Option<Wish> {
        let window = self.nodes.get(device)?.windows.get(place)?;
        if window.span.is_some() {
            return None;
        }
        let request = if all { window.wanted } else { window.needed };
        Some(Wish {
            device,
            slot: Slot::Window(place),
            request: request?,
            instead: window.needed,
            optional: window.needed.is_none(),
        })
    }

    fn awaits_hot_plug(&self, device: usize) -> bool {
        let express = self.devices.get(device).and_then(|device| device.express);
        express.is_some_and(|express| express.hot_plug)
    }
}

/// Which window forwards what is behind a bridge: what may be anywhere goes where there is room.
fn route(windows: &[Window], request: Request) -> Option<usize> {
    let suits = |wanted: Space| {
        let fits = |window: &BridgeWindow| {
            window.space == wanted
                && (!window.wide || wanted == Space::Io || request.limit > LIMIT_32)
        };
        windows.iter().position(|window| fits(&window.window))
    };
    suits(request.space).or_else(|| match request.space {
        Space::Memory { prefetchable: true } => suits(Space::Memory {
            prefetchable: false,
        }),
        _ => None,
    })
}

/// What a BAR must be apart from others by.
pub(super) fn page_of(bar: Bar) -> u64 {
    if bar.kind.is_memory() { PAGE } else { 1 }
}

pub(super) fn bar_request(bar: Bar, copies: u16) -> Option<Request> {
    let space = match bar.kind {
        BarKind::Io => Space::Io,
        kind => Space::Memory {
            prefetchable: kind.is_prefetchable(),
        },
    };
    let align = bar.size.max(page_of(bar));
    Some(Request {
        space,
        limit: if bar.kind.is_64bit() {
            u64::MAX
        } else {
            LIMIT_32
        },
        size: bar.size.checked_mul(copies.into())?.max(align),
        align,
    })
}
