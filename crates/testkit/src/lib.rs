//! What tests need and no program does.

pub mod postgres;
