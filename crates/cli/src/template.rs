//! `--format`: the part of Go's template language that people use with `docker inspect` and `docker images`.
//!
//! `{{.Config.Cmd}}`, `{{json .}}`, `{{index .RepoTags 0}}`, `{{range .Config.Env}}{{println .}}{{end}}`,
//! `{{if}}`, `{{with}}`, `{{else}}`, pipelines, variables of `range`, and trimming with `{{-` and `-}}`.
//! Values are JSON.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use serde_json::Value;

/// Fills a template with a value.
pub fn render(template: &str, value: &Value) -> Result<String> {
    let tokens = tokens(template)?;
    let mut rest = tokens.as_slice();
    let nodes = parse(&mut rest, 0)?;
    if let Some(token) = rest.first() {
        bail!("unexpected {}", token.shown());
    }
    let mut out = String::new();
    let mut scope = Scope { root: value, variables: Vec::new() };
    execute(&nodes, value, &mut scope, &mut out)?;
    Ok(out)
}

/// Text, or what is between `{{` and `}}`.
enum Token<'t> {
    Text(&'t str),
    Action(Vec<Word>, &'t str),
}

impl Token<'_> {
    fn shown(&self) -> String {
        match self {
            Token::Text(text) => format!("{text:?}"),
            Token::Action(_, source) => format!("{{{{{source}}}}}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Word {
    /// `.A.B`; empty for `.`.
    Field(Vec<String>),
    /// `$name.A`; the name is empty for `$`.
    Variable(String, Vec<String>),
    Text(String),
    Number(i64),
    /// A function or keyword.
    Name(String),
    Pipe,
    Open,
    Close,
    /// `.A.B` right after a parenthesis.
    Of(Vec<String>),
    Comma,
    Assign,
}

fn tokens(template: &str) -> Result<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = template;
    let mut trim = false;
    while let Some(start) = rest.find("{{") {
        let inside = &rest[start + 2..];
        let Some(end) = end_of_action(inside) else { bail!("no }}}} after {{{{{inside}") };
        let (text, mut action) = (&rest[..start], &inside[..end]);
        let text = if trim { text.trim_start() } else { text };
        let before = action.strip_prefix("- ");
        tokens.push(Token::Text(if before.is_some() { text.trim_end() } else { text }));
        action = before.unwrap_or(action);
        let after = action.strip_suffix(" -");
        trim = after.is_some();
        action = after.unwrap_or(action);
        if !action.trim_start().starts_with("/*") {
            tokens.push(Token::Action(words(action)?, action.trim()));
        }
        rest = &inside[end + 2..];
    }
    tokens.push(Token::Text(if trim { rest.trim_start() } else { rest }));
    Ok(tokens)
}

/// Where `}}` is, outside of quoted text.
fn end_of_action(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '`') => quote = Some(c),
            None if text[i..].starts_with("}}") => return Some(i),
            None => {}
        }
    }
    None
}

fn words(action: &str) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    let mut rest = action.trim_start();
    while let Some(c) = rest.chars().next() {
        let name_end =
            |text: &str| text.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(text.len());
        let path_end = |text: &str| {
            text.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '.'))).unwrap_or(text.len())
        };
        let path = |text: &str| {
            text.split('.').filter(|part| !part.is_empty()).map(str::to_string).collect::<Vec<_>>()
        };
        let length;
        match c {
            '.' => {
                length = path_end(rest);
                let fields = path(&rest[..length]);
                let is_of = words.last() == Some(&Word::Close)
                    && action.as_bytes()[..action.len() - rest.len()].ends_with(b")");
                words.push(if is_of { Word::Of(fields) } else { Word::Field(fields) });
            }
            '$' => {
                length = 1 + path_end(&rest[1..]);
                let (name, fields) = rest[1..length].split_once('.').unwrap_or((&rest[1..length], ""));
                words.push(Word::Variable(name.to_string(), path(fields)));
            }
            '"' => {
                let mut strings = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                let Some(Ok(text)) = strings.next() else { bail!("bad text {rest}") };
                length = strings.byte_offset();
                words.push(Word::Text(text));
            }
            '`' => {
                let Some(end) = rest[1..].find('`') else { bail!("no end of {rest}") };
                words.push(Word::Text(rest[1..=end].to_string()));
                length = end + 2;
            }
            '0'..='9' | '-' => {
                length = 1 + name_end(&rest[1..]);
                let Ok(number) = rest[..length].parse() else { bail!("bad number {}", &rest[..length]) };
                words.push(Word::Number(number));
            }
            '|' | '(' | ')' | ',' => {
                length = 1;
                words.push(match c {
                    '|' => Word::Pipe,
                    '(' => Word::Open,
                    ')' => Word::Close,
                    _ => Word::Comma,
                });
            }
            ':' if rest.starts_with(":=") => {
                length = 2;
                words.push(Word::Assign);
            }
            c if c.is_alphabetic() => {
                length = name_end(rest);
                words.push(Word::Name(rest[..length].to_string()));
            }
            c => bail!("unexpected {c:?} in {{{{{action}}}}}"),
        }
        rest = rest[length..].trim_start();
    }
    if words.iter().filter(|word| **word == Word::Open).count() > DEPTH_MAX {
        bail!("more than {DEPTH_MAX} parentheses");
    }
    Ok(words)
}

