//! Name servers of a container: the options of `run` and `build` as the text of resolv.conf(5).

use anyhow::{Context, Result, bail};

#[derive(clap::Args)]
pub struct DnsArgs {
    /// Name servers instead of this machine's
    #[arg(long = "dns", value_name = "IP")]
    pub dns: Vec<String>,
    /// Domains in which short names are looked up
    #[arg(long = "dns-search", value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Options of resolv.conf(5)
    #[arg(long = "dns-option", visible_alias = "dns-opt", value_name = "OPTION")]
    pub dns_options: Vec<String>,
}

impl DnsArgs {
    /// The text of resolv.conf(5) that the options ask for; `None` without options.
    pub fn resolv_conf(&self) -> Result<Option<String>> {
        if self.dns.is_empty() && self.dns_search.is_empty() && self.dns_options.is_empty() {
            return Ok(None);
        }
        let mut text = String::new();
        for server in &self.dns {
            let server: std::net::IpAddr =
                server.parse().with_context(|| format!("--dns {server}: not an IP address"))?;
            text.push_str(&format!("nameserver {server}\n"));
        }
        let host = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let of_host = |keyword: &str| {
            host.lines()
                .filter(move |line| line.split_whitespace().next() == Some(keyword))
                .collect::<Vec<_>>()
        };
        if self.dns.is_empty() {
            of_host("nameserver").iter().for_each(|line| text.push_str(&format!("{line}\n")));
        }
        for (keyword, option, given) in
            [("search", "dns-search", &self.dns_search), ("options", "dns-option", &self.dns_options)]
        {
            if let Some(bad) = given.iter().find(|word| word.is_empty() || word.contains(char::is_whitespace))
            {
                bail!("--{option} \"{bad}\": give one word, and repeat the option for more");
            }
            match given.as_slice() {
                [] => of_host(keyword).iter().for_each(|line| text.push_str(&format!("{line}\n"))),
                // A single dot removes the domains, as in docker.
                [dot] if dot == "." && keyword == "search" => {}
                words => text.push_str(&format!("{keyword} {}\n", words.join(" "))),
            }
        }
        Ok(Some(text))
    }
}
