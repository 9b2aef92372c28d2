#![no_main]

#[path = "../replay/narinfo.rs"]
mod replay;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    replay::run(bytes);
});
