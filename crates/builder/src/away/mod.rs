//! Commands that are executed elsewhere: an order says everything that is needed for that, and another
//! crossdock carries it out. `docs/dev/farm.md` has the whole picture.

pub mod order;
pub mod perform;
pub(crate) mod send;
