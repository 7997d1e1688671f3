//! The recipes for CI services in `examples/ci`: the guide shows them as they are, and their commands work.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crossdock_testkit::foreign::{self, Cpu};

use crate::buildkit::buildx;
use crate::support::{Ran, Registry, World, our_emulator, require};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/ci")
}

fn recipe(name: &str) -> String {
    fs::read_to_string(examples().join(name)).expect("a recipe")
}

/// The commands of a recipe in their order: the values of `run`, and the items of the lists whose names are
/// given.
fn commands(recipe: &str, lists: &[&str]) -> String {
    let mut script = String::new();
    // The indentation of the key whose lines are commands, and whether they are items of a list.
    let mut inside: Option<(usize, bool)> = None;
    for line in recipe.lines() {
        let indentation = line.len() - line.trim_start().len();
        let text = line.trim_start();
        match inside {
            Some((above, is_list)) if indentation > above => {
                let text = if is_list { text.strip_prefix("- ").expect("an item of a list") } else { text };
                script.push_str(text);
                script.push('\n');
                continue;
            }
            _ => inside = None,
        }
        if let Some(command) = text.strip_prefix("run: ") {
            match command {
                "|" => inside = Some((indentation, false)),
                command => script.push_str(&format!("{command}\n")),
            }
        } else if text.strip_suffix(':').is_some_and(|key| lists.contains(&key)) {
            inside = Some((indentation, true));
        }
    }
    script
}

#[test]
fn the_guide_shows_the_recipes() {
    for (directory, page, expected) in [("", "ci.md", 4), ("buildx", "buildx.md", 3)] {
        let guide = fs::read_to_string(examples().join("../../docs/guide").join(page)).expect("the page");
        let entries = fs::read_dir(examples().join(directory)).expect("the recipes");
        let files = entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file());
        let mut count = 0;
        for path in files {
            let text = fs::read_to_string(&path).expect("a recipe");
            assert!(
                guide.contains(&format!("```yaml\n{text}```\n")),
                "{} differs from the guide's",
                path.display()
            );
            count += 1;
        }
        assert_eq!(count, expected);
    }
}

#[test]
fn the_commands_of_the_recipes_build_test_and_push() {
    for (name, lists) in [
        ("github.yml", &[][..]),
        ("gitlab.yml", &["before_script", "script"]),
        ("woodpecker.yml", &["commands"]),
        ("travis.yml", &["install", "script", "after_success"]),
    ] {
        let place = Place::new();
        let image = place.registry.image("team/app:1");
        let ran = place.run(&commands(&recipe(name), lists), &image);
        assert_eq!(ran.code, Some(0), "{name}: {}\n{}", ran.out, ran.err);
        // Each program prints its argv[0]: once on each platform.
        let outputs = ran.out.replace(&image, "");
        assert_eq!(outputs.matches("/app").count(), 3, "{name}: {}", ran.out);
        place.has_all_platforms(&image);
    }
}

#[test]
fn the_commands_of_the_recipes_for_buildx_build_and_push() {
    for (name, lists) in [
        ("buildx/github.yml", &[][..]),
        ("buildx/gitlab.yml", &["before_script", "script"]),
        ("buildx/woodpecker.yml", &["commands"]),
    ] {
        let place = Place::new();
        let image = place.registry.image("team/app:1");
        // The client of docker is there as the recipes find it; logins are kept in the same file.
        let docker = format!(
            "#!/bin/sh\ncase $1 in buildx) shift; exec {} \"$@\";; *) exec {} \"$@\";; esac\n",
            buildx().display(),
            env!("CARGO_BIN_EXE_crossdock")
        );
        place.world.file_mode("../fake/docker", &docker, 0o755);
        let mut script = commands(&recipe(name), lists);
        script.push_str(&actions(&recipe(name), &place, &image));
        // One command of the recipe stays in the background: the server.
        let ran = place.run(&format!("trap 'kill $!' EXIT\n{script}"), &image);
        assert_eq!(ran.code, Some(0), "{name}: {}\n{}", ran.out, ran.err);
        place.has_all_platforms(&image);
    }
}

