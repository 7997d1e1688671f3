//! Remote contexts and sources of ADD: Git repositories, archives and Dockerfiles by http.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use crossdock_testkit::LayerTar;

use crate::support::{Ran, World, eventually, grep, require};

#[track_caller]
pub fn git(directory: &Path, args: &[&str]) -> String {
    let mut command = Command::new(require("git", "git"));
    command.arg("-C").arg(directory).args(args).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin");
    command.env("HOME", directory).env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_ALLOW_PROTOCOL", "file");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "t").env(format!("GIT_{who}_EMAIL"), "t@example.invalid");
    }
    Ran::from(command.output().expect("git runs")).ok()
}

/// Starts a static web server for a directory, which runs as long as the test; returns `HOST:PORT`.
pub fn serve(root: PathBuf) -> String {
    serve_to(root, None)
}

/// The same, for requests with this `Authorization` if one is given; others are answered with 401.
pub fn serve_to(root: PathBuf, authorization: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut lines = BufReader::new(stream.try_clone().expect("a copy")).lines();
            let request = lines.next().and_then(Result::ok).unwrap_or_default();
            let mut is_allowed = authorization.is_none();
            while let Some(line) = lines.next().and_then(Result::ok).filter(|line| !line.is_empty()) {
                is_allowed |= line.split_once(": ").is_some_and(|(name, value)| {
                    let given = value.replacen("Basic", "basic", 1);
                    name.eq_ignore_ascii_case("authorization") && Some(&*given) == authorization
                });
            }
            let path = request.split([' ', '?']).nth(1).unwrap_or_default().trim_start_matches('/');
            let (status, body) = match fs::read(root.join(path)) {
                _ if !is_allowed => ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"r\"", Vec::new()),
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    address
}

/// `git daemon`, stopped when dropped.
struct Daemon {
    child: std::process::Child,
    address: String,
}

