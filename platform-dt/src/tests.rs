//! What the tests of this crate share, and those that go through all of it.

mod corpus;
pub(crate) mod fixtures;
mod mutations;
