//! The executable as users meet it: arguments in, images, text and exit codes out.

mod add;
mod cache;
mod check;
mod containment;
mod copy;
mod dependencies;
mod dockerd;
mod errors;
mod exchange;
mod full_disk;
mod hostile;
mod images;
mod instructions;
mod interop;
mod logins;
mod machine;
mod manifest;
mod mounts;
mod outputs;
mod reach;
mod remote;
mod robustness;
mod run;
mod stages;
mod support;
mod users;
