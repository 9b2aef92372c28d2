//! firn-db
