//! The client against the embedded server, against Debian's `docker-registry`, and `skopeo` against the
//! server.

mod access;
mod actions;
mod auth;
mod copies;
mod crash;
mod credentials;
mod endpoints;
mod faults;
mod hostile;
mod hosts;
mod http;
mod interop;
mod load;
mod offer;
mod operator;
mod proxy;
mod raw;
mod streams;
mod support;
mod transfer;
mod uploads;
