//! Integration tests of the store, layers and archives, a file per capability.

mod archive;
mod gc;
mod hostile;
mod image;
mod layer;
mod processes;
mod round_trip;
mod store;
