//! Two domains that drive their virtual ITSs as they like, right and wrong, while their devices send
//! messages, are taken away and given back, and ITSs of the host hang for a while.
//!
//! Whatever they do: an ITS of the host is never told anything wrong; a message arrives at its own
//! domain or nowhere; work comes to an end after a bounded number of steps; and when all is taken
//! away, all LPIs of the host are free again.

mod host;
mod steps;
mod world;

use arbitrary::{Arbitrary as _, Unstructured};

use self::steps::Step;
use self::world::World;

/// Steps of one input.
const MOST_STEPS: usize = 256;

pub fn run(bytes: &[u8]) {
    let mut world = World::new();
    let mut bytes = Unstructured::new(bytes);
    for _ in 0..MOST_STEPS {
        if bytes.is_empty() {
            break;
        }
        let Ok(step) = Step::arbitrary(&mut bytes) else {
            break;
        };
        world.make(step);
    }
    world.end();
}
