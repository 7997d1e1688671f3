//! How registries are reached, as the options of podman and skopeo say (podman-pull(1), skopeo-copy(1)): with
//! or without verified certificates, and with which credentials.

use std::path::PathBuf;

use anyhow::{Result, bail};
use crossdock_registry::{ClientOptions, Credential};

use crate::values::switch;

/// How every registry is reached.
#[derive(clap::Args, Clone, Default)]
pub struct ConnectionArgs {
    /// Refuse plain http and unverified certificates; with "=false" accept them
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, help_heading = HEADING)]
    pub tls_verify: Option<bool>,
    /// The only file with credentials [default: those of docker and podman]
    #[arg(long, visible_alias = "compat-auth-file", value_name = "FILE", help_heading = HEADING)]
    pub authfile: Option<PathBuf>,
    /// Directory with the registry's certificates: *.crt, *.cert and *.key
    #[arg(long, value_name = "DIR", help_heading = HEADING)]
    pub cert_dir: Option<PathBuf>,
    /// How often a failed request is tried again [default: 5]
    #[arg(long, visible_alias = "retry-times", value_name = "N", help_heading = HEADING)]
    pub retry: Option<u32>,
}

const HEADING: &str = "Registries";

/// Credentials of the one registry that a command names.
#[derive(clap::Args, Clone, Default)]
pub struct CredentialArgs {
    /// User and password of the registry
    #[arg(long, value_name = "USER[:PASSWORD]", help_heading = HEADING)]
    pub creds: Option<String>,
    /// User of the registry
    #[arg(long, value_name = "USER", conflicts_with = "creds", requires = "password", help_heading = HEADING)]
    pub username: Option<String>,
    /// Password of the registry; others can see it, so better log in
    #[arg(long, value_name = "PASSWORD", conflicts_with = "creds", requires = "username", help_heading = HEADING)]
    pub password: Option<String>,
    /// Use no credentials
    #[arg(long, conflicts_with_all = ["creds", "username"], help_heading = HEADING)]
    pub no_creds: bool,
}

/// Options of one side of a copy, with the side's prefix.
macro_rules! side {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $which:literal) => {
        $(#[$doc])*
        #[derive(clap::Args, Clone, Default)]
        pub struct $name {
            #[arg(id = concat!($prefix, "tls-verify"), long = concat!($prefix, "tls-verify"), value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = switch, help_heading = HEADING, help = concat!("Refuse plain http and unverified certificates ", $which, "; with \"=false\" accept them"))]
            pub tls_verify: Option<bool>,
            #[arg(id = concat!($prefix, "authfile"), long = concat!($prefix, "authfile"), value_name = "FILE", help_heading = HEADING, help = concat!("File with the credentials ", $which))]
            pub authfile: Option<PathBuf>,
            #[arg(id = concat!($prefix, "cert-dir"), long = concat!($prefix, "cert-dir"), value_name = "DIR", help_heading = HEADING, help = concat!("Directory with the certificates ", $which))]
            pub cert_dir: Option<PathBuf>,
            #[arg(id = concat!($prefix, "creds"), long = concat!($prefix, "creds"), value_name = "USER[:PASSWORD]", help_heading = HEADING, help = concat!("User and password ", $which))]
            pub creds: Option<String>,
            #[arg(id = concat!($prefix, "username"), long = concat!($prefix, "username"), value_name = "USER", conflicts_with = concat!($prefix, "creds"), requires = concat!($prefix, "password"), help_heading = HEADING, help = concat!("User ", $which))]
            pub username: Option<String>,
            #[arg(id = concat!($prefix, "password"), long = concat!($prefix, "password"), value_name = "PASSWORD", conflicts_with = concat!($prefix, "creds"), requires = concat!($prefix, "username"), help_heading = HEADING, help = concat!("Password ", $which))]
            pub password: Option<String>,
            #[arg(id = concat!($prefix, "no-creds"), long = concat!($prefix, "no-creds"), conflicts_with_all = [concat!($prefix, "creds"), concat!($prefix, "username")], help_heading = HEADING, help = concat!("Use no credentials ", $which))]
            pub no_creds: bool,
        }

        impl $name {
            /// How this side's registry is reached.
            ///
            /// # Errors
            ///
            /// Credentials without a password; the message does not show them.
            pub fn access(&self, registry: &str) -> Result<Access> {
                let given = Given {
                    flag: concat!("--", $prefix, "creds"),
                    creds: self.creds.as_deref(),
                    username: self.username.as_deref(),
                    password: self.password.as_deref(),
                    no_creds: self.no_creds,
                };
                Ok(Access {
                    registry: Some(registry.to_string()),
                    tls_verify: self.tls_verify,
                    authfile: self.authfile.clone(),
                    cert_dir: self.cert_dir.clone(),
                    identity: given.identity()?,
                })
            }
        }
    };
}

