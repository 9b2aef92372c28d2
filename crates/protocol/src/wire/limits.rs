//! How much a client may make a session read.

/// Bounds on what comes from a client. A value beyond its bound ends the session with an error that names the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireLimits {
    /// Bytes of one string that may be long: a text, or what a derivation has in its arguments and environment.
    pub string_bytes: u64,
    /// Bytes of any other string: a name, a path, a hash, a signature.
    pub short_bytes: u64,
    /// Items of a list or map that does not hold store paths.
    pub list_items: u64,
    /// Items of a list, set or map of store paths.
    pub path_items: u64,
    /// Bytes of one request's arguments, or of one path's information within an upload.
    pub request_bytes: u64,
    /// Bytes of one frame of a framed body.
    pub frame_bytes: u64,
    /// Bytes of one body in all.
    pub upload_bytes: u64,
    /// Bytes that are read and thrown away after a body was refused.
    pub drain_bytes: u64,
}

impl Default for WireLimits {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            string_bytes: 32 * MIB,
            short_bytes: 64 << 10,
            list_items: 1 << 16,
            path_items: 1 << 20,
            request_bytes: 128 * MIB,
            frame_bytes: 256 * MIB,
            upload_bytes: 1 << 40,
            drain_bytes: 1024 * MIB,
        }
    }
}