impl Daemon {
    fn start(base: &Path) -> Daemon {
        // git daemon cannot choose a free port and report it.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        drop(listener);
        // git-daemon itself, since "git daemon" would leave it behind when killed.
        let programs = git(base, &["--exec-path"]);
        let child = Command::new(Path::new(programs.trim()).join("git-daemon"))
            .args(["--reuseaddr", "--export-all", "--listen=127.0.0.1"])
            .arg(format!("--port={}", address.port()))
            .arg(format!("--base-path={}", base.display()))
            .env("HOME", base)
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("git daemon starts");
        eventually("git daemon", || std::net::TcpStream::connect(address).is_ok());
        Daemon { child, address: address.to_string() }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A world with the bare repository `served/app.git`. It has the branches `main` and `other`, a tag `v1` at
/// the first commit, a directory `sub` with a Dockerfile of its own, a link that leads out, and a submodule.
pub struct Repository {
    pub world: World,
    first: String,
}

impl Repository {
    pub fn new() -> Repository {
        let world = World::with_base();
        let (work, module) = (world.path("work"), world.path("module"));
        for directory in [&work, &module, &world.path("served")] {
            fs::create_dir(directory).expect("a directory");
        }
        let write = |path: &str, text: &str| {
            let path = work.join(path);
            fs::create_dir_all(path.parent().expect("below")).expect("a directory");
            fs::write(path, text).expect("a file");
        };
        git(&module, &["init", "-q", "-b", "main"]);
        fs::write(module.join("m"), "module\n").expect("a file");
        git(&module, &["add", "."]);
        git(&module, &["commit", "-q", "-m", "m"]);
        git(&work, &["init", "-q", "-b", "main"]);
        write("Dockerfile", "FROM base\nCOPY . /src\n");
        write("sub/Dockerfile", "FROM base\nCOPY f /sub\n");
        write("sub/f", "first\n");
        std::os::unix::fs::symlink("/etc", work.join("out")).expect("a link");
        git(&work, &["add", "."]);
        git(&work, &["commit", "-q", "-m", "1"]);
        git(&work, &["tag", "v1"]);
        let first = git(&work, &["rev-parse", "HEAD"]).trim().to_string();
        write("sub/f", "second\n");
        git(&work, &["commit", "-q", "-a", "-m", "2"]);
        git(&work, &["checkout", "-q", "-b", "other"]);
        write("sub/f", "other\n");
        let url = format!("file://{}", module.display());
        git(&work, &["-c", "protocol.file.allow=always", "submodule", "--quiet", "add", &url, "mod"]);
        git(&work, &["commit", "-q", "-a", "-m", "3"]);
        git(&work, &["checkout", "-q", "main"]);
        let bare = world.path("served/app.git");
        git(&work, &["clone", "-q", "--bare", ".", bare.to_str().expect("UTF-8")]);
        git(&bare, &["update-server-info"]);
        world.give();
        Repository { world, first }
    }

    /// Builds with an address as the context.
    fn build(&self, context: &str, args: &[&str]) -> Ran {
        self.world.run(&[&["build", "--progress", "plain", "-t", "t"], args, &[context]].concat())
    }
}

#[test]
fn contexts_are_repositories() {
    let repository = Repository::new();
    let world = &repository.world;
    let daemon = Daemon::start(&world.path("served"));
    let addresses = [
        format!("file://{}", world.path("served/app.git").display()),
        format!("git://{}/app.git", daemon.address),
        format!("http://{}/app.git", serve(world.path("served"))),
    ];
    for address in &addresses {
        let of = |rest: &str, script: &str| {
            repository.build(&format!("{address}{rest}"), &["--no-cache"]).ok();
            world.sh("t", script)
        };
        assert_eq!(of("", "cat /src/sub/f; ls -A /src"), "second\nDockerfile\nout\nsub\n");
        assert_eq!(of("#v1", "cat /src/sub/f"), "first\n");
        assert_eq!(of("#v1:sub", "cat /sub"), "first\n");
        assert_eq!(of(&format!("#{}:sub", repository.first), "cat /sub"), "first\n");
        assert_eq!(of(&format!("#{}:sub", &repository.first[..10]), "cat /sub"), "first\n");
        assert_eq!(of(&format!("?ref=v1&commit={}&subdir=sub", repository.first), "cat /sub"), "first\n");
    }
    // No temporary files stay.
    assert_eq!(fs::read_dir(world.path("store/tmp")).expect("a directory").count(), 0);
    let local = &addresses[0];
    repository.build(&format!("{local}#other"), &[]).ok();
    assert_eq!(world.sh("t", "cat /src/mod/m; ls -A /src/mod"), "module\nm\n");
    repository.build(local, &["--build-arg", "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1"]).ok();
    assert_eq!(world.sh("t", "test -d /src/.git && echo kept"), "kept\n");
    repository.build(&format!("{local}#main"), &["-f", "sub/Dockerfile"]).fails_with(&["\"f\"", "not found"]);

    repository.build(&format!("{local}#missing"), &[]).fails_with(&["app.git", "missing"]);
    repository.build(&format!("{local}#:nowhere"), &[]).fails_with(&["directory \"nowhere\" of commit"]);
    repository.build(&format!("{local}#:out"), &[]).fails_with(&["leads out of the repository"]);
    let wrong = format!("{local}?commit=0123456789");
    repository.build(&wrong, &[]).fails_with(&["0123456789"]);
    repository
        .build(&format!("{local}?ref=v1&commit=0123456789"), &[])
        .fails_with(&["expected checksum to match 0123456789"]);
    let gone = "http://u:hunter22@127.0.0.1:9/a.git";
    let error = repository.build(gone, &[]).fails(1);
    assert!(error.contains("127.0.0.1:9/a.git") && !error.contains("hunter22"), "{error}");
}

/// `x-access-token:hunter2`, as RFC 7617 wants it.
pub const BASIC: &str = "basic eC1hY2Nlc3MtdG9rZW46aHVudGVyMg==";

#[test]
fn secrets_open_private_repositories() {
    let repository = Repository::new();
    let world = &repository.world;
    let host = serve_to(world.path("served"), Some(BASIC));
    let address = format!("http://{host}/app.git#main");
    let build = |context: &str, secrets: &[&str]| {
        let secrets = secrets.iter().flat_map(|secret| ["--secret", secret]).collect::<Vec<_>>();
        let args = [&["build", "--progress", "plain", "-t", "t"], &secrets[..], &[context]].concat();
        let command = world.crossdock(&args).env("TOKEN", "hunter2").env("HEADER", BASIC);
        command.env("WRONG", "hunter3").run()
    };
    let own = format!("id=GIT_AUTH_TOKEN.{host},env=TOKEN");
    for secrets in [
        &["id=GIT_AUTH_TOKEN,env=TOKEN"][..],
        &["id=GIT_AUTH_HEADER,env=HEADER"],
        &["id=GIT_AUTH_HEADER,env=HEADER", "id=GIT_AUTH_TOKEN,env=WRONG"],
        &[&own, "id=GIT_AUTH_HEADER,env=WRONG"],
    ] {
        build(&address, secrets).ok();
        assert_eq!(world.sh("t", "cat /src/sub/f"), "second\n", "{secrets:?}");
    }
    let refused = build(&address, &[]);
    refused.fails_with(&["git fetch failed", "--secret id=GIT_AUTH_TOKEN"]);
    let refused = build(&address, &["id=GIT_AUTH_TOKEN,env=WRONG"]);
    assert!(!refused.err.contains("hunter3"), "{}", refused.err);
    refused.fails_with(&["git fetch failed", "does not open the repository"]);
    let open = build("http://git.example.invalid/app.git", &["id=GIT_AUTH_TOKEN,env=TOKEN"]);
    open.fails_with(&["secret GIT_AUTH_TOKEN is not sent to http://git.example.invalid without encryption"]);

    // A Dockerfile's repositories, too.
    world.file("Dockerfile", format!("FROM base\nADD {address}:sub /sub\n"));
    build(&world.text("context"), &["id=GIT_AUTH_TOKEN,env=TOKEN"]).ok();
    assert_eq!(world.sh("t", "cat /sub/f"), "second\n");
    let shown =
        ["hunter2", "eC1hY2Nlc3MtdG9rZW46aHVudGVyMg"].map(|text| grep(&world.store(), text.as_bytes()));
    assert_eq!(shown, [Vec::<PathBuf>::new(), Vec::new()]);
}

/// Answers all requests with this head, and keeps what they say.
fn answer_all(address: &str, head: impl Fn(&str) -> String + Send + 'static) -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind(address).expect("a free port");
    let address = listener.local_addr().expect("bound").to_string();
    let heard: Arc<Mutex<String>> = Arc::default();
    let hears = heard.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let lines = BufReader::new(stream.try_clone().expect("a copy")).lines().map_while(Result::ok);
            let said: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            hears.lock().expect("no panic").push_str(&said.join("\n"));
            let path = said.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
            let head = head(path);
            let head = format!("HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
        }
    });
    (address, heard)
}

