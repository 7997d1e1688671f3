//! `crossdock`: arguments in, text and an exit code out. Everything else happens in the other rooms.

mod access;
mod args;
mod builder;
mod command_line;
mod commands;
mod desk;
mod device;
mod log_file;
mod output;
mod peers;
mod progress;
#[cfg(test)]
mod promised;
mod rawjson;
mod report;
mod session;
mod single_platform;
mod template;
mod translations;
mod values;

use std::process::ExitCode;
use std::sync::Arc;

use crate::args::Command;
use crate::command_line::Parsed;
use crate::progress::ProgressMode;
use crate::session::Session;

/// Exit code of a failed command, other than `run`.
const FAILED: u8 = 1;

fn main() -> ExitCode {
    // Before anything else: the sandbox starts this executable again as its monitor.
    crossdock_sandbox::init_main_if_requested();
    let Parsed { args, warnings } = match command_line::parse(std::env::args_os().collect()) {
        Ok(parsed) => parsed,
        Err((message, code)) => {
            // A closed standard output or error is no reason to say more.
            let _ = message.print();
            return ExitCode::from(code);
        }
    };
    if let Command::Build(build) = &args.command {
        // A wrong mode is an error of the build.
        output::say_in(match build.progress() {
            Ok(ProgressMode::Json) => output::Form::Json,
            Ok(ProgressMode::Rawjson) => output::Form::Raw,
            _ => output::Form::Text,
        });
    }
    warnings.iter().for_each(|warning| output::say(&format!("warning: {warning}")));
    let needs = args.command.needs();
    let failed = if matches!(args.command, Command::Run(_)) { commands::NOT_STARTED } else { FAILED };
    let result = Session::start(&args.global, needs).map(Arc::new).and_then(|session| {
        let result = commands::run(&session, args.command);
        session.tell_warnings();
        crossdock_sandbox::compile_images(session.root());
        result
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(output::exit_code(&error, failed))
        }
    }
}
