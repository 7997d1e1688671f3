//! The parser and lexer, compared with BuildKit's own test data if that is available, and on noise.

mod corpus;
mod hostile;
mod noise;
