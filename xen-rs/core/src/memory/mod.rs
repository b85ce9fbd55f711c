//! Memory of the machine: what is free at boot, who owns each frame, and the allocator.

pub mod buddy;
pub mod frame;
pub mod layout;
pub mod map;
pub mod shortage;
