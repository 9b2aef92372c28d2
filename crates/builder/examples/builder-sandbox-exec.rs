//! The sandbox helper alone, for the tests.

fn main() -> std::process::ExitCode {
    firn_sandbox::sandbox_exec_main()
}
