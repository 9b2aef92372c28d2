//! firn-builder
mod fixed;
mod flat;
mod order;
mod outputs;
mod remove;
mod slots;
mod tail;
