//! The executable as users meet it: arguments in, images, text and exit codes out.

mod add;
mod cache;
mod copy;
mod errors;
mod images;
mod instructions;
mod logins;
mod machine;
mod manifest;
mod mounts;
mod outputs;
mod run;
mod stages;
mod support;
