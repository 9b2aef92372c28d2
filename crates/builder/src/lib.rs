//! firn-builder
