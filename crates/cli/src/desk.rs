//! The command line as the host of deliveries: how they reach registries and tell people something.

use anyhow::Result;
use crossdock_builder::Events;
use crossdock_delivery::Host;
use crossdock_delivery::source::Source;
use crossdock_oci::Store;
use crossdock_platform::Platform;
use crossdock_registry::Client;

use crate::output::say;
use crate::progress::Display;
use crate::session::Session;

/// The command line as the host of deliveries.
struct Desk<'a> {
    session: &'a Session,
    display: Display,
}

impl Host for Desk<'_> {
    fn client(&self) -> Result<Client> {
        self.session.client(std::sync::Arc::new(self.display.clone()))
    }

    fn events(&self) -> Option<&dyn Events> {
        Some(&self.display)
    }

    fn say(&self, text: &str) {
        self.display.say(text);
    }
}

/// Images from the store, or from the registries that the session reaches.
pub fn source_of<'a>(session: &'a Session, store: &'a Store, display: Display) -> Source<'a> {
    Source::new(Box::new(Desk { session, display }), store)
}

/// Warns that an image for another machine is used, although no platform was asked for.
pub fn warn_of_foreign(name: &str, platform: &Platform) {
    let host = Platform::host();
    if Platform::machine().best_to_run([platform]).is_none() && platform.architecture != host.architecture {
        say(&format!(
            "warning: {name} is for {platform} and not for this machine ({host}); --platform {platform} asks for it without this warning"
        ));
    }
}
