//! What a person can type to have it otherwise next time.

/// How to change a setting from any client, whether it uses the service as a builder or as a store; and for some sessions only.
pub(crate) fn set(name: &str, value: &str) -> String {
    let variable = name.to_ascii_uppercase().replace('-', "_");
    format!(
        "ssh firn shell settings set {name} {value}; for some sessions only, in ssh_config: SetEnv FIRN_{variable}={value}"
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn variables_are_those_of_settings() {
        let hint = super::set("keep-going", "true");
        assert!(hint.ends_with("SetEnv FIRN_KEEP_GOING=true"), "{hint}");
    }
}
