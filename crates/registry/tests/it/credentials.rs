//! Files and helpers that keep credentials.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crossdock_registry::{Credential, Credentials, Environment, Error, Secret};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::script;

struct Home(TempDir);

impl Home {
    fn new() -> Home {
        Home(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("below home")).expect("made");
        std::fs::write(path, text).expect("written");
    }

    fn environment(&self) -> Environment {
        Environment {
            home: Some(self.0.path().to_path_buf()),
            path: Some(format!("{}:/usr/bin:/bin", self.path("bin").display()).into()),
            xdg_runtime_dir: Some(self.path("run")),
            ..Environment::default()
        }
    }

    fn credentials(&self) -> Credentials {
        Credentials::from_environment(&self.environment())
    }

    /// A helper that keeps each server's JSON in a file, written in shell.
    fn install_helper(&self) {
        std::fs::create_dir_all(self.path("bin")).expect("made");
        std::fs::create_dir_all(self.path("vault")).expect("made");
        let text = format!(
            r#"#!/bin/sh
cd {} || exit 1
case "$1" in
store) json=$(cat); server=$(printf '%s' "$json" | sed 's/.*"ServerURL":"\([^"]*\)".*/\1/'); printf '%s' "$json" > "$(printf '%s' "$server" | tr / _)" ;;
get) file=$(tr / _); [ -f "$file" ] || {{ echo "credentials not found in native keychain"; exit 1; }}; cat "$file" ;;
erase) rm -f "$(tr / _)" ;;
list) echo '{{"https://index.docker.io/v1/":"hubuser"}}' ;;
esac
"#,
            self.path("vault").display()
        );
        script(&self.path("bin/docker-credential-vault"), &text);
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("there")).expect("JSON")
}

fn found(credentials: &Credentials, registry: &str) -> Option<String> {
    let found = credentials.find(registry, "library/x").expect("readable");
    found.map(|c| match c {
        Credential::Password { username, password } => format!("{username}:{}", password.expose()),
        Credential::IdentityToken(token) => format!("token:{}", token.expose()),
    })
}

