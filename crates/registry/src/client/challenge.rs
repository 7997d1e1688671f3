//! `WWW-Authenticate`: RFC 9110 section 11.6.1, and the parameters of the distribution project's token
//! authentication.

/// How a registry wants clients to authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// A token from a token server.
    Bearer {
        /// URL of the token server.
        realm: String,
        /// The registry's name at the token server.
        service: Option<String>,
        /// Scopes separated by spaces.
        scope: Option<String>,
        /// `insufficient_scope`, `invalid_token` or nothing.
        error: Option<String>,
    },
    /// User name and password in each request.
    Basic,
}

/// The best challenge among the values of all `WWW-Authenticate` headers: Bearer, else Basic.
pub(crate) fn best_challenge<'a>(headers: impl IntoIterator<Item = &'a str>) -> Option<Challenge> {
    let mut best = None;
    for header in headers {
        for (scheme, parameters) in parse(header) {
            let get = |name: &str| {
                parameters.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = get("realm") {
                    return Some(Challenge::Bearer {
                        realm,
                        service: get("service"),
                        scope: get("scope"),
                        error: get("error"),
                    });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                best = Some(Challenge::Basic);
            }
        }
    }
    best
}

/// A scheme and its parameters.
type Parsed = (String, Vec<(String, String)>);

/// Reads a sequence of `scheme [name=value, ...]`. A token without `=` begins a new challenge; damage ends
/// the sequence.
fn parse(header: &str) -> Vec<Parsed> {
    let mut challenges: Vec<Parsed> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        if end == 0 {
            return challenges;
        }
        let (token, after) = rest.split_at(end);
        let value = after.trim_start().strip_prefix('=').map(str::trim_start);
        match (value, challenges.last_mut()) {
            (Some(value), Some((_, parameters))) => {
                let Some((text, after)) = parse_value(value) else { return challenges };
                parameters.push((token.to_string(), text));
                rest = after;
            }
            (None, _) => {
                challenges.push((token.to_string(), Vec::new()));
                rest = after;
            }
            (Some(_), None) => return challenges,
        }
    }
}

/// A token or a quoted string, and what follows.
fn parse_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !is_token(c)).unwrap_or(text.len());
        return Some((text[..end].to_string(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// RFC 9110 section 5.6.2, and `/` and `:` since some servers leave URLs unquoted.
fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/:".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer {
            realm: realm.to_string(),
            service: service.map(str::to_string),
            scope: scope.map(str::to_string),
            error: None,
        })
    }

    #[test]
    fn reads_what_registries_send() {
        let docker = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        assert_eq!(
            best_challenge([docker]),
            bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:a/b:pull,push")
            )
        );
        assert_eq!(best_challenge([r#"Basic realm="x, y""#]), Some(Challenge::Basic));
        assert_eq!(best_challenge(["Basic"]), Some(Challenge::Basic));
        assert_eq!(best_challenge([r#"Basic realm="a", bearer realm="b""#]), bearer("b", None, None));
        assert_eq!(
            best_challenge(["Basic realm=a", r#"BEARER Realm = "b\"c" "#]),
            bearer("b\"c", None, None)
        );
        assert_eq!(
            best_challenge(["Bearer realm=https://t/x,service=s"]),
            bearer("https://t/x", Some("s"), None)
        );
    }

    #[test]
    fn damage_is_no_challenge() {
        for bad in
            ["", "=", "\"\"", "Bearer", "Bearer realm=\"unterminated", "Negotiate abc==", "realm=\"x\"", "é"]
        {
            assert_eq!(best_challenge([bad]), None, "{bad}");
        }
    }
}
