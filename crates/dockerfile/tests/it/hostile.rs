//! Damaged Dockerfiles, ignore files, patterns, words and mount options: accepted or refused, in time and
//! without a panic.

use crossdock_dockerfile::ignore::Ignore;
use crossdock_dockerfile::pattern::Pattern;
use crossdock_dockerfile::shell::Lexer;
use crossdock_dockerfile::{Dockerfile, error, instruction, mount, parser, values};
use crossdock_testkit::hostile::{texts, try_inputs};

const DOCKERFILES: [&str; 4] = [
    "# syntax=docker/dockerfile:1\n# escape=\\\nARG A=1\nFROM --platform=$BUILDPLATFORM base:$A AS one\nARG A\nENV B=\"x ${A:-y}\" C='z'\nRUN --mount=type=cache,target=/c,sharing=locked --mount=type=secret,id=s,required=true --network=none \\\n    a && \\\n    # comment\n    b\nCOPY --from=one --chown=1:2 --chmod=u+x,g=rw --exclude=*.o a b /c/\n",
    "FROM scratch\nADD --checksum=sha256:0000000000000000000000000000000000000000000000000000000000000000 https://h/x.tar.gz /\nADD --keep-git-dir=true https://h/r.git#main:d /s\nCOPY <<EOF <<-'E2' /d/\n$x\nEOF\n\ttext\n\tE2\nRUN <<EOF\n#!/bin/sh\necho \"$1\"\nEOF\n",
    "FROM a\nHEALTHCHECK --interval=1h2m3.5s --timeout=10ms --retries=3 CMD [\"a\", \"b\\u0041\"]\nONBUILD COPY . /x\nSHELL [\"/bin/sh\", \"-c\"]\nENTRYPOINT [\"x\"]\nCMD y $Z\nEXPOSE 80/tcp 1-3/udp\nVOLUME [\"/a\", \"b\"]\nUSER a:b\nWORKDIR /a/../b\nSTOPSIGNAL SIGTERM\nLABEL a=b \"c d\"=e\\ f\nMAINTAINER m\n",
    "\u{feff}# check=skip=all;error=true\r\n# escape=`\r\nFROM mcr/x\r\nRUN dir C:\\ `\r\n  && x\r\nCOPY [\"a b\", \"c\\\\d\"]\r\nHEALTHCHECK NONE\r\n",
];

#[test]
fn dockerfiles() {
    try_inputs("dockerfiles", &texts(&DOCKERFILES), |input| {
        let text = String::from_utf8_lossy(input);
        if let Ok(parsed) = parser::parse(input) {
            for node in &parsed.nodes {
                let _ = (node.keyword(), node.dump());
                let _ = instruction::instruction(node, parsed.directives.escape);
            }
        }
        match Dockerfile::parse(input) {
            Ok(file) => {
                let _ = file.stage_index("one", usize::MAX);
            }
            Err(problem) => {
                assert!(!problem.message.is_empty());
                let _ = error::excerpt("Dockerfile", &text, problem.lines, 3);
            }
        }
        let _ = parser::parse_trigger(&text);
    });
}

#[test]
fn ignore_files() {
    let seeds = texts(&[
        "# comment\n*.o\n!keep.o\n**/node_modules\n/a/../b\n[a-z]?\\*\n!**/x/**/y\n.git\n",
        "**\n!src/**\nsrc/**/*.tmp\n",
        "*\n!a[^b-d]e\n",
    ]);
    try_inputs("ignore files", &seeds, |input| {
        let Ok(ignore) = Ignore::parse(input) else { return };
        for path in ["a/b/c.o", "src/deep/er/x.tmp", "aae", "a/a/a/a/a/a/a/a/a/a/a/a/b"] {
            let _ = ignore.excludes(path);
        }
        let head = &input[..input.len().min(300)];
        let _ = (ignore.excludes(head), ignore.may_include_again(), ignore.is_empty());
    });
}

#[test]
fn patterns() {
    let seeds = texts(&["a*b?c[a-z]d\\*", "**/a/**/b", "[^a-c\\]]*[]", "*a*a*a*a*b", "é[ä-ü]"]);
    try_inputs("patterns", &seeds, |input| {
        let subject = &input[..input.len().min(300)];
        for pattern in [Pattern::new(input), Pattern::with_double_star(input)].into_iter().flatten() {
            let _ = pattern.matches("a/b/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac");
            let _ = pattern.matches(subject);
        }
    });
}

#[test]
fn words() {
    let seeds = texts(&[
        "a ${B:-c \"$D\"} 'e $f' g\\ h",
        "${A#*/}${B%%.*}${C/a*/b}${D//x/y}${E:+z}${F:?no}",
        "$A$B \"${A}\" $1 $$",
    ]);
    // Short values, since growth is a matter of the limits on expansion.
    let variables = |name: &str| (name.len() < 2).then(|| format!("v/{name}.x"));
    try_inputs("words", &seeds, |input| {
        let input = String::from_utf8_lossy(input);
        for escape in ['\\', '`'] {
            let _ = Lexer::new(escape).expand(&input, &variables, &Default::default());
        }
    });
}

#[test]
fn mounts_and_values() {
    let seeds = texts(&[
        "type=cache,id=a,target=/x,sharing=locked,mode=0755,uid=1,gid=2,from=s,source=/y",
        "type=bind,\"src=a,b\",dst=/c,rw=true,readonly",
        "type=tmpfs,target=/t,size=10m",
        "type=secret,id=a,env=B,required=true,mode=0400",
        "type=ssh,id=default,target=/s",
        "1h2m3.5s",
        "9223372036ms",
        "512MiB",
    ]);
    try_inputs("mounts", &seeds, |input| {
        let input = String::from_utf8_lossy(input);
        let _ = (mount::parse(&input), values::csv(&input), values::bytes(&input));
        let _ = (instruction::duration_ns(&input), parser::heredoc_of_word(&input, '\\'));
        let _ = error::suggestion(&input, &["RUN", "COPY", "ENTRYPOINT"]);
    });
}
