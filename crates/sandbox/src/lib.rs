//! firn-sandbox
