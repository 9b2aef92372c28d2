//! The builders that Nix has built in: `builtin:fetchurl`, `builtin:buildenv`, `builtin:unpack-channel` (Nix manual, "Derivations", `builder`).
//!
//! They run as a builder does, as the only process of a sandbox, in which `firn sandbox-exec` calls [`main`] instead of executing a
//! program: so hostile servers and archives meet the same wall as hostile builders. A variable of the derivation is called an attribute here.
//!
//! It refuses to know about sandboxes, hashes and stores: it is given attributes and makes files; whether they are right is checked by
//! who looks at the outputs.
//!
//! ```
//! let attributes = [(b"out".to_vec(), b"/nowhere/out".to_vec())];
//! let call = firn_builtin::Call { name: b"builtin:buildenv", attributes: &attributes, variables: &[] };
//! let error = firn_builtin::run(&call).unwrap_err();
//! assert_eq!(error.to_string(), "attribute 'derivations' missing");
//! ```

mod build_env;
mod channel;
mod decompress;
mod download;
mod error;
mod fetch_url;
mod restore;
mod tls;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

pub use error::BuiltinError;

/// Name and value.
pub type Variable = (Vec<u8>, Vec<u8>);

/// Every builder with the version of what it does, which belongs into build keys: a change of what comes out is another version (and
/// another name of the sandbox, in which graphs with it are grounded).
pub const BUILTINS: [(&str, &str); 3] = [
    ("builtin:buildenv", "1"),
    ("builtin:fetchurl", "1"),
    ("builtin:unpack-channel", "1"),
];

/// Where https finds the certificates that it trusts.
pub const CA_FILE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// What to do.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// One of [`BUILTINS`].
    pub name: &'a [u8],
    /// The derivation's variables.
    pub attributes: &'a [Variable],
    /// The operator's: proxies, as curl takes them from its environment.
    pub variables: &'a [Variable],
}

impl<'a> Call<'a> {
    fn find(&self, name: &str) -> Option<&'a [u8]> {
        let found = self.attributes.iter().find(|(key, _)| key == name.as_bytes());
        found.map(|(_, value)| value.as_slice())
    }

    fn get(&self, name: &'static str) -> Result<&'a [u8], BuiltinError> {
        self.find(name).ok_or(BuiltinError::Missing(name))
    }

    fn path(&self, name: &'static str) -> Result<PathBuf, BuiltinError> {
        self.get(name)
            .map(|value| PathBuf::from(OsStr::from_bytes(value)))
    }

    fn is_set(&self, name: &str) -> bool {
        self.find(name) == Some(b"1")
    }
}

/// Does it.
///
/// # Errors
/// What Nix says, as far as the cause is the same.
pub fn run(call: &Call<'_>) -> Result<(), BuiltinError> {
    match call.name {
        b"builtin:buildenv" => build_env::build_env(call),
        b"builtin:fetchurl" => fetch_url::fetch_url(call),
        b"builtin:unpack-channel" => channel::unpack_channel(call),
        name => Err(BuiltinError::Unknown(name.escape_ascii().to_string())),
    }
}

/// As a program: says on standard error what went wrong, and gives an exit status. The arguments are the name and the operator's
/// variables, each `name=value`; the environment is the derivation's.
#[must_use]
pub fn main(arguments: &[Vec<u8>], environment: &[Variable]) -> u8 {
    let variables: Vec<Variable> = arguments
        .iter()
        .skip(1)
        .filter_map(|argument| {
            let at = argument.iter().position(|&byte| byte == b'=')?;
            let (name, value) = argument.split_at(at);
            Some((name.to_vec(), value.get(1..)?.to_vec()))
        })
        .collect();
    let call = Call {
        name: arguments.first().map_or(b"", Vec::as_slice),
        attributes: environment,
        variables: &variables,
    };
    match run(&call) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("error: {error}");
            1
        }
    }
}
