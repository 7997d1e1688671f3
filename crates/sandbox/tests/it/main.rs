//! The sandbox, asserted from inside: each test runs a command in a small root of busybox and checks what it
//! prints and what it leaves. Started by root, every test runs as root, as an ordinary user with ranges of
//! ids, and as one with a single id.

#![allow(clippy::disallowed_methods, reason = "files of the tests")]

mod binfmt;
mod doctor;
mod ends;
mod escapes;
mod isolation;
mod mounts;
mod nested;
mod network;
mod overlay;
mod security;
mod support;
mod terminal;
mod trace;
mod users;
