//! The client against a server in this process, which can misbehave.

mod blobs;
mod connection;
mod execution;

use std::time::Duration;

use crossdock_reapi::{Client, Settings};
use crossdock_testkit::farm::TestFarm;

/// How a test reaches its farm.
fn settings(farm: &TestFarm) -> Settings {
    let mut settings = Settings::new(farm.address.parse().expect("an address"));
    settings.patience = Duration::from_secs(10);
    settings
}

/// A client of a farm.
fn client(farm: &TestFarm) -> Client {
    Client::connect(settings(farm)).expect("the farm is there")
}
