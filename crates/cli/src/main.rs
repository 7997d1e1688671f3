//! `crossdock`.
fn main() {}
