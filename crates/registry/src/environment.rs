//! The environment variables that matter here, read by the caller.

use std::ffi::OsString;
use std::path::PathBuf;

/// Values of environment variables; the command line reads them, tests set their own.
#[derive(Clone, Default)]
pub struct Environment {
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `PATH`, which is searched for credential helpers.
    pub path: Option<OsString>,
    /// `DOCKER_CONFIG`: a directory.
    pub docker_config: Option<PathBuf>,
    /// `REGISTRY_AUTH_FILE`: a file.
    pub registry_auth_file: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config_home: Option<PathBuf>,
    /// `CONTAINERS_REGISTRIES_CONF`: a file.
    pub registries_conf: Option<PathBuf>,
    /// `HTTPS_PROXY`, or `ALL_PROXY`; may hold a password, hence not part of `Debug`.
    pub https_proxy: Option<String>,
    /// `HTTP_PROXY`, or `ALL_PROXY`.
    pub http_proxy: Option<String>,
    /// `NO_PROXY`.
    pub no_proxy: Option<String>,
}

impl Environment {
    /// Reads the variables through `get`, for example `|name| std::env::var_os(name)`. Empty values count as
    /// unset; the lower-case names of the proxy variables come first, as in curl.
    pub fn from_vars(get: impl Fn(&str) -> Option<OsString>) -> Environment {
        let get = |name: &str| get(name).filter(|value| !value.is_empty());
        let path = |name: &str| get(name).map(PathBuf::from);
        let text = |names: [&str; 4]| {
            names.iter().filter(|n| !n.is_empty()).find_map(|n| get(n)?.into_string().ok())
        };
        Environment {
            home: path("HOME"),
            path: get("PATH"),
            docker_config: path("DOCKER_CONFIG"),
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
            xdg_config_home: path("XDG_CONFIG_HOME"),
            registries_conf: path("CONTAINERS_REGISTRIES_CONF"),
            https_proxy: text(["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]),
            http_proxy: text(["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]),
            no_proxy: text(["no_proxy", "NO_PROXY", "", ""]),
        }
    }

    /// `XDG_CONFIG_HOME` or `~/.config`.
    pub(crate) fn config_home(&self) -> Option<PathBuf> {
        self.xdg_config_home.clone().or_else(|| Some(self.home.as_ref()?.join(".config")))
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Environment")
            .field("home", &self.home)
            .field("docker_config", &self.docker_config)
            .field("registry_auth_file", &self.registry_auth_file)
            .field("proxied", &(self.https_proxy.is_some() || self.http_proxy.is_some()))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_unset_and_lower_case_wins() {
        let environment = Environment::from_vars(|name| {
            Some(match name {
                "HOME" => "/h".into(),
                "DOCKER_CONFIG" => "".into(),
                "https_proxy" => "http://u:topsecret@p:1".into(),
                "HTTPS_PROXY" => "http://other:1".into(),
                _ => return None,
            })
        });
        assert_eq!(environment.docker_config, None);
        assert_eq!(environment.https_proxy.as_deref(), Some("http://u:topsecret@p:1"));
        assert_eq!(environment.config_home(), Some("/h/.config".into()));
        assert!(!format!("{environment:?}").contains("topsecret"));
    }
}
