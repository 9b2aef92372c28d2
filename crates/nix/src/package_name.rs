//! Names of packages.

/// The name without the version: all before the first dash that no letter follows.
///
/// Source: the Nix manual, `builtins.parseDrvName`.
///
/// ```
/// use firn_nix::package_name;
/// assert_eq!(package_name("nix-0.12pre12876"), "nix");
/// assert_eq!(package_name("apache-httpd-2.0.48"), "apache-httpd");
/// assert_eq!(package_name("stdenv"), "stdenv");
/// ```
#[must_use]
pub fn package_name(name: &str) -> &str {
    let bytes = name.as_bytes();
    let dash = bytes
        .windows(2)
        .position(|pair| matches!(pair, [b'-', next] if !next.is_ascii_alphabetic()));
    dash.and_then(|at| name.get(..at)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_at_the_first_dash_before_what_is_no_letter() {
        for (name, package) in [
            ("hello-2.12.1", "hello"),
            ("gcc-wrapper-13.2.0", "gcc-wrapper"),
            ("python3.11-requests-2.31.0", "python3.11-requests"),
            ("foo-bar", "foo-bar"),
            ("a--b", "a"),
            ("a-_b-1", "a"),
            ("a-", "a-"),
            ("-1", ""),
            ("", ""),
        ] {
            assert_eq!(package_name(name), package, "{name}");
        }
    }
}
