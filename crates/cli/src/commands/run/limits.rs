//! What a container may use: memory, CPU time, processes.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use crossdock_dockerfile::values::bytes;
use crossdock_sandbox::{ControlGroup, ControlGroupError, ControlLimits};

use crate::output::say;

#[derive(clap::Args)]
pub struct LimitArgs {
    /// Memory of the container
    #[arg(short, long, value_name = "BYTES")]
    pub memory: Option<String>,
    /// Memory and swap together; -1 for no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    pub memory_swap: Option<String>,
    /// Memory to which the container shrinks when this machine is short of it
    #[arg(long, value_name = "BYTES")]
    pub memory_reservation: Option<String>,
    /// CPU time per time, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    pub cpus: Option<String>,
    /// Share of CPU time beside others; 1024 is the usual one
    #[arg(short, long, value_name = "SHARE")]
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU time in each period
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus", allow_hyphen_values = true)]
    pub cpu_quota: Option<i64>,
    /// Length of a period for --cpu-quota
    #[arg(long, value_name = "MICROSECONDS", conflicts_with = "cpus", default_value_t = 100_000)]
    pub cpu_period: u64,
    /// CPUs that may be used, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    pub cpuset_mems: Option<String>,
    /// Processes and threads; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub pids_limit: Option<i64>,
}

/// The smallest limit of memory that docker takes, in bytes.
const MEMORY_MIN: u64 = 6 << 20;

