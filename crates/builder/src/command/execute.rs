//! A command as the sandbox is told, and its run.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Mutex;

use crossdock_oci::store::Scratch;
use crossdock_sandbox as sandbox;

use crate::command::output::{Heard, hint, pass_on};
use crate::devices::{Device, DeviceRequest};
use crate::error::ErrorKind;
use crate::event::{Event, StepId};
use crate::solver::engine::Engine;
use crate::solver::key::Key;

/// What a command is, apart from the options of the build.
pub(crate) struct Command<'a> {
    pub args: &'a [String],
    /// `NAME=VALUE`.
    pub env: &'a [String],
    pub cwd: &'a str,
    pub user: &'a str,
    pub network: sandbox::Network,
    pub insecure: bool,
    /// Devices of this machine.
    pub devices: &'a [Device],
}

impl Command<'_> {
    /// The command in a root of layers, with its changes going to `scratch`.
    ///
    /// # Errors
    ///
    /// There is no emulator for the platform; a file of a device is missing.
    pub fn spec(
        &self,
        engine: &Engine<'_>,
        platform: &crossdock_platform::Platform,
        lower: &[PathBuf],
        scratch: &Scratch,
    ) -> Result<sandbox::Spec, ErrorKind> {
        let root = sandbox::Root::Overlay {
            lower: lower.to_vec(),
            upper: scratch.upper(),
            work: scratch.work(),
            volatile: true,
        };
        self.spec_in(engine, platform, root)
    }

    /// The command in a root.
    ///
    /// # Errors
    ///
    /// As [`Command::spec`].
    pub fn spec_in(
        &self,
        engine: &Engine<'_>,
        platform: &crossdock_platform::Platform,
        root: sandbox::Root,
    ) -> Result<sandbox::Spec, ErrorKind> {
        let options = &engine.settings.steps;
        let mut spec = sandbox::Spec::new(root, self.args.iter().map(OsString::from));
        spec.env = self.env.iter().map(OsString::from).collect();
        spec.cwd = PathBuf::from(self.cwd);
        spec.user = self.user.to_string();
        spec.hostname = engine.settings.hostname.as_deref().unwrap_or("buildkitsandbox").to_string();
        spec.network = self.network;
        spec.security = if self.insecure { sandbox::Security::INSECURE } else { options.security };
        spec.groups = options.groups.clone();
        spec.resolv_conf = options.resolv_conf.clone();
        spec.mounts = options.mounts.clone();
        for device in options.devices.iter().chain(self.devices) {
            spec.mounts.extend(device.mounts().map_err(ErrorKind::Device)?);
            for variable in &device.env {
                let name = variable.split_inclusive('=').next().unwrap_or_default();
                spec.env.retain(|other| !other.as_encoded_bytes().starts_with(name.as_bytes()));
                spec.env.push(OsString::from(variable));
            }
        }
        spec.programs = sandbox::Programs::of(platform);
        spec.extra_hosts = engine.settings.add_hosts.clone();
        spec.limits = engine.settings.limits.clone();
        if let Some(size) = engine.settings.shm_size {
            spec.shm_size = size;
        }
        spec.emulators = engine.emulators(platform)?;
        spec.images = sandbox::Images::of(engine.env.store.root(), &spec.emulators);
        Ok(spec)
    }
}

/// The devices that a command asks for: adds them to its key, and warns of what it does not get.
///
/// # Errors
///
/// A device is not there, or not allowed.
pub(crate) fn devices_for(
    engine: &Engine<'_>,
    requests: &[DeviceRequest],
    key: &mut Key,
) -> Result<Vec<Device>, ErrorKind> {
    let mut all: Vec<Device> = Vec::new();
    for request in requests {
        let found = engine.settings.devices.find(request).map_err(ErrorKind::Device)?;
        if found.is_empty() {
            let message = format!("the device {} is not there, so the command runs without it", request.name);
            engine.env.events.event(Event::Warning { message, lines: None });
        }
        for device in found {
            if all.iter().any(|other| other.full_name() == device.full_name()) {
                continue;
            }
            key.part("the devices").field(device.full_name());
            for left_out in &device.left_out {
                let message = format!("the device {} comes without {left_out}", device.full_name());
                engine.env.events.event(Event::Warning { message, lines: None });
            }
            all.push(device.clone());
        }
    }
    Ok(all)
}

/// The network's part of a step's key: the kind of network decides what a command finds, the program that
/// connects it does not. The words date from when there were two kinds, so that cached steps stay known.
pub(crate) fn key_of(network: sandbox::Network) -> &'static str {
    match network {
        sandbox::Network::Host => "true",
        sandbox::Network::None => "false",
        sandbox::Network::Private(_) => "private",
    }
}

/// Runs the command and passes its output on line by line. It has done well if its exit code is one of
/// `good`.
pub(crate) fn execute(
    engine: &Engine<'_>,
    step: StepId,
    spec: &sandbox::Spec,
    args: &[String],
    good: &[i32],
) -> Result<(), ErrorKind> {
    let command = shown_args(args);
    let failed = |source| ErrorKind::Sandbox { command: command.clone(), source };
    let mut running = sandbox::spawn(spec, sandbox::Io::pipes()).map_err(failed)?;
    let (stdout, stderr) = (running.stdout.take(), running.stderr.take());
    let heard = Mutex::new(Heard::default());
    let killer = running.killer();
    let stop = killer.clone();
    let mut no_thread = None;
    let status = engine.while_running(step, killer, || {
        running.wait_for_start()?;
        std::thread::scope(|threads| {
            if let Some(stderr) = stderr {
                let running = &running;
                let heard = &heard;
                let pass = move || {
                    running.watch_if_it_lasts(stderr.as_fd());
                    pass_on(engine.env.events, step, true, stderr, heard);
                };
                if let Err(error) = std::thread::Builder::new().spawn_scoped(threads, pass) {
                    no_thread = Some(error);
                    stop.kill(9);
                }
            }
            if let Some(stdout) = stdout {
                pass_on(engine.env.events, step, false, stdout, &heard);
            }
        });
        running.wait()
    });
    if let Some(error) = no_thread {
        return Err(ErrorKind::io(format!("start a thread for the output of {command:?}"), error));
    }
    engine.check_cancelled()?;
    match status.map_err(failed)? {
        sandbox::ExitStatus::Code(code) if good.contains(&code) => Ok(()),
        status => {
            let hint = hint(&status, &heard.into_inner().unwrap_or_default());
            let status = match status {
                sandbox::ExitStatus::Code(code) => format!("exit code: {code}"),
                sandbox::ExitStatus::Signal(_) => status.to_string(),
            };
            Err(ErrorKind::Command { command, status, hint })
        }
    }
}

/// The command in messages.
pub(crate) fn shown_args(args: &[String]) -> String {
    args.join(" ")
}
