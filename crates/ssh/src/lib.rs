//! firn-ssh
