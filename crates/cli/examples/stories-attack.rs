//! The `attack` program, for the stories.

fn main() -> std::process::ExitCode {
    firn_attack::main()
}
