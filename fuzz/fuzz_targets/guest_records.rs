#![no_main]

#[path = "../replay/guest_records.rs"]
mod replay;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    replay::run(bytes);
});
