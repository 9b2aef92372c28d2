#![no_main]

#[path = "../replay/aterm.rs"]
mod replay;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    replay::run(bytes);
});
