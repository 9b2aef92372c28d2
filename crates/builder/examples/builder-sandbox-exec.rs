//! The sandbox helper alone, and the guest's side of virtual machines, for the tests.

fn main() -> std::process::ExitCode {
    if std::env::args().nth(1).is_some_and(|role| role == "vm-init") {
        return firn_vm::guest_main();
    }
    firn_sandbox::sandbox_exec_main_with(|spec| firn_builtin::main(&spec.argv, &spec.env))
}