/// The commands that stand for docker's actions in a workflow.
fn actions(recipe: &str, place: &Place, image: &str) -> String {
    let registry = image.split('/').next().expect("a registry");
    let mut script = String::new();
    for step in recipe.split("- uses: docker/").skip(1) {
        let parameter = |name: &str| {
            let line = step.lines().find_map(|line| line.trim().strip_prefix(&format!("{name}: ")));
            line.expect("a parameter").to_string()
        };
        let command = match step.split('@').next().expect("a name") {
            "setup-buildx-action" => {
                let endpoint = parameter("endpoint").replace("${{ runner.temp }}", &place.world.text("home"));
                format!("docker buildx create --use --name ci --driver {} {endpoint}\n", parameter("driver"))
            }
            "login-action" => {
                assert_eq!((parameter("registry").as_str(), registry.is_empty()), ("ghcr.io", false));
                format!("echo \"$REGISTRY_PASSWORD\" | docker login -u ci --password-stdin {registry}\n")
            }
            "build-push-action" => {
                assert_eq!(
                    (parameter("push"), parameter("tags")),
                    ("true".into(), "${{ env.IMAGE }}".into())
                );
                let (platforms, context) = (parameter("platforms"), parameter("context"));
                format!("docker buildx build --platform {platforms} --push -t {image} {context}\n")
            }
            other => panic!("the test does not know the action {other}"),
        };
        script.push_str(&command);
    }
    script
}

/// What a recipe finds: a context, a registry with a user, the archive of crossdock.
struct Place {
    world: World,
    registry: Registry,
}

impl Place {
    fn new() -> Place {
        let world = World::with_base();
        world.file("users", registry_users(&world));
        let registry = Registry::with(&world, &["--users", &world.text("context/users")]);
        for (architecture, cpu) in [("arm64", Cpu::Arm64), ("arm", Cpu::Arm)] {
            world.file_mode(&format!("app-{architecture}"), foreign::hello_and_exit(cpu, 0), 0o755);
        }
        world.file(
            "Dockerfile",
            "FROM base AS amd64\nRUN printf '#!/bin/sh\\necho $0' > /app && chmod 755 /app\n\
             FROM scratch AS arm64\nCOPY app-arm64 /app\nFROM scratch AS arm\nCOPY app-arm /app\nFROM $TARGETARCH\n",
        );
        // What the recipe asks of the machine around it is not changed by a test.
        for program in ["sudo", "apt-get", "apk"] {
            world.file_mode(&format!("../fake/{program}"), "#!/bin/sh\n", 0o755);
        }
        Place { world, registry }
    }

    /// Runs the commands of a recipe.
    fn run(&self, commands: &str, image: &str) -> Ran {
        let world = &self.world;
        let path = format!(
            "{}:{}:{}",
            world.text("fake"),
            world.text("home/crossdock/bin"),
            std::env::var("PATH").unwrap_or_default()
        );
        require("curl", "curl");
        let ran = Command::new("sh")
            .args(["-c", &format!("set -e\n{commands}")])
            .current_dir(world.path("context"))
            .env("PATH", path)
            .env("HOME", world.path("home"))
            .env("CROSSDOCK_ROOT", world.store())
            .env("GITHUB_PATH", world.path("github_path"))
            .env("RUNNER_TEMP", world.path("home"))
            .env("CROSSDOCK_URL", format!("file://{}", archive(world).display()))
            .env("IMAGE", image)
            .env("REGISTRY_USER", "ci")
            .env("REGISTRY_PASSWORD", "secret of ci")
            .env_remove("DOCKER_CONFIG")
            .env_remove("REGISTRY_AUTH_FILE")
            .output()
            .expect("sh runs");
        let ran = Ran::from(ran);
        assert!(!ran.err.contains("secret of ci") && !ran.out.contains("secret of ci"), "{}", ran.err);
        ran
    }

    #[track_caller]
    fn has_all_platforms(&self, image: &str) {
        let home = self.world.text("home");
        let manifest = self.world.crossdock(&["manifest", "inspect", image]).env("HOME", &home).run().ok();
        for architecture in ["amd64", "arm64", "arm"] {
            assert!(manifest.contains(&format!("\"architecture\": \"{architecture}\"")), "{manifest}");
        }
    }
}

/// A file of users, with the user of the recipes.
fn registry_users(world: &World) -> String {
    world.crossdock(&["registry", "htpasswd", "ci"]).input(b"secret of ci\n").ok()
}

/// The archive of both executables, laid out as `cargo xtask dist` does.
fn archive(world: &World) -> PathBuf {
    let top = world.path("dist/crossdock-0.0.0-x86_64-linux/bin");
    fs::create_dir_all(&top).expect("a directory");
    for program in [Path::new(env!("CARGO_BIN_EXE_crossdock")), our_emulator()] {
        let place = top.join(program.file_name().expect("a name"));
        std::os::unix::fs::symlink(program, place).expect("a link");
    }
    let path = world.path("crossdock.tar.gz");
    let made = Command::new("tar")
        .args(["-chzf"])
        .arg(&path)
        .arg("-C")
        .arg(world.path("dist"))
        .arg("crossdock-0.0.0-x86_64-linux")
        .status();
    assert!(made.expect("tar runs").success());
    path
}