#[test]
fn files_are_searched_in_order() {
    let home = Home::new();
    let auth = |user: &str| {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{user}:p:w"));
        format!(r#"{{"auths":{{"r.example":{{"auth":"{text}"}}}}}}"#)
    };
    home.write(".config/containers/auth.json", &auth("config"));
    assert_eq!(found(&home.credentials(), "r.example").as_deref(), Some("config:p:w"));
    home.write("run/containers/auth.json", &auth("runtime"));
    assert_eq!(found(&home.credentials(), "r.example").as_deref(), Some("runtime:p:w"));
    home.write(".docker/config.json", &auth("docker"));
    assert_eq!(found(&home.credentials(), "r.example").as_deref(), Some("docker:p:w"));
    home.write("own/config.json", &auth("own"));
    let mut environment = home.environment();
    environment.docker_config = Some(home.path("own"));
    assert_eq!(found(&Credentials::from_environment(&environment), "r.example").as_deref(), Some("own:p:w"));
    home.write("auth", &auth("file"));
    environment.registry_auth_file = Some(home.path("auth"));
    let credentials = Credentials::from_environment(&environment);
    assert_eq!(found(&credentials, "r.example").as_deref(), Some("file:p:w"));
    assert_eq!(found(&credentials, "other.example"), None);
    assert_eq!(credentials.list().expect("readable"), [("r.example".to_string(), "file".to_string())]);
}

/// Options of a command come before files, for one registry or for all.
#[test]
fn options_come_before_files() {
    let home = Home::new();
    home.write(
        ".docker/config.json",
        r#"{"auths":{"r.example":{"auth":"YTpi"},"s.example":{"auth":"YTpi"}}}"#,
    );
    home.write("mine", r#"{"auths":{"r.example":{"auth":"Yzpk"}}}"#);
    let mine = home.path("mine");
    let both = |credentials: Credentials| {
        ["r.example", "s.example"].map(|registry| found(&credentials, registry).unwrap_or_default())
    };
    assert_eq!(both(home.credentials()), ["a:b", "a:b"]);
    assert_eq!(both(home.credentials().only_from(&mine)), ["c:d", ""]);
    assert_eq!(both(home.credentials().with_file("r.example", &mine)), ["c:d", "a:b"]);
    assert_eq!(both(home.credentials().with_file("s.example", &mine)), ["a:b", ""]);
    assert_eq!(both(home.credentials().without("s.example")), ["a:b", ""]);
    let given = Credential::password("u", "p");
    assert_eq!(both(home.credentials().with("https://r.example/v2/", given)), ["u:p", "a:b"]);
}

#[test]
fn storing_keeps_the_rest_of_the_file() {
    let home = Home::new();
    let before = r#"{"auths":{"old":{"auth":"YTpi"},"https://index.docker.io/v1/":{"auth":"YTpi"}},"HttpHeaders":{"X":"y"},"psFormat":"table"}"#;
    home.write(".docker/config.json", before);
    let path = home.path(".docker/config.json");
    let credentials = home.credentials();
    credentials.store("r.example:5000", &Credential::password("u", "pä:ß")).expect("stored");
    credentials.store("docker.io", &Credential::IdentityToken(Secret::new("tok"))).expect("stored");
    let after = json(&path);
    assert_eq!((&after["HttpHeaders"]["X"], &after["psFormat"]), (&"y".into(), &"table".into()));
    assert_eq!(after["auths"]["old"]["auth"], "YTpi");
    assert_eq!(after["auths"]["https://index.docker.io/v1/"]["identitytoken"], "tok");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    assert_eq!(found(&credentials, "r.example:5000").as_deref(), Some("u:pä:ß"));
    assert_eq!(found(&credentials, "docker.io").as_deref(), Some("token:tok"));
    credentials.erase("docker.io").expect("was there");
    assert!(matches!(credentials.erase("docker.io"), Err(Error::NotLoggedIn(_))));
    let after = json(&path);
    assert!(after["auths"].get("https://index.docker.io/v1/").is_none());
    assert_eq!(after["auths"]["old"]["auth"], "YTpi");
    // No temporary file stays.
    assert_eq!(std::fs::read_dir(home.path(".docker")).expect("there").count(), 1);
}

#[test]
fn writers_do_not_lose_each_others_entries() {
    let home = Home::new();
    let credentials = home.credentials();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let credentials = &credentials;
            let store =
                move || credentials.store(&format!("r{number}.example"), &Credential::password("u", "p"));
            scope.spawn(move || store().expect("stored"));
        }
    });
    assert_eq!(credentials.list().expect("readable").len(), 8);
}

