//! What the tests of this crate share, and those that go through all of it.

pub(crate) mod corpus;
pub(crate) mod fixtures;
mod mutations;
