//! The `attack` program.

fn main() -> std::process::ExitCode {
    firn_attack::main()
}
