//! The frame table: who owns each frame of RAM, as what, and how often it is referenced.
//!
//! An entry changes by compare-and-swap only, along few rules: a frame is taken while nobody owns
//! it, referenced while its owner and type are those that the caller expects, and changes hands
//! only while nothing refers to it. What its owner gives up while others refer to it is nobody's to
//! take until the last of them lets go. A table of zeros is valid: every frame is reserved and cannot
//! be taken.

mod info;
mod table;

pub use info::{FrameError, FrameInfo, FrameState, FrameType, Left};
pub use table::{BankError, FrameIndex, FrameTable, MAX_BANKS};

pub(super) use info::Links;
