//! Rights by repository: lines of `WHO ACTIONS REPOSITORY...`, each of which allows something.

use std::path::Path;

use crate::error::{Error, Result};

/// An action in a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Pull,
    Push,
    Delete,
}

impl Action {
    pub(super) fn name(self) -> &'static str {
        match self {
            Action::Pull => "pull",
            Action::Push => "push",
            Action::Delete => "delete",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Action> {
        [Action::Pull, Action::Push, Action::Delete].into_iter().find(|action| action.name() == text)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Who {
    /// Everybody, even without a password.
    Anonymous,
    /// All users.
    AnyUser,
    User(String),
}

#[derive(Debug)]
struct Rule {
    who: Who,
    /// The allowed actions; `None` for all.
    actions: Option<Vec<Action>>,
    repositories: Vec<String>,
}

/// Who may do what.
#[derive(Debug, Default)]
pub(super) struct Rights(Vec<Rule>);

impl Rights {
    /// Users may do everything, others nothing.
    pub(super) fn of_users() -> Rights {
        Rights(vec![Rule { who: Who::AnyUser, actions: None, repositories: vec!["**".to_string()] }])
    }

    /// Lets everybody pull, too.
    pub(super) fn with_anonymous_pull(mut self) -> Rights {
        let repositories = vec!["**".to_string()];
        self.0.push(Rule { who: Who::Anonymous, actions: Some(vec![Action::Pull]), repositories });
        self
    }

    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Rights> {
        let wrong = |reason: String| Error::File { path: path.to_path_buf(), reason };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("not text".to_string()))?;
        let mut rules = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.is_empty() {
                continue;
            }
            let rule = parse_rule(&words).map_err(|reason| wrong(format!("line {}: {reason}", index + 1)))?;
            rules.push(rule);
        }
        Ok(Rights(rules))
    }

    /// Whether `user`, or somebody without a name if it is `None`, may do something.
    pub(super) fn allow(&self, user: Option<&str>, action: Action, repository: &str) -> bool {
        self.0.iter().any(|rule| {
            let is_meant = match &rule.who {
                Who::Anonymous => true,
                Who::AnyUser => user.is_some(),
                Who::User(name) => user == Some(name),
            };
            is_meant
                && rule.actions.as_ref().is_none_or(|actions| actions.contains(&action))
                && rule.repositories.iter().any(|pattern| matches(pattern, repository))
        })
    }

    /// Whether somebody without a name may do anything at all.
    pub(super) fn know_anonymous(&self) -> bool {
        self.0.iter().any(|rule| rule.who == Who::Anonymous)
    }
}

fn parse_rule(words: &[&str]) -> std::result::Result<Rule, String> {
    let [who, actions, repositories @ ..] = words else {
        return Err("expected WHO ACTIONS REPOSITORY...".to_string());
    };
    if repositories.is_empty() {
        return Err("no repository is named; ** is all of them".to_string());
    }
    let actions = match *actions {
        "*" | "all" => None,
        list => {
            let parse = |word: &str| {
                Action::parse(word).ok_or_else(|| format!("{word} is none of pull, push, delete and all"))
            };
            Some(list.split(',').map(parse).collect::<std::result::Result<_, _>>()?)
        }
    };
    for pattern in repositories {
        let good = |component: &str| {
            !component.is_empty()
                && component
                    .bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-' | b'*'))
                && (component == "**" || !component.contains("**"))
        };
        if !pattern.split('/').all(good) {
            return Err(format!("{pattern} is no pattern for repositories, such as team/* or team/**"));
        }
    }
    let who = match *who {
        "*" => Who::AnyUser,
        "anonymous" => Who::Anonymous,
        name => Who::User(name.to_string()),
    };
    Ok(Rule { who, actions, repositories: repositories.iter().map(|text| text.to_string()).collect() })
}

/// `*` stands for any characters within a component, `**` for any number of components.
fn matches(pattern: &str, name: &str) -> bool {
    fn components(pattern: &[&str], name: &[&str]) -> bool {
        match pattern {
            [] => name.is_empty(),
            ["**", rest @ ..] => (0..=name.len()).any(|n| components(rest, &name[n..])),
            [first, rest @ ..] => {
                name.first().is_some_and(|component| matches_component(first, component))
                    && components(rest, &name[1..])
            }
        }
    }
    let pattern: Vec<&str> = pattern.split('/').collect();
    components(&pattern, &name.split('/').collect::<Vec<_>>())
}

fn matches_component(pattern: &str, text: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(before) else { return false };
    (0..=text.len()).any(|n| text.is_char_boundary(n) && matches_component(rest, &text[n..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("**", "a/b/c", true),
            ("*", "a", true),
            ("*", "a/b", false),
            ("team/*", "team/app", true),
            ("team/*", "team/app/x", false),
            ("team/**", "team/app/x", true),
            ("team/**", "team", true),
            ("team/**", "teams/x", false),
            ("**/app", "a/b/app", true),
            ("a*-x*z", "abc-xyz", true),
            ("a*-x*z", "abc-xy", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn rules() {
        let text = "# who may do what\nalice all team/** shared\n* pull,push team/app # all users\nanonymous pull public/*\n";
        let rights = Rights::parse(Path::new("rights"), text.as_bytes()).expect("good");
        let allow = |user: Option<&str>, action, name| rights.allow(user, action, name);
        assert!(
            allow(Some("alice"), Action::Delete, "team/x/y") && allow(Some("alice"), Action::Push, "shared")
        );
        assert!(!allow(Some("alice"), Action::Pull, "other"));
        assert!(
            allow(Some("bob"), Action::Push, "team/app") && !allow(Some("bob"), Action::Delete, "team/app")
        );
        assert!(!allow(None, Action::Pull, "team/app") && allow(None, Action::Pull, "public/x"));
        assert!(allow(Some("bob"), Action::Pull, "public/x") && !allow(None, Action::Push, "public/x"));
        assert!(rights.know_anonymous() && !Rights::of_users().know_anonymous());
        for (text, message) in [
            ("alice", "expected WHO ACTIONS"),
            ("alice pull", "no repository"),
            ("\nalice pul a", "line 2: pul is none of"),
            ("alice pull Team/*", "Team/* is no pattern"),
            ("alice pull a//b", "a//b is no pattern"),
            ("alice pull a***", "is no pattern"),
        ] {
            let error = Rights::parse(Path::new("rights"), text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains(message) && error.starts_with("rights: line"), "{error}");
        }
    }
}
