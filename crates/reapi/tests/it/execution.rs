//! Executions that end, break, wait and are cancelled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossdock_reapi::{
    Action, ActionResult, Blob, Client, Command, Execution, FarmError, InputRoot, Policy, Result, Stage,
};
use crossdock_testkit::farm::{PROPERTY, TestFarm};

use crate::client;

/// An action that runs a script.
fn script(text: &str, properties: &[(&str, &str)]) -> Action {
    let mut root = InputRoot::default();
    root.file("bin/script", Blob::of(format!("#!/bin/sh\n{text}\n").into_bytes()), true);
    root.file("input", Blob::of(b"from here".to_vec()), false);
    let properties = properties.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let command =
        Command { arguments: vec!["bin/script".into()], outputs: vec!["output".into()], properties };
    Action::new(&command, root)
}

/// Executes an action whose blobs are sent; gives the stages, too.
fn execute(client: &Client, action: &Action, wait: Duration) -> (Result<Execution>, Vec<Stage>) {
    let mut stages = Vec::new();
    let mut policy = Policy {
        skip_cache: false,
        wait,
        inline: &[],
        is_stopped: &|| false,
        told: &mut |stage| stages.push(stage),
        output: &mut |_, _| {},
    };
    let executed = client.execute(&action.digest, &mut policy);
    (executed, stages)
}

const LONG: Duration = Duration::from_secs(600);

fn done(executed: Result<Execution>) -> (ActionResult, bool) {
    match executed.expect("it is executed") {
        Execution::Done { result, is_cached, .. } => (*result, is_cached),
        Execution::NotTaken => panic!("no worker took it"),
    }
}

#[test]
fn a_command_runs_there_and_its_result_is_known() {
    let farm = TestFarm::start(1, &[]);
    let client = client(&farm);
    let action = script("cat input > output; echo said; echo wrong >&2", &[PROPERTY]);
    client.send(&action.blobs).expect("sent");
    assert_eq!(client.action_result(&action.digest, &[]).expect("asked"), None);
    let (executed, stages) = execute(&client, &action, LONG);
    let (result, is_cached) = done(executed);
    assert_eq!((result.exit_code, is_cached, result.worker.as_str()), (0, false, "worker-1"));
    assert_eq!((result.stdout.as_slice(), result.stderr.as_slice()), (&b"said\n"[..], &b"wrong\n"[..]));
    let output = result.file("output").expect("it was written");
    assert_eq!(client.read_small(&output.digest).expect("it is there"), b"from here");
    assert_eq!(stages.last(), Some(&Stage::Executing("worker-1".to_string())));
    assert!(done(execute(&client, &action, LONG).0).1, "cached");
    assert_eq!(client.action_result(&action.digest, &[]).expect("asked"), Some(result));
}

#[test]
fn output_is_heard_while_the_command_runs() {
    let farm = TestFarm::start(1, &[]);
    let client = client(&farm);
    for has_streams in [true, false] {
        farm.behave(|behaviour| behaviour.has_streams = has_streams);
        let directory = tempfile::tempdir().expect("a directory");
        let heard_of = directory.path().join("heard");
        // It ends only if somebody has heard it, or nobody can.
        let wait = format!("until [ -e {} ] || ! {has_streams}; do sleep 0.02; done", heard_of.display());
        let action = script(&format!("echo first; echo wrong >&2; {wait}; echo last; touch output"), &[]);
        client.send(&action.blobs).expect("sent");
        let mut heard = [Vec::new(), Vec::new()];
        let mut policy = Policy {
            skip_cache: true,
            wait: LONG,
            inline: &[],
            is_stopped: &|| false,
            told: &mut |_| {},
            output: &mut |stderr, bytes| {
                heard[usize::from(stderr)].extend_from_slice(bytes);
                std::fs::write(&heard_of, "").expect("written");
            },
        };
        let executed = client.execute(&action.digest, &mut policy).expect("executed");
        let Execution::Done { result, told, .. } = executed else { panic!("no worker took it") };
        assert_eq!(result.stdout, b"first\nlast\n");
        // What was not heard by then is in the result.
        assert!(result.stdout.starts_with(&heard[0]) && result.stderr.starts_with(&heard[1]), "{heard:?}");
        assert_eq!(told, heard.each_ref().map(|bytes| bytes.len() as u64));
        assert_eq!(told != [0, 0], has_streams);
    }
}

#[test]
fn a_broken_stream_finds_its_execution_again() {
    for forgets_operations in [false, true] {
        let farm = TestFarm::start(1, &[]);
        let client = client(&farm);
        let action = script("sleep 0.3; cat input > output", &[]);
        client.send(&action.blobs).expect("sent");
        farm.behave(|behaviour| {
            behaviour.breaks_executions = 1;
            behaviour.forgets_operations = forgets_operations;
        });
        farm.take_requests();
        let (result, _) = done(execute(&client, &action, LONG).0);
        assert!(result.file("output").is_some());
        let requests = farm.take_requests();
        assert_eq!(
            (requests["Execute"], requests["WaitExecution"]),
            (if forgets_operations { 2 } else { 1 }, 1)
        );
    }
}

#[test]
fn a_lost_worker_is_replaced_and_a_lost_blob_is_named() {
    let farm = TestFarm::start(1, &[]);
    let client = client(&farm);
    let action = script("true", &[]);
    client.send(&action.blobs).expect("sent");
    farm.behave(|behaviour| behaviour.loses_workers = 1);
    assert_eq!(done(execute(&client, &action, LONG).0).0.exit_code, 0);
    let action = script("false", &[]);
    client.send(&action.blobs).expect("sent");
    farm.behave(|behaviour| behaviour.forgets = 1);
    let error = execute(&client, &action, LONG).0.expect_err("a blob is lost");
    assert!(matches!(error, FarmError::Missing(_)), "{error}");
    client.send(&action.blobs).expect("sent again");
    assert_eq!(done(execute(&client, &action, LONG).0).0.exit_code, 1);
}

#[test]
fn an_execution_that_nobody_takes_is_cancelled() {
    let farm = TestFarm::start(1, &[]);
    let client = client(&farm);
    let action = script("true", &[("ISA", "riscv64")]);
    client.send(&action.blobs).expect("sent");
    let error = execute(&client, &action, LONG).0.expect_err("there is no such worker");
    assert!(matches!(error, FarmError::NoWorker(_)), "{error}");
    farm.behave(|behaviour| behaviour.queues_forever = true);
    let (executed, stages) = execute(&client, &action, Duration::from_millis(100));
    assert_eq!(executed.expect("an end"), Execution::NotTaken);
    assert_eq!(stages, [Stage::Queued]);
    assert_eq!(farm.cancelled().len(), 1);
}

#[test]
fn whoever_stops_stops_the_farm() {
    let farm = TestFarm::start(1, &[]);
    let client = client(&farm);
    let action = script("sleep 60", &[]);
    client.send(&action.blobs).expect("sent");
    let is_stopped = AtomicBool::new(false);
    let mut policy = Policy {
        skip_cache: false,
        wait: LONG,
        inline: &[],
        is_stopped: &|| is_stopped.load(Ordering::SeqCst),
        told: &mut |stage| is_stopped.store(matches!(stage, Stage::Executing(_)), Ordering::SeqCst),
        output: &mut |_, _| {},
    };
    assert!(matches!(client.execute(&action.digest, &mut policy), Err(FarmError::Stopped)));
    assert_eq!(farm.cancelled().len(), 1);
}
