//! firn-core