#[test]
fn a_redirect_takes_no_secret_to_another_host() {
    let repository = Repository::new();
    let wants = |_: &str| "401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"r\"".to_string();
    let (other, heard) = answer_all("127.0.0.2:0", wants);
    let (first, _) =
        answer_all("127.0.0.1:0", move |path| format!("302 Found\r\nLocation: http://{other}{path}"));
    let build = |secret: &str, address: &str| {
        let args = ["build", "--progress", "plain", "-t", "t", "--secret", secret, address];
        repository.world.crossdock(&args).env("TOKEN", "hunter2").env("HEADER", BASIC).run()
    };
    let address = format!("http://{first}/app.git");
    build("id=GIT_AUTH_TOKEN,env=TOKEN", &address).fails_with(&["git fetch failed"]);
    let said = heard.lock().expect("no panic").clone();
    assert!(said.contains("GET /app.git") && !said.to_lowercase().contains("authorization"), "{said}");
    build("id=GIT_AUTH_HEADER,env=HEADER", &address)
        .fails_with(&["redirects to another address, which does not get the secret"]);
    assert_eq!(*heard.lock().expect("no panic"), said);

    // On its own host, the address may be another one.
    let host = serve_to(repository.world.path("served"), Some(BASIC));
    let moved = host.clone();
    let (moved, _) =
        answer_all("127.0.0.1:0", move |path| format!("302 Found\r\nLocation: http://{moved}{path}"));
    let own = format!("id=GIT_AUTH_TOKEN.{host},env=TOKEN");
    build(&own, &format!("http://{host}/app.git#main")).ok();
    build(&own, &format!("http://{moved}/app.git#main")).fails_with(&["git fetch failed"]);
}

