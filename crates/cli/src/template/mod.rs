//! `--format`: Go's template language (package text/template) with docker's functions, for values of JSON.
//!
//! `{{.Config.Cmd}}`, `{{json .}}`, `{{index .RepoTags 0}}`, `{{range .Config.Env}}{{println .}}{{end}}`,
//! `{{printf "%.12s" .Id}}` and all the rest of the language. Beyond Go, objects of JSON can be indexed and
//! ranged over like maps, since docker has a map for some of them.

mod execute;
mod format;
mod function;
mod lexer;
mod tree;
mod value;

use anyhow::Result;

pub use value::{Nil, Value};

/// Fills a template with a value.
///
/// # Errors
///
/// The template is not well-formed, or names what the value lacks.
pub fn render(template: &str, value: &Value) -> Result<String> {
    execute::fill(&tree::Template::parse(template)?, value, false)
}

/// Whether a text is a template, whatever it is filled with.
///
/// # Errors
///
/// It is not.
pub fn check(template: &str) -> Result<()> {
    tree::Template::parse(template).map(|_| ())
}

/// The head of a table: as [`render`], but docker's functions leave the titles as they are.
///
/// # Errors
///
/// As of [`render`].
pub fn render_head(template: &str, titles: &Value) -> Result<String> {
    execute::fill(&tree::Template::parse(template)?, titles, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> Value {
        let mut value = Value::of(&serde_json::json!({
            "Id": "sha256:1", "Size": 12, "RepoTags": ["a:1", "b:2"], "None": null,
            "Config": {"Cmd": ["sh", "-c", "x y"], "Labels": {"b": "2", "a": "1"}, "Env": [], "User": ""},
            "Health": {"Interval": 5_000_000_000_u64, "Timeout": 0, "StartPeriod": 5_400_000_000_000_u64,
                "StartInterval": 1_500_000},
            "Rate": 0.25, "On": true, "Noël": "ä<b>&'\"",
        }));
        value.imply("Variant", Value::text(""));
        value.imply("Shell", Value::Nil(Nil::List));
        value.imply("Volumes", Value::Nil(Nil::Map));
        value.imply("Check", Value::Nil(Nil::Pointer));
        value
    }

    /// The results are Go's own.
    #[test]
    fn as_go_does_it() {
        let mut wrong = Vec::new();
        for line in include_str!("go.txt").lines().filter(|line| line.starts_with([' ', '!'])) {
            let (template, expected) = line[1..].split_once('\t').unwrap_or((&line[1..], ""));
            let expected =
                (!line.starts_with('!')).then(|| serde_json::from_str::<String>(expected).expect("JSON"));
            let made = render(template, &value());
            if made.as_ref().ok() != expected.as_ref() {
                wrong.push(format!("{template}\n  expected {expected:?}\n  made     {made:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
            ("{{.Id | upper | sprintf}}", "!there is no function sprintf"),
            ("{{if false}}{{sprintf}}{{end}}", "!there is no function sprintf"),
            (
                "{{.Missing}}",
                "!there is no \"Missing\"; there is: Id, Size, RepoTags, None, Config, Health, Rate",
            ),
            ("{{.Check.Interval}}", "!there is no \"Interval\", since .Check is not set"),
            ("{{range 3}}{{.}}{{end}}", "012"),
            ("{{range 1000000001}}{{end}}", "!range over 1000000001: more than 1000000"),
            ("{{define \"a\"}}{{template \"a\"}}{{end}}{{template \"a\"}}", "!more than 300 blocks"),
            ("{{printf \"%999999999d\" 1}}", "!999999999 is more than 100000"),
            ("{{pad .Id 99999999 0}}", "!99999999 is not between 0 and 65536"),
            ("{{eq .Size \"12\"}}", "!12 and 12 are of different types: int64 and string"),
            ("{{slice .Id 5 99}}", "!slice: 99 is not between 0 and 8"),
            ("{{$a, $b := .RepoTags}}", "!too many variables"),
            ("{{define .Id}}{{end}}", "!a quoted name is missing"),
            ("{{with .None}}{{else with .Id}}{{.}}{{else}}c{{end}}", "sha256:1"),
            ("{{if .Id}}a{{else}}b{{else}}c{{end}}", "!unexpected {{else}} after {{if .Id}}"),
            (
                "{{index . \"Config\" \"User\"}}{{range $k, $v := .Health}}{{$k}} {{end}}",
                "Interval StartInterval StartPeriod Timeout ",
            ),
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
    fn heads_of_tables_stay_as_they_are() {
        let titles = Value::of(&serde_json::json!({"ID": "IMAGE ID", "Tag": "TAG"}));
        let head = |template| render_head(template, &titles).expect("a head");
        assert_eq!(head("{{json .ID}} {{lower .Tag}} {{title .ID}}"), "IMAGE ID TAG IMAGE ID");
        assert_eq!(
            head("{{truncate .ID 3}} {{.ID | upper}} {{printf \"%.2s\" .Tag}}"),
            "IMAGE ID IMAGE ID TA"
        );
    }

    #[test]
    fn noise_is_an_error_or_text() {
        let mut state = 1u32;
        let alphabet = [
            "{{", "}}", ".", "Id", " ", "|", "(", ")", "if", "end", "else", "range", "with", "printf",
            "template", "define", "break", "\"", "`", "$", "x", ":=", "-", "1", ",", "é", "\\",
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
