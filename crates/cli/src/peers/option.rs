//! One option of another program, and what happens when it is given here.

/// Whether an option has a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// `--name`, or `--name=true|false`.
    Nothing,
    /// `--name VALUE`.
    Value,
}

/// What happens when the option is given. The sentences stand in the guide, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The command goes on: the option asks for what happens anyhow, or for something that changes no result.
    Fine(&'static str),
    /// The command goes on, after a warning.
    Warning(&'static str),
    /// The command ends.
    Refusal(&'static str),
    /// One of these values is what happens anyhow; the command ends with the sentence for any other value.
    Only(&'static [&'static str], &'static str),
}

impl Answer {
    /// The sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Answer::Fine(sentence) | Answer::Warning(sentence) | Answer::Refusal(sentence) => sentence,
            Answer::Only(_, sentence) => sentence,
        }
    }
}

/// An option of docker, buildx, podman, buildah or skopeo that no command here defines itself.
#[derive(Clone, Copy, Debug)]
pub struct PeerOption {
    pub long: &'static str,
    pub short: Option<char>,
    pub takes: Takes,
    pub answer: Answer,
}

/// An option without a value.
pub const fn switch(long: &'static str, answer: Answer) -> PeerOption {
    PeerOption { long, short: None, takes: Takes::Nothing, answer }
}

/// An option with a value.
pub const fn value(long: &'static str, answer: Answer) -> PeerOption {
    PeerOption { long, short: None, takes: Takes::Value, answer }
}

impl PeerOption {
    /// The same option, with a short form.
    pub const fn short(self, short: char) -> PeerOption {
        PeerOption { short: Some(short), ..self }
    }
}