#[test]
fn submodules_may_lie_beside_the_repository() {
    let repository = Repository::new();
    let world = &repository.world;
    let work = world.path("work");
    let served = world.path("served");
    let module = served.join("lib.git");
    git(&world.path("module"), &["clone", "-q", "--bare", ".", module.to_str().expect("UTF-8")]);
    git(&module, &["update-server-info"]);
    let commit = git(&module, &["rev-parse", "HEAD"]);
    git(&work, &["checkout", "-q", "-b", "beside"]);
    fs::write(work.join(".gitmodules"), "[submodule \"lib\"]\n\tpath = lib\n\turl = ../lib.git\n")
        .expect("a file");
    git(&work, &["add", ".gitmodules"]);
    git(&work, &["update-index", "--add", "--cacheinfo", &format!("160000,{},lib", commit.trim())]);
    git(&work, &["commit", "-q", "-m", "4"]);
    let bare = served.join("beside.git");
    git(&work, &["clone", "-q", "--bare", ".", bare.to_str().expect("UTF-8")]);
    git(&bare, &["update-server-info"]);
    world.give();
    let address = format!("http://{}/beside.git", serve(served));
    repository.build(&format!("{address}#beside"), &[]).ok();
    assert_eq!(world.sh("t", "cat /src/lib/m"), "module\n");
    // A repository that is kept knows where it comes from, but no password.
    let with_password = address.replace("http://", "http://me:hunter2@");
    world.file("Dockerfile", format!("FROM base\nADD --keep-git-dir {with_password}#beside /r\n"));
    repository.build(&world.text("context"), &[]).ok();
    let config = world.sh("t", "cat /r/.git/config");
    assert!(config.contains("/beside.git") && !config.contains("hunter2"), "{config}");
}

#[test]
fn an_agent_that_is_given_opens_repositories() {
    let world = World::with_base();
    let (socket, seen) = (world.text("agent"), world.text("seen"));
    let _agent = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    world.give();
    let ssh = format!("echo \"$SSH_AUTH_SOCK\" > {seen}; false");
    let args = ["build", "--ssh", &format!("default={socket}"), "ssh://git@localhost/a.git"];
    world.crossdock(&args).env("GIT_SSH_COMMAND", &ssh).run().fails_with(&["git fetch failed"]);
    assert_eq!(fs::read_to_string(&seen).expect("written").trim(), socket);
}

