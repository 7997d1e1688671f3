//! The executable as users meet it: arguments in, images, text and exit codes out.

mod copy;
mod instructions;
mod support;
