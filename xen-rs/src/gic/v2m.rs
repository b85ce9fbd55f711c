//! The host's GICv2m frames: message interrupts without an ITS (`xen_core::v2m`).

use alloc::string::String;
use alloc::vec::Vec;

use log::{info, warn};
use platform_dt::V2mFrame;
use spin::Once;
use xen_core::v2m::{Frame, MSI_TYPER, SpiRange, V2mError};

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
            frame: IrqLock::new(frame),
        })
    }

    /// Gives all interrupts of the frame out, to one who reaches its registers: what can write to
    /// the frame raises each of them. `None` if some are in use.
    pub fn take(&self) -> Option<SpiRange> {
        let mut frame = self.frame.lock();
        let all = frame.spis().count();
        frame.allocate(all, false)
    }
}