side!(
    /// How the registry of a copy's source is reached.
    SourceArgs, "src-", "of the source"
);
side!(
    /// How the registry of a copy's destination is reached.
    DestinationArgs, "dest-", "of the destination"
);

/// Who asks a registry.
#[derive(Clone)]
pub enum Identity {
    /// Whoever is logged in.
    Stored,
    Nobody,
    Given(Credential),
}

/// How one registry, or every one, is reached.
#[derive(Clone)]
pub struct Access {
    /// `HOST[:PORT]`; `None` for every registry.
    pub registry: Option<String>,
    pub tls_verify: Option<bool>,
    pub authfile: Option<PathBuf>,
    pub cert_dir: Option<PathBuf>,
    pub identity: Identity,
}

/// The options about credentials.
struct Given<'a> {
    flag: &'static str,
    creds: Option<&'a str>,
    username: Option<&'a str>,
    password: Option<&'a str>,
    no_creds: bool,
}

impl Given<'_> {
    fn identity(&self) -> Result<Identity> {
        let (username, password) = match (self.creds, self.username, self.password) {
            _ if self.no_creds => return Ok(Identity::Nobody),
            (Some(creds), ..) => match creds.split_once(':') {
                Some(pair) => pair,
                None => bail!(
                    "{}: the form is USER:PASSWORD; without a password use \"crossdock login\"",
                    self.flag
                ),
            },
            (None, Some(username), Some(password)) => (username, password),
            _ => return Ok(Identity::Stored),
        };
        if username.is_empty() || password.is_empty() {
            bail!("{}: the user or the password is empty", self.flag);
        }
        Ok(Identity::Given(Credential::password(username, password)))
    }
}

impl ConnectionArgs {
    /// How every registry is reached.
    pub fn access(&self) -> Access {
        Access {
            registry: None,
            tls_verify: self.tls_verify,
            authfile: self.authfile.clone(),
            cert_dir: self.cert_dir.clone(),
            identity: Identity::Stored,
        }
    }
}

impl CredentialArgs {
    /// How the one registry is reached whose credentials these are.
    ///
    /// # Errors
    ///
    /// Credentials without a password; the message does not show them.
    pub fn access(&self, connection: &ConnectionArgs, registry: &str) -> Result<Access> {
        let given = Given {
            flag: "--creds",
            creds: self.creds.as_deref(),
            username: self.username.as_deref(),
            password: self.password.as_deref(),
            no_creds: self.no_creds,
        };
        let identity = given.identity()?;
        Ok(Access { registry: Some(registry.to_string()), identity, ..connection.access() })
    }
}

impl Access {
    /// Puts it into the options of a client.
    pub fn apply(&self, options: &mut ClientOptions) {
        match (&self.registry, self.tls_verify) {
            (None, Some(false)) => options.insecure_all = true,
            (None, Some(true)) => options.secure_all = true,
            (Some(registry), Some(false)) => options.insecure.push(registry.clone()),
            (Some(registry), Some(true)) => options.secure.push(registry.clone()),
            (_, None) => {}
        }
        if let Some(directory) = &self.cert_dir {
            options.hosts.add_certificates(self.registry.as_deref(), directory.clone());
        }
        // A relative path has no directory that a new file could be written to.
        let authfile =
            self.authfile.as_ref().map(|file| std::path::absolute(file).unwrap_or_else(|_| file.clone()));
        if let Some(file) = &authfile {
            options.credentials = match &self.registry {
                None => std::mem::take(&mut options.credentials).only_from(file),
                Some(registry) => std::mem::take(&mut options.credentials).with_file(registry, file),
            };
        }
        let Some(registry) = &self.registry else { return };
        match &self.identity {
            Identity::Stored => {}
            Identity::Nobody => {
                options.credentials = std::mem::take(&mut options.credentials).without(registry);
            }
            Identity::Given(credential) => {
                options.credentials =
                    std::mem::take(&mut options.credentials).with(registry, credential.clone());
            }
        }
    }
}
