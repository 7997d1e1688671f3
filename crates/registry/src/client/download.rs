//! Plain downloads, for `ADD https://...`: connections, trust, proxies and retries as for registries, but no
//! credentials.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use ureq::http::Method;

use super::failure::{Subject, check};
use super::http::header_text;
use super::url::Url;
use super::{Client, REDIRECTS_MAX, redirect};
use crate::error::{Error, Result};

impl Client {
    /// Downloads `url` to the new file `to`. Returns the time of `Last-Modified` in seconds since 1970, if it
    /// was sent.
    ///
    /// # Errors
    ///
    /// Errors of the connection, any answer except 200, and [`Error::File`] for the file.
    pub fn download(&self, url: &str, to: &Path) -> Result<Option<i64>> {
        self.download_at_most(url, to, u64::MAX)
    }

    /// The same, for a file of at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// As [`Client::download`]; the file is larger.
    pub fn download_at_most(&self, url: &str, to: &Path, limit: u64) -> Result<Option<i64>> {
        self.retrying(|| self.download_once(url, to, limit))
    }

    fn download_once(&self, url: &str, to: &Path, limit: u64) -> Result<Option<i64>> {
        let mut url = Url::parse(url).ok_or_else(|| Error::File {
            path: to.to_path_buf(),
            reason: "not an http address".to_string(),
        })?;
        let mut subject = Subject::new(url.authority(), url.to_string());
        if url.has_query() {
            // It may be signed, and a server may quote it.
            subject = subject.quoting_nothing();
        }
        let mut redirects = 0;
        let mut response = loop {
            let sent = self.http().send(&Method::GET, &url, &[], None, self.options().insecure_all)?;
            let response = sent.map_err(|failure| subject.transport(&Method::GET, &url, failure))?;
            match redirect(&response, &Method::GET, &url, false) {
                Some(next) if redirects < REDIRECTS_MAX => {
                    redirects += 1;
                    url = next;
                }
                _ => break check(response, &[200], &subject, &Method::GET, &url)?,
            }
        };
        let modified = header_text(response.headers(), "last-modified").and_then(http_date);
        let mut file = File::create(to).map_err(Error::io(to))?;
        let body = response.body_mut().with_config().limit(u64::MAX).reader();
        let copied =
            io::copy(&mut body.take(limit.saturating_add(1)), &mut file).map_err(|e| Error::Transport {
                target: subject.target.clone(),
                request: format!("GET {url}"),
                reason: format!("the download was cut short ({e})"),
                retryable: true,
            })?;
        if copied > limit {
            let reason = format!("GET {url}: it sends more than {limit} bytes");
            return Err(Error::of_service(subject.target.clone(), reason));
        }
        file.flush().map_err(Error::io(to))?;
        Ok(modified)
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` as seconds since 1970, or the older form `Sunday, 06-Nov-94 08:49:37 GMT`
/// (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let mut fields = rest.split([' ', '-']);
    let day: i64 = fields.next()?.parse().ok()?;
    let name = fields.next()?;
    let month = MONTHS.iter().position(|m| *m == name)? as i64 + 1;
    let year: i64 = match fields.next()?.parse().ok()? {
        short @ 0..70 => 2000 + short,
        short @ 70..100 => 1900 + short,
        year if (1970..10_000).contains(&year) => year,
        _ => return None,
    };
    let time: Vec<i64> = fields.next()?.split(':').map_while(|n| n.parse().ok()).collect();
    let [hours, minutes, seconds] = time[..] else { return None };
    // Days since 1970 by the civil calendar, years beginning in March so that the leap day comes last.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(days * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Sunday, 06-Nov-94 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(http_date("Tuesday, 29-Feb-28 00:00:00 UTC"), Some(1_835_395_200));
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Tue, 29 Feb 2028 00:00:00 GMT"), Some(1_835_395_200));
        for bad in ["", "yesterday", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49 GMT"] {
            assert_eq!(http_date(bad), None, "{bad}");
        }
    }
}
