//! Policies of a client for the sources of its build: which ones it allows and denies, and which it replaces
//! by others (BuildKit, sourcepolicy/ and sourcepolicy/pb/policy.proto).

use anyhow::{Context, Result, bail};
use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::{
    AttrMatch, MatchType, Policy, PolicyAction, Rule, Selector,
};
use bollard_buildkit_proto::pb;
use regex_lite::Regex;

/// How often one source may be replaced, as with BuildKit: policies may go round in circles.
const REPLACEMENTS_MAX: usize = 20;

/// The policies of a build.
#[derive(Clone, Debug, Default)]
pub struct Policies(Vec<Policy>);

impl Policies {
    /// Adds policies: a source must pass all of them.
    pub fn extend(&mut self, more: impl IntoIterator<Item = Policy>) {
        for policy in more {
            if !self.0.contains(&policy) {
                self.0.push(policy);
            }
        }
    }

    /// The source that is used instead of this one; mostly itself.
    ///
    /// # Errors
    ///
    /// A policy denies the source, makes no sense, or replaces it again and again.
    pub fn apply(&self, mut source: pb::SourceOp) -> Result<pb::SourceOp> {
        for _ in 0..=REPLACEMENTS_MAX {
            match self.replacement(&source)? {
                Some(other) => source = other,
                None => return Ok(source),
            }
        }
        bail!("the source policy replaces {} again and again", source.identifier)
    }

    /// [`Policies::apply`] for a source without attributes.
    ///
    /// # Errors
    ///
    /// As for [`Policies::apply`].
    pub fn apply_to(&self, identifier: &str) -> Result<pb::SourceOp> {
        let source = pb::SourceOp { identifier: identifier.to_string(), ..pb::SourceOp::default() };
        self.apply(source)
    }

    /// What the first policy that replaces a source makes of it.
    fn replacement(&self, source: &pb::SourceOp) -> Result<Option<pb::SourceOp>> {
        for policy in &self.0 {
            // The last rule that fits decides.
            let mut is_denied = false;
            for rule in &policy.rules {
                let Some(selector) = &rule.selector else {
                    bail!("a rule of the source policy selects nothing")
                };
                if !fits(selector, source).context("the source policy")? {
                    continue;
                }
                match PolicyAction::try_from(rule.action) {
                    Ok(PolicyAction::Allow) => is_denied = false,
                    Ok(PolicyAction::Deny) => is_denied = true,
                    Ok(PolicyAction::Convert) => {
                        let other = converted(rule, selector, source).context("the source policy")?;
                        if other != *source {
                            return Ok(Some(other));
                        }
                    }
                    Err(_) => bail!("the source policy has an unknown action {}", rule.action),
                }
            }
            if is_denied {
                bail!("source \"{}\" denied by policy", source.identifier);
            }
        }
        Ok(None)
    }
}

/// The expression of a selector that is no plain identifier.
fn expression(selector: &Selector) -> Result<Option<Regex>> {
    let identifier = &selector.identifier;
    let text = match MatchType::try_from(selector.match_type) {
        Ok(MatchType::Exact) => return Ok(None),
        Ok(MatchType::Regex) => identifier.clone(),
        Ok(MatchType::Wildcard) => {
            if identifier.contains("**") {
                bail!("{identifier}: \"**\" means nothing");
            }
            format!("^{}$", regex_lite::escape(identifier).replace("\\*", "(.*)"))
        }
        Err(_) => bail!("{identifier}: unknown kind of match {}", selector.match_type),
    };
    Ok(Some(Regex::new(&text).with_context(|| identifier.clone())?))
}

fn fits(selector: &Selector, source: &pb::SourceOp) -> Result<bool> {
    for constraint in &selector.constraints {
        let value = source.attrs.get(&constraint.key).map_or("", String::as_str);
        let holds = match AttrMatch::try_from(constraint.condition) {
            Ok(AttrMatch::Equal) => value == constraint.value,
            Ok(AttrMatch::Notequal) => value != constraint.value,
            Ok(AttrMatch::Matches) => {
                Regex::new(&constraint.value).with_context(|| constraint.value.clone())?.is_match(value)
            }
            Err(_) => bail!("{}: unknown condition {}", constraint.key, constraint.condition),
        };
        if !holds {
            return Ok(false);
        }
    }
    if selector.identifier == source.identifier {
        return Ok(true);
    }
    Ok(expression(selector)?.is_some_and(|expression| expression.is_match(&source.identifier)))
}

