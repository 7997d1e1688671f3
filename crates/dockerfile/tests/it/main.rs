//! The parser and lexer beside BuildKit's own test data, where that is at hand, and on noise.

mod corpus;
mod hostile;
mod noise;
