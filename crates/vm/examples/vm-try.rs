//! Tries things by hand: prepare a machine in a directory.
#![expect(clippy::unwrap_used, reason = "a test program may panic")]
fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let me = std::env::current_exe().unwrap().with_file_name("firn-vm-guest");
    let options = firn_vm::PrepareOptions::new(me);
    println!("{:#?}", firn_vm::prepare(dir.as_ref(), &options));
}