#[test]
fn helpers_keep_what_files_must_not() {
    let home = Home::new();
    home.install_helper();
    home.write(".docker/config.json", r#"{"credsStore":"vault","auths":{"https://index.docker.io/v1/":{}}}"#);
    let credentials = home.credentials();
    assert_eq!(found(&credentials, "docker.io"), None);
    let place = credentials.store("docker.io", &Credential::password("me", "hidden")).expect("stored");
    assert_eq!(place, "docker-credential-vault");
    assert_eq!(found(&credentials, "docker.io").as_deref(), Some("me:hidden"));
    credentials.store("gcr.example", &Credential::IdentityToken(Secret::new("idt"))).expect("stored");
    assert_eq!(found(&credentials, "gcr.example").as_deref(), Some("token:idt"));
    let text = std::fs::read_to_string(home.path(".docker/config.json")).expect("there");
    assert!(!text.contains("hidden") && !text.contains("idt"), "{text}");
    assert_eq!(credentials.list().expect("readable"), [("docker.io".to_string(), "hubuser".to_string())]);
    credentials.erase("docker.io").expect("was there");
    assert_eq!(found(&credentials, "docker.io"), None);
}

#[test]
fn a_helper_may_serve_one_registry() {
    let home = Home::new();
    home.install_helper();
    home.write(
        ".docker/config.json",
        r#"{"credHelpers":{"one.example":"vault"},"auths":{"two.example":{"auth":"dTpw"}}}"#,
    );
    let credentials = home.credentials();
    credentials.store("one.example", &Credential::password("h", "x")).expect("stored");
    assert_eq!(found(&credentials, "one.example").as_deref(), Some("h:x"));
    assert_eq!(found(&credentials, "two.example").as_deref(), Some("u:p"));
}

#[test]
fn helpers_that_fail_say_so_and_no_secrets() {
    let home = Home::new();
    std::fs::create_dir_all(home.path("bin")).expect("made");
    home.write(
        ".docker/config.json",
        r#"{"credHelpers":{"a":"absent","b":"broken","c":"chatty","d":"dead"}}"#,
    );
    let broken = "#!/bin/sh\necho 'locked, s3cret'; echo s3cret >&2\nexit 3\n";
    script(&home.path("bin/docker-credential-broken"), broken);
    script(
        &home.path("bin/docker-credential-chatty"),
        "#!/bin/sh\necho '{\"Username\":\"u\",\"Secret\":\"s3cret\"'\n",
    );
    script(&home.path("bin/docker-credential-dead"), "#!/bin/sh\nexec sleep 1000\n");
    let credentials = home.credentials();
    let error = |registry: &str| credentials.find(registry, "x").expect_err(registry);
    let absent = error("a").to_string();
    assert!(
        absent.contains("docker-credential-absent is not installed") && absent.contains("config.json"),
        "{absent}"
    );
    // For every action: the helper's output may be the secret itself.
    let of_store = credentials.store("b", &Credential::password("u", "s3cret")).expect_err("broken");
    for (action, broken) in [("get", error("b")), ("store", of_store)] {
        let text = format!("{broken} {broken:?}");
        assert!(text.contains("docker-credential-broken") && text.contains(action), "{text}");
        assert!(text.contains("exit status: 3") && !text.contains("s3cret"), "{text}");
    }
    let chatty = error("c");
    assert!(!format!("{chatty} {chatty:?}").contains("s3cret"), "{chatty:?}");
    let impatient = home.credentials().with_helper_timeout(Duration::from_millis(100));
    let dead = impatient.find("d", "x").expect_err("no answer").to_string();
    assert!(dead.contains("docker-credential-dead") && dead.contains("no answer within"), "{dead}");
}

#[test]
fn damaged_files_are_named() {
    let home = Home::new();
    home.write(".docker/config.json", "{\"auths\": \"secret");
    let error = home.credentials().find("r", "x").expect_err("not JSON");
    let text = format!("{error} {error:?}");
    assert!(text.contains(".docker/config.json") && text.contains("line 1"), "{text}");
    assert!(!text.contains("secret"), "{text}");
    // The file is not overwritten either.
    assert!(home.credentials().store("r", &Credential::password("u", "p")).is_err());
    assert_eq!(
        std::fs::read_to_string(home.path(".docker/config.json")).expect("there"),
        "{\"auths\": \"secret"
    );
    let nowhere = Credentials::from_environment(&Environment::default());
    assert!(matches!(nowhere.store("r", &Credential::password("u", "p")), Err(Error::NoCredentialsFile)));
}

#[test]
fn a_missing_helper_does_not_keep_from_public_images() {
    use crossdock_registry::server::{AuthOptions, BearerOptions, ServerOptions};
    let auth = |anonymous_pull| {
        AuthOptions::Bearer(BearerOptions {
            users: [("u".to_string(), Secret::new("p"))].into(),
            identity_token: None,
            anonymous_pull,
            lifetime: Duration::from_secs(60),
        })
    };
    let home = Home::new();
    home.write(".docker/config.json", r#"{"credsStore":"desktop"}"#);
    for public in [true, false] {
        let site =
            crate::support::Site::with(ServerOptions { auth: auth(public), ..Default::default() }, |_, _| {
                None
            });
        let mut options = crate::support::options().0;
        options.credentials = Credentials::none().with(&site.host(), Credential::password("u", "p"));
        crate::support::push_small(&crossdock_registry::Client::new(options.clone()), &site.reference("a:1"));
        options.credentials = home.credentials();
        let result = crossdock_registry::Client::new(options).manifest(&site.reference("a:1"));
        match public {
            true => assert!(result.is_ok(), "{result:?}"),
            false => assert!(matches!(result, Err(Error::HelperMissing { .. })), "{result:?}"),
        }
    }
}