#[test]
fn named_contexts_and_add_take_repositories() {
    let repository = Repository::new();
    let world = &repository.world;
    let daemon = Daemon::start(&world.path("served"));
    let address = format!("git://{}/app.git", daemon.address);
    let named = format!("src={address}#v1:sub");
    world.build("FROM base\nCOPY --from=src f /f\n", &["-t", "t", "--build-context", &named]).ok();
    assert_eq!(world.sh("t", "cat /f"), "first\n");

    let dockerfile = format!(
        "FROM base\nARG TAG=v1\nADD {address} /all\nADD --chown=ann --exclude=Dockerfile {address}#$TAG:sub /sub\nADD --keep-git-dir --checksum={} {address}#v1 /git\n",
        repository.first
    );
    let script = "cat /all/sub/f; ls -A /sub; stat -c %u /sub/f; test -d /git/.git && cat /git/sub/f";
    assert_eq!(world.build_and_sh(&dockerfile, script), "second\nf\n1000\nfirst\n");
    assert_eq!(world.build(&dockerfile, &["-t", "t"]).executed(), [""; 0], "known by content or commit");
    // A Dockerfile cannot name repositories of this machine.
    let local = format!("file://{}", world.path("served/app.git").display());
    world
        .build(&format!("FROM base\nADD {local} /x\n"), &[])
        .fails_with(&["Dockerfile:2", "of this machine"]);
    let wrong = format!("FROM base\nADD --checksum=0123456789 {address}#v1 /x\n");
    world.build(&wrong, &[]).fails_with(&["Dockerfile:2", "expected checksum to match 0123456789"]);
    world.build(&format!("FROM base\nADD {address}#:Dockerfile /x\n"), &[]).fails_with(&["not a directory"]);
    world
        .build(&format!("FROM base\nADD {address}#--upload-pack=x /x\n"), &[])
        .fails_with(&["must not begin with"]);
}

#[test]
fn without_git_it_says_what_to_install() {
    let world = World::with_base();
    let nothing = world.text("run");
    let built = world.crossdock(&["build", "https://example.invalid/a.git"]).env("PATH", &nothing).run();
    built.fails_with(&["git is not installed", "apt-get install git"]);
}

#[test]
fn contexts_are_archives_and_dockerfiles_by_http() {
    let world = World::with_base();
    let address = serve(world.path("context"));
    let archive =
        LayerTar::new().file("Dockerfile", "FROM base\nCOPY f /f\n").file("f", "by http\n").finish();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&archive).expect("in memory");
    world.file("a.tar", &archive).file("a.tar.gz", gz.finish().expect("in memory"));
    world.file("Dockerfile.txt", "FROM base\nRUN echo alone > /f\n").file("copies", "FROM base\nCOPY f /\n");
    for (name, expected) in [("a.tar", "by http\n"), ("a.tar.gz", "by http\n"), ("Dockerfile.txt", "alone\n")]
    {
        world.run(&["build", "-t", "t", &format!("http://{address}/{name}")]).ok();
        assert_eq!(world.sh("t", "cat /f"), expected, "{name}");
    }
    world.run(&["build", &format!("http://{address}/copies")]).fails_with(&["no build context"]);
    world.run(&["build", &format!("http://{address}/none")]).fails_with(&["404", "/none"]);
    world.run(&["build", "ftp://h/x"]).fails_with(&["ftp://h/x", "Git repository"]);
    let named = format!("src=http://{address}/a.tar.gz");
    world.build("FROM base\nCOPY --from=src f /g\n", &["-t", "t", "--build-context", &named]).ok();
    assert_eq!(world.sh("t", "cat /g"), "by http\n");
}

#[test]
fn a_prune_leaves_the_files_of_a_running_build() {
    let world = World::with_base();
    let archive = LayerTar::new()
        .file("Dockerfile", "FROM base\nRUN echo begun && sleep 1\nCOPY f /f\n")
        .file("f", "still there\n")
        .finish();
    world.file("a.tar", &archive);
    let address = serve(world.path("context"));
    let args = ["build", "--progress", "plain", "-t", "t", &format!("http://{address}/a.tar")];
    let mut build = world.crossdock(&args).start();
    build.until_err(" begun");
    world.run(&["system", "prune", "-f"]).ok();
    build.finish().ok();
    assert_eq!(world.sh("t", "cat /f"), "still there\n");
}
