//! Two programs in one, for the tests: `drive` plays crossdock (enters the namespaces, runs a specification from standard
//! input), everything else runs inside and says what it sees.

use std::io::Read;

use crossdock_sandbox::{Io, Spec, run, userns};

fn main() {
    crossdock_sandbox::init_main_if_requested();
    let args: Vec<String> = std::env::args().collect();
    match args.get(1).map(String::as_str) {
        Some("drive") => std::process::exit(drive(&args[2..])),
        other => {
            eprintln!("unknown probe {other:?}");
            std::process::exit(99);
        }
    }
}

/// Runs the specification on standard input, with the streams of this process.
fn drive(args: &[String]) -> i32 {
    let single_id = args.iter().any(|a| a == "--single-id");
    let mut json = String::new();
    std::io::stdin().read_to_string(&mut json).expect("a specification on standard input");
    let spec: Spec = serde_json::from_str(&json).expect("a valid specification");
    if let Err(error) = userns::enter(&userns::EnterOptions { single_id }) {
        eprintln!("{error}");
        return 125;
    }
    let start = std::time::Instant::now();
    for n in 0..args.iter().filter(|a| *a == "--again").count() * 100 {
        run(&spec, Io { stdin: Default::default(), ..Io::inherit() }).expect("a run");
        if n == 99 {
            eprintln!("{:?}", start.elapsed() / 100);
        }
    }
    match run(&spec, Io { stdin: Default::default(), ..Io::inherit() }) {
        Ok(status) => status.code(),
        Err(error) => {
            eprintln!("{error}");
            error.exit_code()
        }
    }
}
