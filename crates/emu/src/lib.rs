//! The command line of `crossdock-emu`, apart from the executable so that it can be tested.

pub mod command_line;