/// The source that a rule puts in the place of one that fits.
fn converted(rule: &Rule, selector: &Selector, source: &pb::SourceOp) -> Result<pb::SourceOp> {
    let updates = rule.updates.as_ref().context("a rule converts a source to nothing")?;
    let to: &str = match updates.identifier.as_str() {
        "" => &selector.identifier,
        to => to,
    };
    let expression = expression(selector)?;
    let identifier = match (MatchType::try_from(selector.match_type), expression) {
        (Ok(MatchType::Regex), Some(expression)) => {
            expression.replace_all(&source.identifier, to).into_owned()
        }
        (_, Some(expression)) => match expression.captures(&source.identifier) {
            Some(found) => {
                let mut text = String::new();
                found.expand(to, &mut text);
                text
            }
            None => to.to_string(),
        },
        (_, None) => to.to_string(),
    };
    let mut other = source.clone();
    if !identifier.is_empty() {
        other.identifier = identifier;
    }
    other.attrs.extend(updates.attrs.clone());
    Ok(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard_buildkit_proto::moby::buildkit::v1::sourcepolicy::{AttrConstraint, Update};

    fn rule(action: PolicyAction, kind: MatchType, identifier: &str, to: Option<&str>) -> Rule {
        let selector =
            Selector { identifier: identifier.to_string(), match_type: kind.into(), constraints: Vec::new() };
        let update = |to: &str| Update { identifier: to.to_string(), ..Update::default() };
        Rule { action: action.into(), selector: Some(selector), updates: to.map(update) }
    }

    fn policies(rules: Vec<Rule>) -> Policies {
        Policies(vec![Policy { version: 1, rules }])
    }

    fn applied(policies: &Policies, identifier: &str) -> Result<String, String> {
        let applied = policies.apply_to(identifier).map(|source| source.identifier);
        applied.map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_last_rule_that_fits_decides() {
        let (allow, deny) = (PolicyAction::Allow, PolicyAction::Deny);
        let all = policies(vec![
            rule(deny, MatchType::Wildcard, "docker-image://*", None),
            rule(allow, MatchType::Regex, "docker-image://docker.io/library/(alpine|busybox):", None),
            rule(deny, MatchType::Exact, "docker-image://docker.io/library/alpine:old", None),
        ]);
        let image = |name: &str| applied(&all, &format!("docker-image://docker.io/library/{name}"));
        assert!(image("alpine:new").is_ok());
        assert_eq!(
            image("alpine:old").expect_err("denied"),
            "source \"docker-image://docker.io/library/alpine:old\" denied by policy"
        );
        assert!(image("debian:new").is_err());
        assert!(applied(&all, "local://context").is_ok());
        let odd = rule(deny, MatchType::Wildcard, "a.b*[c]", None);
        assert!(applied(&policies(vec![odd.clone()]), "a.bX[c]").is_err(), "only \"*\" is special");
        assert!(applied(&policies(vec![odd]), "aXbX[c]").is_ok());
    }

    #[test]
    fn sources_are_replaced_by_others() {
        let convert = PolicyAction::Convert;
        let all = policies(vec![
            rule(
                convert,
                MatchType::Wildcard,
                "docker-image://docker.io/*:*",
                Some("docker-image://h/$1:${2}-x"),
            ),
            rule(convert, MatchType::Regex, "^git://(.+)/old", Some("git://$1/new")),
            rule(convert, MatchType::Exact, "local://a", Some("local://b")),
            rule(PolicyAction::Deny, MatchType::Exact, "local://b", None),
        ]);
        assert_eq!(
            applied(&all, "docker-image://docker.io/library/a:1").expect("there"),
            "docker-image://h/library/a:1-x"
        );
        assert_eq!(applied(&all, "git://h/old#main").expect("there"), "git://h/new#main");
        assert!(applied(&all, "local://a").is_err(), "the other one is judged, too");
        let round = policies(vec![
            rule(convert, MatchType::Exact, "local://a", Some("local://b")),
            rule(convert, MatchType::Exact, "local://b", Some("local://a")),
        ]);
        assert!(applied(&round, "local://a").expect_err("a circle").contains("again and again"));
        let mut pinned = rule(convert, MatchType::Exact, "https://h/f", None);
        let attrs = [("http.checksum".to_string(), "sha256:1".to_string())].into();
        pinned.updates = Some(Update { identifier: String::new(), attrs });
        let source = policies(vec![pinned]).apply_to("https://h/f").expect("there");
        assert_eq!(
            (source.identifier.as_str(), source.attrs["http.checksum"].as_str()),
            ("https://h/f", "sha256:1")
        );
    }

    #[test]
    fn attributes_count_and_nonsense_is_an_error() {
        let mut by_attribute = rule(PolicyAction::Deny, MatchType::Wildcard, "git://*", None);
        let constraint = AttrConstraint {
            key: "git.fullurl".to_string(),
            value: "^http:".to_string(),
            condition: AttrMatch::Matches.into(),
        };
        by_attribute.selector.as_mut().expect("there").constraints.push(constraint);
        let all = policies(vec![by_attribute]);
        let source = |address: &str| {
            let attrs = [("git.fullurl".to_string(), address.to_string())].into();
            all.apply(pb::SourceOp { identifier: "git://h/a".to_string(), attrs })
        };
        assert!(source("http://h/a").is_err());
        assert!(source("https://h/a").is_ok());
        for bad in [
            rule(PolicyAction::Deny, MatchType::Regex, "(", None),
            rule(PolicyAction::Deny, MatchType::Wildcard, "a**", None),
            rule(PolicyAction::Convert, MatchType::Wildcard, "*", None),
            Rule { action: 9, ..rule(PolicyAction::Deny, MatchType::Wildcard, "*", None) },
            Rule { selector: None, ..Rule::default() },
        ] {
            assert!(applied(&policies(vec![bad.clone()]), "local://x").is_err(), "{bad:?}");
        }
    }
}