impl LimitArgs {
    /// A group with these limits; `None` without limits, and, after a warning, where no group may be made.
    pub fn group(&self) -> Result<Option<Arc<ControlGroup>>> {
        let limits = self.limits()?;
        if limits.is_empty() {
            return Ok(None);
        }
        match ControlGroup::new(&limits) {
            Ok(group) => Ok(Some(Arc::new(group))),
            Err(ControlGroupError::NotDelegated(reason)) => {
                say(&format!(
                    "warning: {} nothing: this user may make no control group here ({reason}); {}",
                    match self.given()[..] {
                        [one] => format!("{one} limits"),
                        ref several => format!("{} limit", several.join(", ")),
                    },
                    advice(&limits)
                ));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The options that were given.
    fn given(&self) -> Vec<&'static str> {
        [
            ("--memory", self.memory.is_some()),
            ("--memory-swap", self.memory_swap.is_some()),
            ("--memory-reservation", self.memory_reservation.is_some()),
            ("--cpus", self.cpus.is_some()),
            ("--cpu-shares", self.cpu_shares.is_some()),
            ("--cpu-quota", self.cpu_quota.is_some()),
            ("--cpuset-cpus", self.cpuset_cpus.is_some()),
            ("--cpuset-mems", self.cpuset_mems.is_some()),
            ("--pids-limit", self.pids_limit.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect()
    }

    fn limits(&self) -> Result<ControlLimits> {
        let size = |option: &str, text: &String| {
            bytes(text).with_context(|| format!("--{option} {text}: not a size such as 512m"))
        };
        let memory = self.memory.as_ref().map(|text| size("memory", text)).transpose()?;
        // Docker's zero is no limit.
        let memory = memory.filter(|bytes| *bytes != 0);
        if let (Some(bytes), Some(text)) = (memory.filter(|bytes| *bytes < MEMORY_MIN), &self.memory) {
            bail!("--memory {text}: {bytes} bytes are too few: the least is 6m");
        }
        let memory_and_swap = match (&self.memory_swap, memory) {
            (None, _) => None,
            (Some(text), _) if text == "-1" => Some(u64::MAX),
            (Some(text), None) => bail!("--memory-swap {text}: it counts from --memory, so give that, too"),
            (Some(text), Some(memory)) => match size("memory-swap", text)? {
                0 => None,
                both if both < memory => {
                    bail!("--memory-swap {text}: it is memory and swap together, so not less than --memory")
                }
                both => Some(both),
            },
        };
        let milli_cpus = match (&self.cpus, self.cpu_quota) {
            (Some(text), _) => Some(thousandths(text)?).filter(|thousandths| *thousandths != 0),
            (None, Some(quota)) if quota > 0 => {
                let period = self.cpu_period.clamp(1000, 1_000_000);
                Some((quota as u64).saturating_mul(1000) / period)
            }
            (None, _) => None,
        };
        let list = |option: &str, text: &String| {
            let is_list = !text.is_empty()
                && text.split(',').all(|part| {
                    let (first, last) = part.split_once('-').unwrap_or((part, part));
                    matches!((first.parse::<u16>(), last.parse::<u16>()), (Ok(a), Ok(b)) if a <= b)
                });
            if is_list { Ok(text.clone()) } else { bail!("--{option} {text}: not a list such as 0-2,4") }
        };
        Ok(ControlLimits {
            memory,
            memory_and_swap,
            memory_reservation: self
                .memory_reservation
                .as_ref()
                .map(|text| size("memory-reservation", text))
                .transpose()?
                .filter(|bytes| *bytes != 0),
            milli_cpus,
            cpu_shares: self.cpu_shares.filter(|shares| *shares != 0),
            cpus: self.cpuset_cpus.as_ref().map(|text| list("cpuset-cpus", text)).transpose()?,
            memory_nodes: self.cpuset_mems.as_ref().map(|text| list("cpuset-mems", text)).transpose()?,
            pids: self.pids_limit.and_then(|pids| u64::try_from(pids).ok()).filter(|pids| *pids != 0),
        })
    }
}

/// `1.5` as 1500.
fn thousandths(text: &str) -> Result<u64> {
    let wrong = || format!("--cpus {text}: not a number of CPUs such as 1.5");
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if text.len() > 9 || whole.len() + part.len() == 0 || !digits(whole) || !digits(part) {
        bail!(wrong());
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().with_context(wrong)? };
    let part: u64 = format!("{part:0<3}")[..3].parse().with_context(wrong)?;
    Ok(whole * 1000 + part)
}

/// How systemd makes such a group.
fn advice(limits: &ControlLimits) -> String {
    let mut properties = String::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            properties.push_str(&format!(" -p {name}={value}"));
        }
    };
    add("MemoryMax", limits.memory.map(|bytes| bytes.to_string()));
    add("CPUQuota", limits.milli_cpus.map(|cpus| format!("{}%", cpus.div_ceil(10))));
    add("AllowedCPUs", limits.cpus.clone());
    add("TasksMax", limits.pids.map(|pids| pids.to_string()));
    format!(
        "where systemd runs, start the command with: systemd-run --user --scope{properties} crossdock run ..."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        limits: LimitArgs,
    }

    fn limits(words: &str) -> Result<ControlLimits> {
        let words = std::iter::once("run").chain(words.split_whitespace());
        Line::try_parse_from(words).expect("options").limits.limits()
    }

    #[test]
    fn limits_are_read_as_docker_reads_them() {
        let of = |words: &str| limits(words).expect(words);
        assert!(of("").is_empty());
        assert!(of("--memory 0 --cpus 0 --pids-limit -1 --cpu-shares 0").is_empty());
        assert!(of("--cpu-quota -1 --pids-limit 0").is_empty());
        assert_eq!(of("-m 512m").memory, Some(512 << 20));
        assert_eq!(of("-m 512m --memory-swap 1g").memory_and_swap, Some(1 << 30));
        assert_eq!(of("-m 512m --memory-swap -1").memory_and_swap, Some(u64::MAX));
        for (text, thousandths) in [("1", 1000), ("1.5", 1500), (".25", 250), ("0.0625", 62), ("2.", 2000)] {
            assert_eq!(of(&format!("--cpus {text}")).milli_cpus, Some(thousandths), "{text}");
        }
        assert_eq!(of("--cpu-quota 50000").milli_cpus, Some(500));
        assert_eq!(of("--cpu-quota 50000 --cpu-period 25000").milli_cpus, Some(2000));
        assert_eq!(of("--cpuset-cpus 0-1,3 --pids-limit 5").pids, Some(5));
        for wrong in [
            "--memory x",
            "--memory 1m",
            "--memory-swap 1g",
            "-m 1g --memory-swap 512m",
            "--cpus x",
            "--cpus .",
            "--cpus 1e3",
            "--cpuset-cpus 3-1",
            "--cpuset-cpus a",
        ] {
            let error = limits(wrong).expect_err(wrong).to_string();
            assert!(error.starts_with("--"), "{error}");
        }
    }

    #[test]
    fn the_advice_names_the_limits() {
        let text = advice(&limits("-m 512m --cpus 1.5 --pids-limit 9").expect("limits"));
        assert!(
            text.contains("--scope -p MemoryMax=536870912 -p CPUQuota=150% -p TasksMax=9 crossdock"),
            "{text}"
        );
    }
}
