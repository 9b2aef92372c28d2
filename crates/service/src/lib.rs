//! firn-service
