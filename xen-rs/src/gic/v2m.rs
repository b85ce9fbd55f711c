//! The host's GICv2m frames: message interrupts without an ITS (`xen_core::v2m`).

use alloc::string::String;
use alloc::vec::Vec;

use log::{info, warn};
use platform_dt::V2mFrame;
use spin::Once;
use xen_core::v2m::{Frame, MSI_TYPER, SpiRange, V2mError};
use xen_types::{HpaRange, PAGE_SIZE};

use crate::lock::IrqLock;
use crate::memory::device::{self, MapError};

/// Why a frame cannot be used.
#[derive(Debug, thiserror::Error)]
enum SetUpError {
    #[error("{0}")]
    Map(#[from] MapError),
    #[error("{0}")]
    Frame(#[from] V2mError),
}

/// A frame of the host.
pub struct HostFrame {
    /// The path of its node.
    pub path: String,
    registers: HpaRange,
    frame: IrqLock<Frame>,
}

static FRAMES: Once<Vec<HostFrame>> = Once::new();

/// Finds out what the frames that the tree names have.
pub fn init(nodes: &[V2mFrame]) {
    if nodes.is_empty() {
        info!("v2m: no frame: PCI devices have INTx only");
    }
    FRAMES.call_once(|| nodes.iter().filter_map(HostFrame::find).collect());
}

/// The frames that can be used.
pub fn frames() -> &'static [HostFrame] {
    FRAMES.get().map_or(&[], Vec::as_slice)
}

impl HostFrame {
    fn find(node: &V2mFrame) -> Option<Self> {
        let found = Self::read(node);
        if let Err(error) = &found {
            warn!("v2m: {}: {error}", node.path);
        }
        found.ok()
    }

    fn read(node: &V2mFrame) -> Result<Self, SetUpError> {
        let typer = device::map(node.registers)?.read32(MSI_TYPER as usize);
        let frame = Frame::new(node.registers, typer, node.base, node.count)?;
        let spis = frame.spis();
        info!(
            "v2m: {} at {}, {} interrupts from INTID {}",
            node.path,
            node.registers.start(),
            spis.count(),
            spis.first().intid(),
        );
        Ok(Self {
            path: node.path.clone(),
            registers: node.registers,
            frame: IrqLock::new(frame),
        })
    }

    /// Gives interrupts of the frame to the control domain: all, or the first half where guests may
    /// have others. `None` if some of them are in use.
    pub fn take(&self, shared: bool) -> Option<SpiRange> {
        let mut frame = self.frame.lock();
        let all = frame.spis().count();
        frame.allocate(if shared { all.div_ceil(2) } else { all }, false)
    }

    fn free_count(&self) -> usize {
        self.frame.lock().free_count()
    }
}

/// Interrupts of a frame that a guest has. They are free again when it is dropped.
pub struct Share {
    frame: &'static HostFrame,
    spis: SpiRange,
}

impl Share {
    /// So many interrupts side by side, a power of two, of the frame that has most to give: as few as
    /// can be have a frame in common, as what can write to a frame raises each of its interrupts.
    pub fn new(count: u16) -> Option<Self> {
        let mut all: Vec<&'static HostFrame> = Vec::new();
        all.try_reserve_exact(frames().len()).ok()?;
        all.extend(frames());
        all.sort_unstable_by_key(|frame| core::cmp::Reverse(frame.free_count()));
        all.into_iter().find_map(|frame| {
            let spis = frame.frame.lock().allocate(count, true)?;
            Some(Self { frame, spis })
        })
    }

    /// Which they are.
    pub const fn spis(&self) -> SpiRange {
        self.spis
    }

    /// The path of the frame's node.
    pub fn path(&self) -> &str {
        &self.frame.path
    }

    /// The page that devices write to; `None` if it has something else, too.
    pub fn doorbell(&self) -> Option<HpaRange> {
        let page = self.frame.registers;
        let whole = page.start().offset_in_page() == 0 && page.size() >= PAGE_SIZE;
        HpaRange::new(page.start(), PAGE_SIZE).filter(|_| whole)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.frame.frame.lock().free(self.spis);
    }
}
