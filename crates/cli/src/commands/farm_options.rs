//! Options of a farm: an engine of the Remote Execution API that executes RUN steps.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use crossdock_delivery::remote_execution::machine::Machine;
use crossdock_delivery::remote_execution::places::Rule;
use crossdock_delivery::remote_execution::{Farm, Options, workers};
use crossdock_platform::Platform;
use crossdock_reapi::{Address, Identity, Settings};
use crossdock_registry::Secret;

use super::farm_file::{FarmFile, Workers};
use crate::values;

#[derive(clap::Args, Clone)]
pub struct FarmArgs {
    /// Execute RUN steps on an engine of the Remote Execution API (BuildGrid, Buildbarn, NativeLink, ...)
    #[arg(
        long,
        value_name = "grpc[s]://HOST[:PORT][/INSTANCE]",
        env = "CROSSDOCK_FARM",
        hide_env_values = true
    )]
    pub farm: Option<String>,
    /// Execute RUN steps on a machine that ssh reaches: those of its CPU, and emulated ones if it has this
    /// machine's CPU; crossdock is sent there if need be; repeatable, in the variable separated by spaces
    #[arg(
        long = "worker",
        value_name = "ssh://[USER@]HOST[:PORT]",
        conflicts_with = "farm",
        env = "CROSSDOCK_WORKER",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub workers: Vec<String>,
    /// A property that workers of the farm must have for steps of a platform: linux/arm64:ISA=aarch64; in the
    /// variable several, separated by spaces
    #[arg(
        long = "farm-property",
        value_name = "PLATFORM:NAME=VALUE",
        env = "CROSSDOCK_FARM_PROPERTIES",
        hide_env_values = true,
        value_delimiter = ' '
    )]
    pub farm_properties: Vec<String>,
    /// A header of requests to the farm, such as authorization=Bearer TOKEN; the variable keeps it off the
    /// list of processes
    #[arg(
        long = "farm-header",
        value_name = "NAME=VALUE",
        env = "CROSSDOCK_FARM_HEADER",
        hide_env_values = true
    )]
    pub farm_headers: Vec<String>,
    /// Certificates of the authorities that the farm's certificate is checked with [default: the machine's]
    #[arg(long, value_name = "FILE", env = "CROSSDOCK_FARM_CA", hide_env_values = true)]
    pub farm_ca: Option<PathBuf>,
    /// Certificate that proves this client's identity to the farm
    #[arg(
        long,
        value_name = "FILE",
        requires = "farm_key",
        env = "CROSSDOCK_FARM_CERT",
        hide_env_values = true
    )]
    pub farm_cert: Option<PathBuf>,
    /// Its key
    #[arg(
        long,
        value_name = "FILE",
        requires = "farm_cert",
        env = "CROSSDOCK_FARM_KEY",
        hide_env_values = true
    )]
    pub farm_key: Option<PathBuf>,
    /// crossdock for workers of another CPU: linux/arm64=FILE
    #[arg(long = "farm-executable", value_name = "PLATFORM=FILE")]
    pub farm_executables: Vec<String>,
    /// Seconds that a step waits for a worker of the farm before it is executed elsewhere, at last here
    /// [default: 60]
    #[arg(long, value_name = "SECONDS")]
    pub farm_wait: Option<f64>,
    /// A file with these options [default: ~/.config/crossdock/farm.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "CROSSDOCK_FARM_CONFIG", hide_env_values = true)]
    pub farm_config: Option<PathBuf>,
}

/// How long a step waits for a worker, in seconds, if nobody says it.
const WAIT: f64 = 60.0;

impl FarmArgs {
    /// The farm, if one is asked for. It is not connected yet.
    ///
    /// # Errors
    ///
    /// A value that is none.
    pub fn farm(&self) -> Result<Option<Arc<dyn crossdock_builder::Farm>>> {
        let mut args = self.clone();
        // An empty address asks for none, whatever the file says.
        let is_off = self.farm.iter().chain(&self.workers).any(String::is_empty);
        if let Some(file) = FarmFile::read(self.farm_config.as_deref())?.filter(|_| !is_off) {
            args.fill(file);
        }
        args.of_options()
    }

