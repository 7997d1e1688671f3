//! `--os`, `--arch` and `--variant`: podman's way to name one platform (podman-pull(1)).

use anyhow::{Result, bail};
use crossdock_platform::Platform;

use crate::session::Session;
use crate::values;

#[derive(clap::Args, Clone, Default)]
pub struct SinglePlatformArgs {
    /// Operating system, instead of --platform
    #[arg(long, value_name = "OS")]
    pub os: Option<String>,
    /// Architecture, instead of --platform
    #[arg(long, value_name = "ARCH")]
    pub arch: Option<String>,
    /// Variant of the architecture
    #[arg(long, value_name = "VARIANT")]
    pub variant: Option<String>,
}

impl SinglePlatformArgs {
    /// The platform that these options name, or those of skopeo before the command; what is not given is this
    /// machine's. `None` if there is none of them.
    ///
    /// # Errors
    ///
    /// No such platform; `--platform` is given, too.
    pub fn platform(&self, session: &Session, platforms: &[String]) -> Result<Option<Platform>> {
        let own = values::composed(self.os.as_deref(), self.arch.as_deref(), self.variant.as_deref())?;
        if let (Some(own), Some(other)) = (&own, platforms.first()) {
            bail!("--platform {other}: --os, --arch and --variant name {own} already");
        }
        Ok(own.or_else(|| session.platform().filter(|_| platforms.is_empty()).cloned()))
    }
}
