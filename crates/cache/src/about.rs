//! `nix-cache-info`: lines `<field>: <value>`, as Nix reads them: unknown fields and lines that are none are passed over.

use firn_nix::STORE_DIR;
use firn_service::ports::CacheInfo;

/// Longest file that is read, in bytes.
pub(crate) const MAX_ABOUT: usize = 64 << 10;
/// What Nix takes when a cache does not say.
const DEFAULT_PRIORITY: u32 = 50;

/// Reads the file.
///
/// # Errors
/// When the cache is for another store directory: that one, escaped.
pub(crate) fn parse(file: &[u8]) -> Result<CacheInfo, String> {
    let mut info = CacheInfo {
        priority: DEFAULT_PRIORITY,
        want_mass_query: false,
    };
    for line in file.split(|b| *b == b'\n') {
        let mut parts = line.splitn(2, |b| *b == b':');
        let (Some(field), Some(value)) = (parts.next(), parts.next()) else {
            continue;
        };
        let value = value.trim_ascii();
        match field {
            b"StoreDir" if value != STORE_DIR.as_bytes() => {
                let shown: String = value.escape_ascii().to_string().chars().take(200).collect();
                return Err(shown);
            }
            b"WantMassQuery" => info.want_mass_query = value == b"1",
            b"Priority" => {
                let number = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
                info.priority = number.unwrap_or(info.priority);
            }
            _ => {}
        }
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn files() {
        let info = |priority, want_mass_query| CacheInfo {
            priority,
            want_mass_query,
        };
        let full = b"StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n";
        assert_eq!(parse(full), Ok(info(40, true)));
        assert_eq!(parse(b""), Ok(info(50, false)));
        assert_eq!(
            parse(b"StoreDir:/nix/store\r\nPriority: -1\nnonsense\nX: y"),
            Ok(info(50, false))
        );
        assert_eq!(
            parse(b"Priority: 99999999999\nWantMassQuery: 0"),
            Ok(info(50, false))
        );
        let error = parse(b"StoreDir: /gnu/store\n").unwrap_err();
        assert!(error.contains("/gnu/store"), "{error}");
        let error = parse(b"StoreDir: /\xff\x1b[0m\n").unwrap_err();
        assert!(error.is_ascii() && !error.contains('\x1b'), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes(file in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse(&file);
        }

        #[test]
        fn any_lines(lines in proptest::collection::vec(
            ("(StoreDir|Priority|WantMassQuery|[a-zA-Z]{0,8})", "[: ]{0,3}", "\\PC{0,20}"), 0..8)) {
            let file: String = lines.iter().map(|(f, s, v)| format!("{f}{s}{v}\n")).collect();
            let elsewhere = parse(file.as_bytes()).is_err();
            let said = lines.iter().any(|(f, s, v)| format!("{f}{s}{v}").starts_with("StoreDir:"));
            prop_assert!(!elsewhere || said);
        }

        #[test]
        fn what_is_written_is_read(priority: u32, mass: bool) {
            let file = format!("WantMassQuery: {}\nStoreDir: /nix/store\nPriority: {priority}\n", u8::from(mass));
            prop_assert_eq!(parse(file.as_bytes()), Ok(CacheInfo { priority, want_mass_query: mass }));
        }
    }
}
