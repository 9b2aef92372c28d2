//! Read-only file system images (EROFS).
