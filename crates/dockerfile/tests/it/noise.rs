//! Bytes that are not a Dockerfile give an error with lines, never a panic or a hang.

use crossdock_dockerfile::Dockerfile;
use crossdock_dockerfile::ignore::Ignore;

/// A small linear congruential generator, so that a failure can be repeated from its seed.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }
}

#[test]
fn binary_noise_is_refused() {
    for seed in 0..200 {
        let mut noise = Noise(seed);
        let bytes: Vec<u8> = (0..noise.next() % 2000).map(|_| noise.next() as u8).collect();
        assert!(Dockerfile::parse(&bytes).is_err(), "seed {seed}");
    }
}

#[test]
fn shuffled_dockerfiles_do_not_panic() {
    let pieces = [
        "FROM a",
        " AS b",
        "\n",
        "RUN ",
        "--mount=",
        "type=cache",
        ",",
        "target=/x",
        "<<EOF",
        "EOF",
        "\\",
        "`",
        "\"",
        "'",
        "${",
        "}",
        "$A",
        ":-",
        "COPY ",
        "--from=",
        "[",
        "]",
        "\"a\"",
        "ENV a=b",
        "ONBUILD ",
        "HEALTHCHECK ",
        "--interval=5s",
        "CMD ",
        "#",
        "escape=`",
        "\u{feff}",
        "é",
        "\t",
        "ARG x",
        "LABEL ",
        "=",
        "--",
        "/",
    ];
    let mut accepted = 0;
    for seed in 0..5000 {
        let mut noise = Noise(seed);
        let text: String =
            (0..noise.next() % 40).map(|_| pieces[noise.next() as usize % pieces.len()]).collect();
        let with_stage = format!("FROM x\n{text}");
        accepted += usize::from(Dockerfile::parse(with_stage.as_bytes()).is_ok());
        if let Err(error) = Dockerfile::parse(with_stage.as_bytes()) {
            assert!(
                !error.message.is_empty() && error.lines.end <= with_stage.lines().count(),
                "seed {seed}: {error:?}"
            );
        }
        let _ = Ignore::parse(&text).map(|i| i.excludes("a/b"));
    }
    assert!(accepted > 0, "the pieces never form a valid file");
}
