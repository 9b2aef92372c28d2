//! Which addresses a cache may send us to.

use reqwest::Url;

/// The address of a file of a cache. `file` is the `URL` of a narinfo: relative to the cache, or an absolute http(s) address.
///
/// A relative one stays below the cache; an absolute one does not go back from https to http.
///
/// # Errors
/// The rest of a sentence that begins with the file.
pub(crate) fn file_of(base: &str, file: &str) -> Result<Url, &'static str> {
    let root = Url::parse(&format!("{base}/")).map_err(|_| "has a cache whose address cannot be read")?;
    let scheme = file.split_once("://").map_or("", |(scheme, _)| scheme);
    if !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
        let url = Url::parse(file).map_err(|_| "has an address that cannot be read")?;
        followable(&root, &url)?;
        return Ok(url);
    }
    if file.contains('\\') || file.contains('#') {
        return Err("has a backslash or '#' in its address");
    }
    let url = Url::parse(&format!("{base}/{file}")).map_err(|_| "has an address that cannot be read")?;
    let same = (url.scheme(), url.host(), url.port()) == (root.scheme(), root.host(), root.port());
    let below = url
        .path()
        .strip_prefix(root.path())
        .is_some_and(|p| !p.is_empty());
    if !same || !below {
        return Err("is outside of the cache");
    }
    Ok(url)
}

/// Whether one may be sent from one address to another.
///
/// # Errors
/// The rest of a sentence that begins with what sends.
pub(crate) fn followable(from: &Url, to: &Url) -> Result<(), &'static str> {
    match (from.scheme(), to.scheme()) {
        ("https", "http") => Err("leads from https to http"),
        (_, "http" | "https") if !to.username().is_empty() || to.password().is_some() => {
            Err("leads to an address with a login")
        }
        (_, "http" | "https") if to.has_host() => Ok(()),
        _ => Err("leads to what is neither https nor http"),
    }
}

/// Whether a login for one address may be shown to another: scheme, host and port are the same.
pub(crate) fn same_host(a: &Url, b: &Url) -> bool {
    (a.scheme(), a.host(), a.port_or_known_default()) == (b.scheme(), b.host(), b.port_or_known_default())
}

/// For people: without query, fragment and login.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let ok = |base, file| file_of(base, file).map(|u| u.to_string());
        assert_eq!(ok("https://h", "nar/x.nar"), Ok("https://h/nar/x.nar".into()));
        assert_eq!(
            ok("https://h/a/b", "nar/x?hash=1"),
            Ok("https://h/a/b/nar/x?hash=1".into())
        );
        assert_eq!(ok("http://h/a", "https://cdn/x"), Ok("https://cdn/x".into()));
        assert_eq!(ok("https://h", "x?u=a://b"), Ok("https://h/x?u=a://b".into()));
        assert_eq!(ok("https://h", "a..b/..c"), Ok("https://h/a..b/..c".into()));
        for (base, bad) in [
            ("https://h/a", "../x"),
            ("https://h/a", "nar/../../x"),
            ("https://h/a", "%2e%2e/x"),
            ("https://h/a", ".%2E/x"),
            ("https://h/a", "..\\x"),
            ("https://h/a", "."),
            ("https://h/a", "#x"),
            ("https://h/a", "http://h/x"),
            ("https://h/a", "file:///etc/passwd"),
            ("http://h/a", "ftp://h/x"),
            ("http://h/a", "http://u:p@h/x"),
            ("http://h/a", "http:///"),
        ] {
            assert!(file_of(base, bad).is_err(), "{base} {bad}");
        }
    }

    #[test]
    fn hosts() {
        let url = |text: &str| Url::parse(text).unwrap();
        assert!(same_host(&url("https://h/x"), &url("https://H:443/y")));
        for other in ["http://h/x", "https://h:444/x", "https://g/x"] {
            assert!(!same_host(&url("https://h/x"), &url(other)));
        }
        assert_eq!(shown(&url("https://u:p@h/x?token=1#y")), "https://h/x");
    }
}
