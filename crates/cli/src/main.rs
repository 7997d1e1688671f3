//! `crossdock`: arguments in, text and an exit code out. Everything else happens in the other rooms.

mod args;
mod commands;
mod input;
mod progress;
mod session;
mod template;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Args;
use crate::session::Session;

/// Exit code of a failed command, other than `run`.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    // Before anything else: the sandbox starts this executable again as its monitor.
    crossdock_sandbox::init_main_if_requested();
    let args = Args::parse_from(args::with_aliases(std::env::args_os().collect()));
    let needs = args.command.needs();
    let result = Session::start(&args.global, needs).and_then(|session| {
        let result = commands::run(&session, args.command);
        session.tell_warnings();
        result
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            session::print_error(&error);
            let code = error.downcast_ref::<commands::ExitWith>().map_or(FAILED, |exit| exit.0);
            ExitCode::from(code)
        }
    }
}
