//! The guest's side: the first process of a machine.
//!
//! It makes the machine fit for a build, runs the command in the same sandbox that builds have outside of machines, and sends what
//! came out. It trusts its host, and nothing that the command does.

mod outputs;
mod port;
mod setup;
mod work;

use std::process::ExitCode;
use std::time::Duration;

use crate::place;
use crate::record::{GuestRecord, VERSION};
use port::Port;

/// The body of the guest's first program. What goes wrong is told to the host, or printed on the console when that is not possible.
#[must_use]
pub fn guest_main() -> ExitCode {
    if rustix::process::getpid().as_raw_nonzero().get() != 1 {
        eprintln!("this is the first program of a virtual machine, and nothing else");
        return ExitCode::FAILURE;
    }
    let told = match Port::open() {
        Ok(port) => {
            let ended = serve(&port);
            let last = match &ended {
                Ok(()) => GuestRecord::Done,
                Err(why) => GuestRecord::Failed(why.clone()),
            };
            ended.and(port.send(&last).map_err(|e| format!("the port: {e}")))
        }
        Err(why) => Err(why),
    };
    match told {
        // The host ends the machine, or else this does after a while.
        Ok(()) => std::thread::sleep(Duration::from_secs(30)),
        Err(why) => eprintln!("firn: {why}"),
    }
    // Without its first program the kernel panics and restarts, and QEMU takes that as the end.
    ExitCode::FAILURE
}

fn serve(port: &Port) -> Result<(), String> {
    setup::furnish()?;
    let failed = |e: std::io::Error| format!("the port: {e}");
    port.send(&GuestRecord::Ready { version: VERSION })
        .map_err(failed)?;
    let job = port.job()?;
    setup::set_clock(job.now);
    let report = work::run(port, &job)?;
    let success = report.exit.success();
    port.send(&GuestRecord::Exit(report)).map_err(failed)?;
    if success {
        outputs::send(port, &job, place::STORE.as_ref(), place::IDS.0)?;
    }
    Ok(())
}