enum Node<'t> {
    Text(&'t str),
    Print(Vec<Word>),
    Block { kind: Block, condition: Vec<Word>, then: Vec<Node<'t>>, otherwise: Vec<Node<'t>> },
}

#[derive(Clone, Copy, PartialEq)]
enum Block {
    If,
    Range,
    With,
}

/// How deep blocks may be nested; a limit against hostile templates.
const DEPTH_MAX: usize = 64;

/// Parses up to `{{else}}` or `{{end}}`, which stay in `tokens`.
fn parse<'t>(tokens: &mut &[Token<'t>], depth: usize) -> Result<Vec<Node<'t>>> {
    if depth > DEPTH_MAX {
        bail!("more than {DEPTH_MAX} blocks in each other");
    }
    let mut nodes = Vec::new();
    while let Some((token, rest)) = tokens.split_first() {
        let Token::Action(words, source) = token else {
            if let Token::Text(text) = token {
                nodes.push(Node::Text(text));
            }
            *tokens = rest;
            continue;
        };
        let keyword = match words.first() {
            Some(Word::Name(name)) => name.as_str(),
            _ => "",
        };
        let kind = match keyword {
            "else" | "end" => break,
            "if" => Block::If,
            "range" => Block::Range,
            "with" => Block::With,
            _ => {
                if words.is_empty() {
                    bail!("nothing in {{{{{source}}}}}");
                }
                nodes.push(Node::Print(words.clone()));
                *tokens = rest;
                continue;
            }
        };
        *tokens = rest;
        nodes.push(block(kind, words[1..].to_vec(), tokens, depth)?);
        let is_end = |words: &[Word]| matches!(words, [Word::Name(name)] if name == "end");
        match tokens.split_first() {
            Some((Token::Action(words, _), rest)) if is_end(words) => *tokens = rest,
            _ => bail!("no {{{{end}}}} for {{{{{source}}}}}"),
        }
    }
    Ok(nodes)
}

/// Parses a block from after its head up to its `{{end}}`, which stays in `tokens`.
fn block<'t>(kind: Block, condition: Vec<Word>, tokens: &mut &[Token<'t>], depth: usize) -> Result<Node<'t>> {
    let then = parse(tokens, depth + 1)?;
    let mut otherwise = Vec::new();
    if let Some((Token::Action(words, _), rest)) = tokens.split_first()
        && words.first() == Some(&Word::Name("else".to_string()))
    {
        *tokens = rest;
        otherwise = match words.get(1) {
            Some(Word::Name(name)) if name == "if" => {
                vec![block(Block::If, words[2..].to_vec(), tokens, depth + 1)?]
            }
            _ => parse(tokens, depth + 1)?,
        };
    }
    Ok(Node::Block { kind, condition, then, otherwise })
}

struct Scope<'v> {
    root: &'v Value,
    variables: Vec<(String, Value)>,
}

fn execute(nodes: &[Node<'_>], dot: &Value, scope: &mut Scope<'_>, out: &mut String) -> Result<()> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(words) => {
                let (names, words) = assigned(words);
                let value = pipeline(words, dot, scope)?;
                match names.first() {
                    Some(name) => scope.variables.push((name.clone(), value)),
                    None => out.push_str(&printed(&value)),
                }
            }
            Node::Block { kind, condition, then, otherwise } => {
                let kept = scope.variables.len();
                let (names, words) = assigned(condition);
                let value = pipeline(words, dot, scope)?;
                match kind {
                    _ if !is_true(&value) => execute(otherwise, dot, scope, out)?,
                    Block::If => execute(then, dot, scope, out)?,
                    Block::With => {
                        scope.variables.extend(names.first().map(|name| (name.clone(), value.clone())));
                        execute(then, &value, scope, out)?;
                    }
                    Block::Range => range(&value, &names, then, scope, out)?,
                }
                scope.variables.truncate(kept);
            }
        }
    }
    Ok(())
}

