//! What a container's command may do: capabilities, system calls, privileges, groups, settings of the kernel.

use anyhow::{Context, Result, bail};
use crossdock_sandbox::{Capabilities, Network, Security, sysctl};

use crate::output::say;
use crate::values::switch;

#[derive(clap::Args)]
pub struct RightsArgs {
    /// All capabilities of the user namespace, no seccomp profile
    #[arg(long)]
    pub privileged: bool,
    #[command(flatten)]
    pub own: OwnRightsArgs,
    /// Settings of the kernel for the container's own namespaces: NAME=VALUE
    #[arg(long = "sysctl", value_name = "NAME=VALUE")]
    pub sysctls: Vec<String>,
}

/// What `run` and the steps of `build` have.
#[derive(clap::Args)]
pub struct OwnRightsArgs {
    /// Capabilities that the command has besides docker's default ones: a name such as NET_ADMIN, or ALL
    #[arg(long = "cap-add", value_name = "CAPABILITY", value_delimiter = ',')]
    pub cap_add: Vec<String>,
    /// Capabilities that the command does not have: a name, or ALL
    #[arg(long = "cap-drop", value_name = "CAPABILITY", value_delimiter = ',')]
    pub cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=unconfined, or systempaths=unconfined
    #[arg(long = "security-opt", value_name = "OPTION")]
    pub security_opt: Vec<String>,
    /// More groups of the command's user, by name or number
    #[arg(long = "group-add", value_name = "GROUP")]
    pub group_add: Vec<String>,
}

impl OwnRightsArgs {
    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        [&self.cap_add, &self.cap_drop, &self.security_opt, &self.group_add].into_iter().all(Vec::is_empty)
    }

    /// The limits of the command.
    ///
    /// # Errors
    ///
    /// A capability or an option that there is not.
    pub fn security(&self, is_privileged: bool) -> Result<Security> {
        let mut security = if is_privileged { Security::INSECURE } else { Security::SANDBOX };
        let named = |option: &str, name: &String| {
            Capabilities::of(name).with_context(|| {
                format!(
                    "--{option} {name}: there is no such capability, see capabilities(7); ALL stands for all"
                )
            })
        };
        // As in docker, ALL is the base from which the others are added or taken, in whichever order they
        // are given, and --privileged has all.
        let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("ALL"));
        let mut set = match (all(&self.cap_add), all(&self.cap_drop)) {
            (true, _) => Capabilities::ALL,
            (false, true) => Capabilities::default(),
            (false, false) => Capabilities::DEFAULT,
        };
        for name in &self.cap_add {
            set = set.with(named("cap-add", name)?);
        }
        for name in &self.cap_drop {
            let dropped = named("cap-drop", name)?;
            if !name.eq_ignore_ascii_case("ALL") {
                set = set.without(dropped);
            }
        }
        if !is_privileged {
            security.capabilities = set;
        }
        for option in &self.security_opt {
            self.security_option(option, &mut security)?;
        }
        Ok(security)
    }

    fn security_option(&self, text: &str, security: &mut Security) -> Result<()> {
        let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
        match (name, value) {
            ("no-new-privileges", "") => security.no_new_privileges = true,
            ("no-new-privileges", value) => {
                security.no_new_privileges =
                    switch(value).map_err(|error| anyhow::anyhow!("--security-opt {text}: {error}"))?;
            }
            ("seccomp", "unconfined") => security.seccomp = false,
            ("seccomp", "builtin" | "default") => {}
            ("seccomp", _) => bail!(
                "--security-opt {text}: only docker's default profile is known: leave the option out, or give seccomp=unconfined"
            ),
            ("systempaths", "unconfined") | ("unmask", "ALL" | "all") => security.masks = false,
            ("apparmor", "unconfined" | "") | ("label", _) => {}
            ("apparmor", _) => bail!(
                "--security-opt {text}: no profile of AppArmor is applied by crossdock: start it with aa-exec -p {value}"
            ),
            ("writable-cgroups", "false") => {}
            ("mask" | "unmask" | "proc-opts" | "writable-cgroups", _) => bail!(
                "--security-opt {text}: the masked paths are docker's: show them all with systempaths=unconfined"
            ),
            _ => bail!(
                "--security-opt {text}: it must be no-new-privileges, seccomp=unconfined, systempaths=unconfined, apparmor=unconfined or label=..."
            ),
        }
        Ok(())
    }

    /// Groups besides those of the user. With a single id there is only one group.
    pub fn groups(&self, single_id: bool) -> Vec<String> {
        if single_id {
            for group in self.group_add.iter().filter(|group| *group != "keep-groups") {
                say(&format!(
                    "warning: --group-add {group} does nothing: only one group id is available, as \"crossdock doctor\" explains"
                ));
            }
            return Vec::new();
        }
        // Podman's word for the groups of whoever starts the container: an unprivileged user namespace has
        // them anyhow, without their names.
        self.group_add.iter().filter(|group| *group != "keep-groups").cloned().collect()
    }
}

