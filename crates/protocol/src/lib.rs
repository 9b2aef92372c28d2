//! firn-protocol
