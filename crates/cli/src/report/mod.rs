//! Reports of builds: what was recorded of a build, the store's list of recent ones, and the forms in which a
//! person reads them.

mod critical;
pub mod history;
mod lanes;
mod page;
pub mod record;
mod trace;

pub use page::page;
pub use trace::trace;
