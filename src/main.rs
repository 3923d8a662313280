//! The `tidemill` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        give_back_what_is_freed();
        allow_open_files();
    }
    tidemill::service::main_entry(std::env::args_os())
}

/// By itself glibc keeps ever larger buffers that were freed, in eight arenas for each core. Who has set this in the environment is
/// left alone.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_back_what_is_freed() {
    const LARGE: libc::c_int = 1 << 20;
    let cores = std::thread::available_parallelism().map_or(2, |cores| cores.get().max(2));
    let settings = [
        ("MALLOC_ARENA_MAX", libc::M_ARENA_MAX, libc::c_int::try_from(cores).unwrap_or(libc::c_int::MAX)),
        ("MALLOC_MMAP_THRESHOLD_", libc::M_MMAP_THRESHOLD, LARGE),
        ("MALLOC_TRIM_THRESHOLD_", libc::M_TRIM_THRESHOLD, LARGE),
    ];
    for (variable, parameter, value) in settings {
        if std::env::var_os(variable).is_none() {
            // SAFETY: no other thread runs yet. What glibc does not know it refuses, and nothing is lost.
            unsafe { libc::mallopt(parameter, value) };
        }
    }
}

/// Each run of rows that waits on disk to be merged is an open file. Most systems allow more than the 1,024 that a process has at
/// first, for the sake of programs that wait by `select`, as nothing here does.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn allow_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the first writes `limit`, the second reads it. If that is refused, the limit is what it was.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
