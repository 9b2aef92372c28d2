//! The executable of the guest, and of the sandbox on both sides, for the tests.

fn main() -> std::process::ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("vm-init") => firn_vm::guest_main(),
        _ => firn_sandbox::sandbox_exec_main(),
    }
}
