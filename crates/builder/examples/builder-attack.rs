//! The `attack` program, for the tests.

fn main() -> std::process::ExitCode {
    firn_attack::main()
}