impl RightsArgs {
    /// Settings of the kernel, as names and values.
    pub fn sysctls(&self, network: Network) -> Result<Vec<(String, String)>> {
        self.sysctls
            .iter()
            .map(|text| {
                let Some((name, value)) = text.split_once('=') else {
                    bail!("--sysctl {text}: the form is NAME=VALUE");
                };
                sysctl::check(name, network).with_context(|| format!("--sysctl {text}"))?;
                Ok((name.to_string(), value.to_string()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        rights: RightsArgs,
    }

    fn security(words: &[&str]) -> Result<Security> {
        let words = std::iter::once("run").chain(words.iter().copied());
        let rights = Line::try_parse_from(words).expect("options").rights;
        rights.own.security(rights.privileged)
    }

    #[test]
    fn capabilities_are_counted_as_docker_counts_them() {
        let bits = |words: &[&str]| security(words).expect("rights").capabilities.bits();
        assert_eq!(bits(&[]), 0xa804_25fb);
        assert_eq!(bits(&["--cap-drop", "ALL"]), 0);
        assert_eq!(bits(&["--cap-drop", "ALL", "--cap-add", "CHOWN", "--cap-add", "cap_fowner"]), 0b1001);
        assert_eq!(bits(&["--cap-add", "CHOWN,FOWNER", "--cap-drop", "all"]), 0b1001);
        assert_eq!(bits(&["--cap-add", "ALL", "--cap-drop", "CHOWN"]), u64::MAX - 1);
        assert_eq!(bits(&["--privileged", "--cap-drop", "ALL"]), u64::MAX);
        let error = security(&["--cap-add", "NET_ADMN"]).expect_err("no capability").to_string();
        assert!(error.starts_with("--cap-add NET_ADMN: there is no such capability"), "{error}");
    }

    #[test]
    fn security_options() {
        let of = |option: &str| security(&["--security-opt", option]);
        assert!(of("no-new-privileges").expect("known").no_new_privileges);
        assert!(of("no-new-privileges:true").expect("known").no_new_privileges);
        assert!(!of("no-new-privileges=false").expect("known").no_new_privileges);
        assert!(!of("seccomp=unconfined").expect("known").seccomp);
        assert!(!of("systempaths=unconfined").expect("known").masks);
        for same in ["apparmor=unconfined", "label=disable", "label:disable", "seccomp=builtin"] {
            assert_eq!(of(same).expect("known"), Security::SANDBOX, "{same}");
        }
        for wrong in ["seccomp=/etc/profile.json", "apparmor=docker-default", "nope", "no-new-privileges=x"] {
            let error = of(wrong).expect_err(wrong).to_string();
            assert!(error.contains(&format!("--security-opt {wrong}: ")), "{error}");
        }
    }
}