fn range(
    value: &Value,
    names: &[String],
    nodes: &[Node<'_>],
    scope: &mut Scope<'_>,
    out: &mut String,
) -> Result<()> {
    let items: Vec<(Value, &Value)> = match value {
        Value::Array(items) => items.iter().enumerate().map(|(i, item)| (Value::from(i), item)).collect(),
        Value::Object(map) => sorted(map).map(|(key, item)| (Value::from(key), item)).collect(),
        other => bail!("range needs a list or a map, not {other}"),
    };
    let kept = scope.variables.len();
    for (key, item) in items {
        match names {
            [one] => scope.variables.push((one.clone(), item.clone())),
            [first, second] => {
                scope.variables.push((first.clone(), key));
                scope.variables.push((second.clone(), item.clone()));
            }
            _ => {}
        }
        execute(nodes, item, scope, out)?;
        scope.variables.truncate(kept);
    }
    Ok(())
}

/// The variables of `$a, $b := ...`, and the words after `:=`.
fn assigned(words: &[Word]) -> (Vec<String>, &[Word]) {
    let Some(at) = words.iter().position(|w| *w == Word::Assign) else { return (Vec::new(), words) };
    let name = |word: &Word| match word {
        Word::Variable(name, _) => Some(name.clone()),
        _ => None,
    };
    (words[..at].iter().filter_map(name).collect(), &words[at + 1..])
}

/// `A | B | C`: the value of each is the last argument of the next.
fn pipeline(words: &[Word], dot: &Value, scope: &Scope<'_>) -> Result<Value> {
    let mut depth = 0;
    let mut last = None;
    let commands = words.split(|word| {
        depth += i32::from(*word == Word::Open) - i32::from(*word == Word::Close);
        *word == Word::Pipe && depth == 0
    });
    for command in commands {
        last = Some(call(command, last, dot, scope)?);
    }
    last.ok_or_else(|| anyhow::anyhow!("an empty pipeline"))
}

/// A value, or a function with its arguments.
fn call(words: &[Word], piped: Option<Value>, dot: &Value, scope: &Scope<'_>) -> Result<Value> {
    let (name, mut rest) = match words {
        [Word::Name(name), rest @ ..] if !matches!(name.as_str(), "true" | "false" | "nil") => (name, rest),
        _ => {
            let mut rest = words;
            let value = operand(&mut rest, dot, scope)?;
            if !rest.is_empty() || piped.is_some() {
                bail!("{} is no function", printed(&value));
            }
            return Ok(value);
        }
    };
    let mut arguments = Vec::new();
    while !rest.is_empty() {
        arguments.push(operand(&mut rest, dot, scope)?);
    }
    arguments.extend(piped);
    function(name, &arguments)
}

fn operand(words: &mut &[Word], dot: &Value, scope: &Scope<'_>) -> Result<Value> {
    let Some((word, rest)) = words.split_first() else { bail!("a value is missing") };
    *words = rest;
    match word {
        Word::Field(path) => field(dot, path),
        Word::Variable(name, path) if name.is_empty() => field(scope.root, path),
        Word::Variable(name, path) => match scope.variables.iter().rev().find(|(known, _)| known == name) {
            Some((_, value)) => field(value, path),
            None => bail!("there is no variable ${name}"),
        },
        Word::Text(text) => Ok(Value::from(text.as_str())),
        Word::Number(number) => Ok(Value::from(*number)),
        Word::Name(name) if name == "true" || name == "false" => Ok(Value::from(name == "true")),
        Word::Name(name) if name == "nil" => Ok(Value::Null),
        Word::Open => {
            let mut depth = 1;
            let end = rest.iter().position(|word| {
                depth += i32::from(*word == Word::Open) - i32::from(*word == Word::Close);
                depth == 0
            });
            let Some(end) = end else { bail!("a ) is missing") };
            *words = &rest[end + 1..];
            let value = pipeline(&rest[..end], dot, scope)?;
            let Some((Word::Of(path), rest)) = words.split_first() else { return Ok(value) };
            *words = rest;
            field(&value, path)
        }
        Word::Name(name) => function(name, &[]),
        other => bail!("unexpected {other:?}"),
    }
}

fn field(value: &Value, path: &[String]) -> Result<Value> {
    let mut value = value;
    for name in path {
        value = match value {
            Value::Object(map) => match map.get(name) {
                Some(value) => value,
                None => {
                    let known: Vec<&str> = map.keys().map(String::as_str).collect();
                    bail!("there is no \"{name}\"; there is: {}", known.join(", "))
                }
            },
            // As Go does for a field of a missing map.
            Value::Null => return Ok(Value::Null),
            other => bail!("there is no \"{name}\" in {}", printed(other)),
        };
    }
    Ok(value.clone())
}

fn function(name: &str, arguments: &[Value]) -> Result<Value> {
    let text = |value: &Value| printed(value);
    Ok(match (name, arguments) {
        ("json", [value]) => Value::from(serde_json::to_string(value)?),
        ("len", [Value::Array(items)]) => Value::from(items.len()),
        ("len", [Value::Object(map)]) => Value::from(map.len()),
        ("len", [Value::String(text)]) => Value::from(text.len()),
        ("len", [Value::Null]) => Value::from(0),
        ("index", [value, keys @ ..]) => {
            let mut value = value.clone();
            for key in keys {
                value = indexed(&value, key)?;
            }
            value
        }
        ("join", [Value::Array(items), Value::String(separator)]) => {
            Value::from(items.iter().map(text).collect::<Vec<_>>().join(separator))
        }
        ("join", [Value::Null, Value::String(_)]) => Value::from(""),
        ("split", [Value::String(text), Value::String(separator)]) => {
            Value::from(text.split(separator.as_str()).collect::<Vec<_>>())
        }
        ("lower", [value]) => Value::from(text(value).to_lowercase()),
        ("upper", [value]) => Value::from(text(value).to_uppercase()),
        ("print", values) => Value::from(values.iter().map(text).collect::<Vec<_>>().join(" ")),
        ("println", values) => Value::from(values.iter().map(text).collect::<Vec<_>>().join(" ") + "\n"),
        ("not", [value]) => Value::from(!is_true(value)),
        ("and", [first, .., last]) => if is_true(first) { last } else { first }.clone(),
        ("or", [first, .., last]) => if is_true(first) { first } else { last }.clone(),
        ("eq", [first, others @ ..]) if !others.is_empty() => Value::from(others.contains(first)),
        ("ne", [first, second]) => Value::from(first != second),
        (
            "json" | "len" | "index" | "join" | "split" | "lower" | "upper" | "not" | "and" | "or" | "eq"
            | "ne",
            _,
        ) => {
            bail!("wrong arguments of {name}")
        }
        _ => bail!("there is no function {name}"),
    })
}

fn indexed(value: &Value, key: &Value) -> Result<Value> {
    match (value, key) {
        (Value::Array(items), Value::Number(n)) => {
            let item = n.as_u64().and_then(|n| items.get(usize::try_from(n).ok()?));
            item.cloned().ok_or_else(|| anyhow::anyhow!("index {n} is not in a list of {}", items.len()))
        }
        // As in Go: a map gives the empty value for a missing key.
        (Value::Object(map), Value::String(key)) => {
            Ok(map.get(key).cloned().unwrap_or_else(|| Value::from("")))
        }
        (Value::Null, _) => Ok(Value::from("")),
        _ => bail!("{} has no index {}", printed(value), printed(key)),
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The entries of a map in the order of their keys, as in Go.
fn sorted(map: &serde_json::Map<String, Value>) -> impl Iterator<Item = (&str, &Value)> {
    map.iter().map(|(key, value)| (key.as_str(), value)).collect::<BTreeMap<_, _>>().into_iter()
}

/// A value as Go prints it.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_string(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(printed).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs = sorted(map).map(|(key, value)| format!("{key}:{}", printed(value)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> Value {
        serde_json::json!({
            "Id": "sha256:1", "Size": 12, "RepoTags": ["a:1", "b:2"], "None": null,
            "Config": {"Cmd": ["sh", "-c", "x y"], "Labels": {"b": "2", "a": "1"}, "Env": [], "User": ""},
        })
    }

    #[test]
    fn what_people_type() {
        for (template, expected) in [
            ("plain", "plain"),
            ("{{.Id}}", "sha256:1"),
            ("{{ .Config.Cmd }}", "[sh -c x y]"),
            ("{{json .Config.Cmd}}", r#"["sh","-c","x y"]"#),
            ("{{.Config.Cmd | json}}", r#"["sh","-c","x y"]"#),
            ("{{(index .Config.Labels \"a\")}} {{json (index . \"Config\").Labels.b}}", "1 \"2\""),
            ("{{index .RepoTags 0}}", "a:1"),
            ("{{index .Config.Labels \"b\"}}", "2"),
            ("{{index .Config.Labels \"none\"}}", ""),
            ("{{.Config.Labels}}", "map[a:1 b:2]"),
            ("{{range .RepoTags}}{{println .}}{{end}}", "a:1\nb:2\n"),
            ("{{range $i, $t := .RepoTags}}{{if $i}}, {{end}}{{$t}}{{end}}", "a:1, b:2"),
            ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
            ("{{range .Config.Env}}x{{else}}none{{end}}", "none"),
            ("{{with .Config}}{{.Cmd}} {{$.Id}}{{end}}", "[sh -c x y] sha256:1"),
            ("{{if eq .Id \"sha256:1\"}}one{{else if .Size}}two{{else}}three{{end}}", "one"),
            ("{{if .None}}one{{else if .Size}}two{{else}}three{{end}}", "two"),
            ("{{if and .Id (not .None)}}yes{{end}}", "yes"),
            ("{{join .RepoTags \", \"}} {{len .RepoTags}} {{.Size}}", "a:1, b:2 2 12"),
            ("a {{- /* said */ -}} b {{- .Size -}} c", "ab12c"),
            ("{{\"}}\"}}{{`\"`}}", "}}\""),
            ("{{$n := len .RepoTags}}{{$n}}{{.None}}", "2<no value>"),
            ("{{.Id | upper | printf}}", "!there is no function printf"),
            ("{{.Missing}}", "!there is no \"Missing\"; there is: Id, Size, RepoTags, None, Config"),
            ("{{.Config.Nothing}}", "!there is no \"Nothing\""),
            ("{{.Id", "!no }}"),
            ("{{}}", "!nothing in {{}}"),
            ("{{if .Id}}x", "!no {{end}} for {{if .Id}}"),
            ("{{end}}", "!unexpected {{end}}"),
            ("{{index .RepoTags 2}}", "!index 2 is not in a list of 2"),
            ("{{range .Id}}{{end}}", "!range needs a list"),
            ("{{len 1}}", "!wrong arguments of len"),
            ("{{(.Id}}", "!a ) is missing"),
            ("{{$x}}", "!there is no variable $x"),
            ("{{.Id .Size}}", "!is no function"),
            ("{{#}}", "!unexpected '#'"),
            ("{{\"x}}", "!no }}"),
        ] {
            match (render(template, &value()), expected.strip_prefix('!')) {
                (Ok(text), None) => assert_eq!(text, expected, "{template}"),
                (Err(error), Some(expected)) => {
                    assert!(error.to_string().contains(expected), "{template}: {error}");
                }
                (other, _) => panic!("{template}: {other:?}"),
            }
        }
        let deep = format!("{{{{{}.Id}}}}", "(".repeat(1000));
        assert!(render(&deep, &value()).is_err());
        let deep = "{{if .Id}}".repeat(1000);
        assert!(render(&deep, &value()).expect_err("too deep").to_string().contains("more than 64 blocks"));
    }

    #[test]
    fn noise_is_an_error_or_text() {
        let mut state = 1u32;
        let alphabet = [
            "{{", "}}", ".", "Id", " ", "|", "(", ")", "if", "end", "\"", "`", "$", "x", ":=", "-", "1", ",",
            "é", "\\",
        ];
        for _ in 0..20_000 {
            let mut template = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                template += alphabet[(state >> 24) as usize % alphabet.len()];
            }
            // Neither panics nor hangs.
            let _ = render(&template, &value());
        }
    }

    #[test]
    fn hostile() {
        use crossdock_testkit::hostile::{texts, try_inputs};
        let seeds = texts(&[
            "{{range $i, $e := .Config.Cmd}}{{if $i}},{{else}}{{end}}{{json $e}}{{end}}",
            "{{with index .Config.Labels \"a\"}}{{. | printf \"%q\" | upper}}{{- end -}} x",
            "{{(index .RepoTags 0) | len}}{{join .Config.Cmd \" \"}}{{split .Id \":\"}}{{.None}}{{$.Size}}",
            "{{printf \"%s %d %v %05d\" .Id .Size . 99999999}}{{/* c */}}{{`raw`}}",
        ]);
        let value = value();
        try_inputs("templates", &seeds, |input| {
            if let Ok(text) = render(&String::from_utf8_lossy(input), &value) {
                assert!(text.len() < 64 * 1024 * 1024, "{} bytes", text.len());
            }
        });
    }
}
