//! Errors with the place in a file of definitions.

use std::ops::Range;

/// Result of reading and evaluating definitions.
pub type Result<T> = std::result::Result<T, BakeError>;

/// What is wrong with definitions, or with what is asked of them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BakeError {
    /// At a place in a file.
    #[error("{file}:{line}:{column}: {message}")]
    At {
        /// Name of the file.
        file: String,
        /// Line, from 1 on.
        line: usize,
        /// Column in characters, from 1 on.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A file as a whole.
    #[error("{file}: {message}")]
    File {
        /// Name of the file.
        file: String,
        /// What is wrong.
        message: String,
    },
    /// An override, a name of a target, or a variable of the environment.
    #[error("{0}")]
    Request(String),
}

/// A file's name and text, for places in errors.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Its name, as it was given.
    pub name: String,
    /// Its text.
    pub text: String,
}

impl SourceFile {
    /// An error at a range of bytes of the text; without one, an error of the file.
    pub fn error(&self, span: Option<Range<usize>>, message: impl Into<String>) -> BakeError {
        let message = message.into();
        let Some(before) = span.and_then(|span| self.text.get(..span.start)) else {
            return BakeError::File { file: self.name.clone(), message };
        };
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        BakeError::At { file: self.name.clone(), line, column, message }
    }
}
