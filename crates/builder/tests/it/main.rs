//! Integration tests of what the builder reads; whole builds are tested with the executable.

mod hostile;
