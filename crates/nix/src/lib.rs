//! firn-nix