    /// Takes what the options leave open from a file, unless they name another farm: its headers are not for
    /// others.
    fn fill(&mut self, file: FarmFile) {
        let file_workers = file.worker.map(Workers::into_list).unwrap_or_default();
        let is_open = self.farm.is_none() && self.workers.is_empty();
        let is_same = self.farm.is_some() && self.farm == file.farm
            || !self.workers.is_empty() && self.workers == file_workers;
        if !is_open && !is_same {
            return;
        }
        if is_open {
            (self.farm, self.workers) = (file.farm, file_workers);
        }
        self.farm_wait = self.farm_wait.or(file.wait);
        self.farm_ca = self.farm_ca.take().or(file.ca);
        if self.farm_cert.is_none() {
            (self.farm_cert, self.farm_key) = (file.cert, file.key);
        }
        let given: Vec<String> = self
            .farm_headers
            .iter()
            .filter_map(|header| Some(header.split_once('=')?.0.to_lowercase()))
            .collect();
        let headers = file.headers.into_iter().filter(|(name, _)| !given.contains(&name.to_lowercase()));
        self.farm_headers.extend(headers.map(|(name, value)| format!("{name}={value}")));
        for (platform, of_platform) in file.platforms {
            for (name, value) in of_platform.properties {
                self.farm_properties.push(format!("{platform}:{name}={value}"));
            }
            if let Some(executable) = of_platform.executable {
                self.farm_executables.push(format!("{platform}={}", executable.display()));
            }
        }
    }

    fn of_options(&self) -> Result<Option<Arc<dyn crossdock_builder::Farm>>> {
        if self.farm.is_some() && !self.workers.is_empty() {
            bail!("a farm and a worker are given: steps go to one of them");
        }
        if self.farm_cert.is_some() != self.farm_key.is_some() {
            bail!("a certificate for the farm needs its key, and a key its certificate");
        }
        let Some(address) = self.farm.as_deref().filter(|address| !address.is_empty()) else {
            let workers = self.workers.iter().filter(|worker| !worker.is_empty());
            let machines = workers.map(|worker| self.machine(worker)).collect::<Result<Vec<_>>>()?;
            if machines.is_empty() {
                return Ok(None);
            }
            return Ok(Some(Arc::new(workers::Workers::new(machines, self.wait()?)?)));
        };
        let address: Address = address.parse().map_err(anyhow::Error::msg).context("--farm")?;
        let mut settings = Settings::new(address);
        for header in self.farm_headers.iter().filter(|header| !header.is_empty()) {
            // The text is not told: it may be a token.
            let (name, value) = header.split_once('=').context("--farm-header: the form is NAME=VALUE")?;
            settings.headers.push((name.to_string(), Secret::new(value)));
        }
        settings.authority = self.farm_ca.clone();
        settings.identity = match (&self.farm_cert, &self.farm_key) {
            (Some(certificate), Some(key)) => {
                Some(Identity { certificate: certificate.clone(), key: key.clone() })
            }
            _ => None,
        };
        let properties = self.farm_properties.iter().filter(|text| !text.is_empty());
        let rules = properties
            .map(|text| text.parse::<Rule>().map_err(anyhow::Error::msg).context("--farm-property"));
        let (executables, wait) = (self.executables()?, self.wait()?);
        let rules = rules.collect::<Result<_>>()?;
        Ok(Some(Arc::new(Farm::new(Options { settings, rules, executables, wait, machine: None })?)))
    }

    /// A machine instead of a farm.
    fn machine(&self, worker: &str) -> Result<Machine> {
        // The text is not told: it may hold a password.
        let form = "--worker: the form is ssh://[USER@]HOST[:PORT]";
        let host: crate::device::Address = worker.parse().context(form)?;
        if host.engine.is_some() {
            bail!("{form}, without an engine");
        }
        let options = ["ssh", "-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30"];
        let alive = ["-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"];
        let mut command: Vec<OsString> = options.iter().chain(&alive).map(OsString::from).collect();
        if let Some(port) = host.port {
            command.extend(["-p".into(), port.to_string().into()]);
        }
        command.extend(["--".into(), host.target().into()]);
        Ok(Machine::new(worker.to_string(), command, self.executables()?))
    }

    fn executables(&self) -> Result<Vec<(Platform, PathBuf)>> {
        let mut executables = Vec::new();
        for text in &self.farm_executables {
            let form = || format!("--farm-executable {text}: the form is PLATFORM=FILE");
            let (platform, path) = text.split_once('=').with_context(form)?;
            let platform = values::platforms(&[platform.to_string()]).with_context(form)?.remove(0);
            let path = std::path::absolute(path).with_context(form)?;
            if !path.is_file() {
                bail!("--farm-executable {text}: there is no such file");
            }
            executables.push((platform, path));
        }
        Ok(executables)
    }

