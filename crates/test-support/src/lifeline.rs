//! Children that end with their parent, also when the parent is killed with SIGKILL. The only module here that needs
//! `unsafe`: the request has to be made in the child, between fork and exec.
#![allow(unsafe_code)]

use std::process::Command;

/// Makes the child of `command` receive SIGKILL when the *thread* that spawns it ends. Spawn it from a thread that lives as
/// long as the child should. Does nothing outside Linux.
pub fn die_with_parent(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt;
        let parent = nix::unistd::getpid();
        // SAFETY: the closure runs in the forked child and makes two system calls, `prctl` and `getppid`; it neither
        // allocates nor takes locks.
        unsafe {
            command.pre_exec(move || {
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                // The parent may have died before the request was made.
                if nix::unistd::getppid() == parent { Ok(()) } else { Err(std::io::ErrorKind::BrokenPipe.into()) }
            });
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}
