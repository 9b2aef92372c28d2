//! firn-content