    fn wait(&self) -> Result<Duration> {
        let seconds = self.farm_wait.unwrap_or(WAIT);
        let wait = Duration::try_from_secs_f64(seconds);
        wait.with_context(|| format!("--farm-wait {seconds}: it is a number of seconds"))
    }

    /// The options as words, for a build of which this is a part.
    pub fn words(&self) -> Vec<(&'static str, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let mut words = Vec::new();
        let single = [
            ("--farm", self.farm.clone()),
            ("--farm-wait", self.farm_wait.map(|wait| wait.to_string())),
            ("--farm-config", path(&self.farm_config)),
            ("--farm-ca", path(&self.farm_ca)),
            ("--farm-cert", path(&self.farm_cert)),
            ("--farm-key", path(&self.farm_key)),
        ];
        words.extend(single.into_iter().filter_map(|(option, value)| Some((option, value?))));
        for (option, values) in [
            ("--worker", &self.workers),
            ("--farm-property", &self.farm_properties),
            ("--farm-header", &self.farm_headers),
            ("--farm-executable", &self.farm_executables),
        ] {
            words.extend(values.iter().map(|value| (option, value.clone())));
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        farm: FarmArgs,
    }

    fn args(words: &[&str]) -> FarmArgs {
        Line::try_parse_from([&["build"], words].concat()).expect("options").farm
    }

    #[test]
    fn wrong_values_are_told_and_secrets_are_not() {
        assert!(args(&[]).farm().expect("none is asked for").is_none());
        assert!(args(&["--farm", "grpc://localhost:1"]).farm().expect("a farm").is_some());
        for (words, told) in [
            (["--farm-property", "arm64"], "linux/arm64:ISA=aarch64"),
            (["--farm-header", "hunter2"], "NAME=VALUE"),
            (["--farm-header", "grpc-x=hunter2"], "gRPC"),
            (["--farm-executable", "linux/arm64"], "PLATFORM=FILE"),
            (["--farm-executable", "linux/arm64=/nope"], "no such file"),
            (["--farm-wait", "-1"], "number of seconds"),
            (["--farm-ca", "/nope"], "/nope"),
            (["--farm-header", "authorization=Bearer hunter2"], "grpcs://"),
        ] {
            let address = if words[0] == "--farm-ca" { "grpcs://farm:1" } else { "grpc://farm:1" };
            let option = words.join("=");
            let Err(error) = args(&["--farm", address, &option]).farm() else {
                panic!("{option} is accepted")
            };
            let error = format!("{error:#}");
            assert!(error.contains(told) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_file_counts_where_options_are_silent_and_only_for_its_farm() {
        let file = || FarmFile {
            farm: Some("grpcs://file:1".to_string()),
            wait: Some(5.0),
            headers: [("authorization".to_string(), "Bearer hunter2".to_string())].into(),
            ..FarmFile::default()
        };
        let filled = |words: &[&str]| {
            let mut args = args(words);
            args.fill(file());
            (args.farm, args.farm_wait, args.farm_headers)
        };
        let (same, header) =
            (Some("grpcs://file:1".to_string()), vec!["authorization=Bearer hunter2".to_string()]);
        assert_eq!(filled(&[]), (same.clone(), Some(5.0), header.clone()));
        assert_eq!(
            filled(&["--farm", "grpcs://file:1", "--farm-wait", "3"]),
            (same.clone(), Some(3.0), header)
        );
        let own = "Authorization=Basic x";
        assert_eq!(filled(&["--farm-header", own]), (same, Some(5.0), vec![own.to_string()]));
        let other = "grpcs://other:1";
        assert_eq!(filled(&["--farm", other]), (Some(other.to_string()), None, Vec::new()));
        let both = args(&["--worker", "ssh://host", "--farm-header", own]);
        let mut both = FarmArgs { farm: Some(other.to_string()), ..both };
        both.farm_config = Some("/nope/farm.toml".into());
        assert!(both.farm().is_err());
    }

    #[test]
    fn a_part_of_a_build_gets_the_same_options() {
        let farm = ["--farm", "grpc://a:1", "--farm-property", "linux/arm64:ISA=x", "--farm-wait", "3"];
        let workers = ["--worker", "ssh://a", "--worker", "ssh://b:22"];
        for given in [&farm[..], &workers] {
            let all = args(given);
            let words: Vec<String> =
                all.words().into_iter().flat_map(|(option, value)| [option.to_string(), value]).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            assert_eq!(words.len(), given.len());
            assert_eq!(args(&words).words(), all.words());
        }
    }
}
