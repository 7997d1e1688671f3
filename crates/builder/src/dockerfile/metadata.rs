//! Instructions that change the configuration only.

use std::collections::BTreeMap;

use crossdock_dockerfile::Lines;
use crossdock_dockerfile::instruction::{CommandLine, Kind};
use crossdock_oci::ImageConfig;
use crossdock_oci::config::{Healthcheck, ProcessConfig};

use super::stage::StageRun;
use super::state::State;
use super::values::{check_signal, expose};
use crate::error::{BuildError, ErrorKind, shell_error};

impl StageRun<'_, '_, '_> {
    /// Changes the configuration; returns the line for the history.
    pub fn metadata(&mut self, kind: &Kind, lines: Lines) -> Result<String, BuildError> {
        Ok(match kind {
            Kind::Arg(definitions) => {
                for definition in definitions {
                    let State { scope, env, weight, .. } = &mut self.state;
                    let before = scope.size();
                    scope.declare(definition, env).map_err(|e| shell_error(e, lines))?;
                    weight.add_memory(scope.size().saturating_sub(before)).map_err(|e| e.at(lines))?;
                }
                let shown = definitions.iter().map(|d| match &d.default {
                    Some(default) => format!("{}={default}", d.name),
                    None => d.name.clone(),
                });
                format!("ARG {}", shown.collect::<Vec<_>>().join(" "))
            }
            Kind::Env(pairs) => {
                let pairs = self.expand_pairs(pairs, lines)?;
                for (name, value) in &pairs {
                    self.state.env.set(name, value);
                }
                format!("ENV {}", shown_pairs(&pairs))
            }
            Kind::Label(pairs) => {
                let pairs = self.expand_pairs(pairs, lines)?;
                let labels = self.process().labels.get_or_insert_default();
                labels.extend(pairs.iter().cloned());
                format!("LABEL {}", shown_pairs(&pairs))
            }
            Kind::Cmd(command) => {
                let line = self.command_line(command);
                self.cmd_is_set = true;
                self.process().cmd = Some(line.clone());
                format!("CMD {}", json(&line))
            }
            Kind::Entrypoint(command) => {
                let line = self.command_line(command);
                self.process().entrypoint = Some(line.clone());
                // A CMD of the base image belongs to its own ENTRYPOINT; one of this stage, before it, stays.
                if !self.cmd_is_set {
                    self.process().cmd = None;
                }
                format!("ENTRYPOINT {}", json(&line))
            }
            Kind::Expose(ports) => {
                let mut shown = Vec::new();
                for port in ports {
                    for word in self.expand_words(port, lines)? {
                        let ports = expose(&word).map_err(|m| ErrorKind::Dockerfile(m).at(lines))?;
                        let exposed = self.process().exposed_ports.get_or_insert_default();
                        exposed.extend(ports.iter().map(|p| (p.clone(), serde_json::json!({}))));
                        let length = ports.iter().map(String::len).sum();
                        self.state.weight.add(length).map_err(|e| e.at(lines))?;
                        shown.extend(ports);
                    }
                }
                format!("EXPOSE {}", shown.join(" "))
            }
            Kind::Healthcheck(health) => {
                let test = health.test.clone();
                self.process().healthcheck = Some(Healthcheck {
                    test: test.clone(),
                    interval: health.interval,
                    timeout: health.timeout,
                    start_period: health.start_period,
                    start_interval: health.start_interval,
                    retries: health.retries,
                });
                format!("HEALTHCHECK {}", json(&test))
            }
            Kind::Maintainer(name) => {
                self.state.config.author = Some(name.clone());
                format!("MAINTAINER {name}")
            }
            Kind::Onbuild(trigger) => {
                self.process().on_build.get_or_insert_default().push(trigger.clone());
                format!("ONBUILD {trigger}")
            }
            Kind::Shell(shell) => {
                self.process().shell = Some(shell.clone());
                format!("SHELL {}", json(shell))
            }
            Kind::StopSignal(signal) => {
                let signal = self.expand(signal, lines)?;
                check_signal(&signal).map_err(|m| ErrorKind::Dockerfile(m).at(lines))?;
                self.process().stop_signal = Some(signal.clone());
                format!("STOPSIGNAL {signal}")
            }
            Kind::User(user) => {
                let user = self.expand(user, lines)?;
                self.process().user = user.clone();
                format!("USER {user}")
            }
            Kind::Volume(paths) => {
                let paths = paths.iter().map(|p| self.expand(p, lines)).collect::<Result<Vec<_>, _>>()?;
                if paths.iter().any(String::is_empty) {
                    return Err(ErrorKind::Dockerfile("VOLUME has an empty path".to_string()).at(lines));
                }
                let volumes = self.process().volumes.get_or_insert_default();
                volumes.extend(paths.iter().map(|p| (p.clone(), serde_json::json!({}))));
                format!("VOLUME {}", json(&paths))
            }
            Kind::Run(_) | Kind::Copy(_) | Kind::Add(_) | Kind::Workdir(_) => {
                unreachable!("instructions that make layers are handled by the caller")
            }
        })
    }

    fn process(&mut self) -> &mut ProcessConfig {
        &mut self.state.config.config
    }

    fn command_line(&self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(args) => args.clone(),
            CommandLine::Shell(text) if text.is_empty() => Vec::new(),
            CommandLine::Shell(text) => self.in_shell(text),
        }
    }
}

fn json(words: &[String]) -> String {
    serde_json::to_string(words).expect("strings always serialise")
}

fn shown_pairs(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
}

/// Adds the labels of `--label`, which override the Dockerfile's.
pub(crate) fn add_labels(config: &mut ImageConfig, labels: &BTreeMap<String, String>) {
    if !labels.is_empty() {
        config.config.labels.get_or_insert_default().extend(labels.clone());
    }
}
