//! Addresses of binary caches.

use std::fmt;
use std::str::FromStr;

/// Longest address that is read, in bytes.
const MAX_URL: usize = 2048;

/// Where a binary cache is: `https://`, `http://` or `file://`, any path, and optionally `?priority=N`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheUrl {
    scheme: Scheme,
    /// `host` or `host:port`, in lower case and without the scheme's usual port; empty for files.
    authority: String,
    /// Begins with `/`, does not end with one; empty for the root.
    path: String,
    priority: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Scheme {
    Https,
    Http,
    File,
}

/// Why a text is not a cache's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{url}' is not the address of a binary cache: {reason}")]
pub struct CacheUrlError {
    url: String,
    reason: &'static str,
}

impl FromStr for CacheUrl {
    type Err = CacheUrlError;

    fn from_str(text: &str) -> Result<Self, CacheUrlError> {
        let refused = |reason| CacheUrlError {
            url: firn_nix::excerpt(text).to_string(),
            reason,
        };
        if text.len() > MAX_URL {
            return Err(refused("it is too long"));
        }
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(refused("it has blanks or control characters"));
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| refused("write https://HOST/PATH, http://HOST/PATH or file:///PATH"))?;
        let scheme = match scheme {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            "file" => Scheme::File,
            _ => return Err(refused("use https://, http:// or file://")),
        };
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut priority = None;
        for part in query.split('&').filter(|p| !p.is_empty()) {
            match part.split_once('=') {
                Some(("priority", n)) => {
                    priority = Some(n.parse().map_err(|_| refused("its priority is not a number"))?);
                }
                _ => return Err(refused("of parameters it knows only priority=N")),
            }
        }
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if authority.contains('@') {
            return Err(refused("logins are set apart, for the host"));
        }
        let host = |b: u8| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b);
        if !authority.bytes().all(host) {
            return Err(refused(
                "its host has other characters than names and addresses have",
            ));
        }
        let authority = authority.to_ascii_lowercase();
        let usual_port = match scheme {
            Scheme::Https => ":443",
            Scheme::Http => ":80",
            Scheme::File => "",
        };
        let authority = authority.strip_suffix(usual_port).unwrap_or(&authority);
        if authority.is_empty() != (scheme == Scheme::File) {
            return Err(refused(
                "write https://HOST/PATH, http://HOST/PATH or file:///PATH",
            ));
        }
        if path.contains(['#', '\\']) || path.split('/').any(is_dots) {
            return Err(refused("its path has '.', '..', '#' or '\\'"));
        }
        Ok(Self {
            scheme,
            authority: authority.to_owned(),
            path: path.trim_end_matches('/').to_owned(),
            priority,
        })
    }
}

/// Whether a part of a path is `.` or `..`, as URLs may write them.
fn is_dots(part: &str) -> bool {
    let part = part.to_ascii_lowercase().replace("%2e", ".");
    part == "." || part == ".."
}

impl CacheUrl {
    /// Whether it is a directory of the server's.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.scheme == Scheme::File
    }

    /// `host` or `host:port`: what logins are kept for. Empty for files.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.authority
    }

    /// The path; empty for the root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What the account set, before what the cache says of itself.
    #[must_use]
    pub fn priority(&self) -> Option<u32> {
        self.priority
    }

    /// Without parameters and without a slash at the end: the same cache, the same text.
    #[must_use]
    pub fn base(&self) -> String {
        let scheme = match self.scheme {
            Scheme::Https => "https",
            Scheme::Http => "http",
            Scheme::File => "file",
        };
        format!("{scheme}://{}{}", self.authority, self.path)
    }
}

impl fmt::Display for CacheUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base())?;
        match self.priority {
            Some(priority) => write!(f, "?priority={priority}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (text, base) in [
            ("https://cache.nixos.org", "https://cache.nixos.org"),
            ("https://cache.nixos.org/", "https://cache.nixos.org"),
            (
                "http://127.0.0.1:8080/team/cache/",
                "http://127.0.0.1:8080/team/cache",
            ),
            ("https://Host.Example/A/b?priority=10", "https://host.example/A/b"),
            ("https://h:443/a", "https://h/a"),
            ("http://h:80", "http://h"),
            ("http://h:443", "http://h:443"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x"),
            ("https://h/a..b/...", "https://h/a..b/..."),
            ("file:///srv/cache", "file:///srv/cache"),
        ] {
            let url: CacheUrl = text.parse().unwrap();
            assert_eq!(url.base(), base);
            assert_eq!(url.to_string().parse(), Ok(url));
        }
        for bad in [
            "",
            "cache.nixos.org",
            "ftp://x",
            "https://",
            "https:///x",
            "https://:443/x",
            "file://x/y",
            "https://u:p@h",
            "https://h/a b",
            "https://h/../x",
            "https://h/./x",
            "https://h/%2E%2e/x",
            "https://h/.%2e",
            "https://h/a\\..\\b",
            "https://h\\x",
            "https://h%2fx",
            "https://h#x",
            "https://b\u{fc}cher.example",
            "https://h/#x",
            "https://h?x=1",
            "https://h?priority=x",
            "ssh://h",
            "https://h/\n",
        ] {
            assert!(bad.parse::<CacheUrl>().is_err(), "{bad:?}");
        }
    }
}
