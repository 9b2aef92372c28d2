#![no_main]
//! A whole session of the worker protocol from a client's bytes. Seeds: crates/protocol/tests/transcripts/*/*.said.bin

#[allow(dead_code, missing_docs)]
#[path = "../../crates/protocol/tests/support/memory.rs"]
mod memory;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options = firn_protocol::SessionOptions::new("fuzz");
    let store = memory::MemoryStore::default();
    // How it ends does not matter; that it ends, without a panic and in bounded memory, does.
    let _ = runtime.block_on(firn_protocol::worker::serve(&store, bytes, tokio::io::sink(), &options));
});
