//! Integration tests of the store, layers and archives, a file per capability.

mod store;
