//! `proxies` of docker's `config.json`: proxies that commands in containers get as variables.

use serde_json::Value;

use super::file::AuthFile;
use super::paths::docker_config;
use crate::environment::Environment;
use crate::error::Result;

/// Members of an entry and the variables that they set, each also set in lower case.
const VARIABLES: [(&str, &str); 5] = [
    ("httpProxy", "HTTP_PROXY"),
    ("httpsProxy", "HTTPS_PROXY"),
    ("noProxy", "NO_PROXY"),
    ("ftpProxy", "FTP_PROXY"),
    ("allProxy", "ALL_PROXY"),
];

/// Names and values of the variables that docker gives to every build and container, in both spellings. Only
/// the entry `default` counts: other entries are for daemons. Addresses may hold passwords.
///
/// # Errors
///
/// [`crate::Error::File`] or [`crate::Error::Io`] for a file that cannot be read.
pub fn container_proxies(environment: &Environment) -> Result<Vec<(String, String)>> {
    let Some(path) = docker_config(environment) else { return Ok(Vec::new()) };
    let file = AuthFile::read(&path)?;
    let Some(entry) = file.member("proxies").and_then(|all| all.get("default")) else {
        return Ok(Vec::new());
    };
    let set = |(member, name): &(&str, &str)| {
        let value = entry.get(member).and_then(Value::as_str).filter(|value| !value.is_empty())?;
        Some([(name.to_string(), value.to_string()), (name.to_ascii_lowercase(), value.to_string())])
    };
    Ok(VARIABLES.iter().filter_map(set).flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_entry_becomes_variables() {
        let directory = tempfile::tempdir().expect("a directory");
        let environment =
            Environment { docker_config: Some(directory.path().to_path_buf()), ..Environment::default() };
        assert_eq!(container_proxies(&environment).expect("no file"), []);
        let path = directory.path().join("config.json");
        let text = r#"{"proxies":{"default":{"httpsProxy":"http://p:1","noProxy":"a,b","httpProxy":""},
            "tcp://daemon:2375":{"httpProxy":"http://other:1"}}}"#;
        std::fs::write(&path, text).expect("written");
        let found = container_proxies(&environment).expect("read");
        let found: Vec<String> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            found,
            ["HTTPS_PROXY=http://p:1", "https_proxy=http://p:1", "NO_PROXY=a,b", "no_proxy=a,b"]
        );
        std::fs::write(&path, "{").expect("written");
        assert!(container_proxies(&environment).is_err());
    }
}
