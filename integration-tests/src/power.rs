//! Watches what a process syncs to the disk, so that a test can look at what a loss of power would leave of it.
//!
//! The process is traced (`ptrace`), as a debugger does: nothing of it is made for the test, nor is a file system or a
//! privilege needed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::disk::{Disk, Held};

/// Whether this machine lets a program trace another one of its own: some sandboxes do not.
///
/// # Errors
/// If no program can be run.
pub fn may_trace() -> anyhow::Result<bool> {
    let mut process = Command::new("cat").stdin(Stdio::piped()).spawn()?;
    let traced = ptrace::seize(Pid::from_raw(i32::try_from(process.id())?), Options::PTRACE_O_EXITKILL);
    process.kill()?;
    process.wait()?;
    Ok(!matches!(traced, Err(Errno::EPERM | Errno::EACCES | Errno::ENOSYS)))
}

/// Follows a process that has not begun, until it has ended: one thread that waits for `begin`. `synced` is called
/// whenever a file or folder within that of `disk` was synced, before the process knows; meanwhile, it stands still at the
/// next thing that it asks of the system. The process is killed if this thread ends. Gives what was synced.
///
/// # Errors
/// If the process cannot be traced, and those of `begin` and `synced`.
pub fn follow(
    process: u32,
    mut disk: Disk,
    begin: impl FnOnce() -> anyhow::Result<()>,
    mut synced: impl FnMut(&Disk, &Path) -> anyhow::Result<()>,
) -> anyhow::Result<Disk> {
    let process = Pid::from_raw(i32::try_from(process)?);
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(process, options).context("a process of our own cannot be traced on this machine")?;
    ptrace::interrupt(process)?;
    let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
    let stopped = waitpid(process, Some(flags))?;
    ensure!(matches!(stopped, WaitStatus::PtraceEvent(..)), "{stopped:?}");
    go_on(process)?;
    begin()?;

    let mut syncing: HashMap<Pid, (PathBuf, Held)> = HashMap::new();
    loop {
        match waitpid(None, Some(flags))? {
            WaitStatus::PtraceSyscall(thread) => {
                let Some(call) = call_of(thread)? else { continue };
                if !call.has_ended {
                    if let Some(begun) = begun(&mut disk, process, &call)? {
                        syncing.insert(thread, begun);
                    }
                } else if let Some((path, held)) = syncing.remove(&thread)
                    && call.result == 0
                {
                    disk.keep(held);
                    synced(&disk, &path)?;
                }
                go_on(thread)?;
            }
            WaitStatus::Stopped(thread, signal) => gone(ptrace::syscall(thread, signal))?,
            WaitStatus::PtraceEvent(thread, ..) => go_on(thread)?,
            WaitStatus::Exited(ended, _) | WaitStatus::Signaled(ended, ..) if ended == process => {
                return Ok(disk);
            }
            WaitStatus::Exited(..)
            | WaitStatus::Signaled(..)
            | WaitStatus::Continued(_)
            | WaitStatus::StillAlive => {}
        }
    }
}

fn go_on(thread: Pid) -> anyhow::Result<()> {
    gone(ptrace::syscall(thread, None))
}

/// A thread may be killed at any moment.
fn gone(done: nix::Result<()>) -> anyhow::Result<()> {
    match done {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A call of the system.
struct Call {
    has_ended: bool,
    number: i64,
    first: u64,
    result: i64,
}

/// The call that a thread has stopped at; `None` if the thread was killed.
fn call_of(thread: Pid) -> anyhow::Result<Option<Call>> {
    let asked = ptrace::syscall_info(thread).and_then(|info| Ok((info, ptrace::getregs(thread)?)));
    let (info, registers) = match asked {
        Ok(asked) => asked,
        Err(Errno::ESRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let has_ended = info.op == libc::PTRACE_SYSCALL_INFO_EXIT;
    #[cfg(target_arch = "x86_64")]
    let (number, first, result) = (registers.orig_rax, registers.rdi, registers.rax);
    #[cfg(target_arch = "aarch64")]
    let (number, first, result) = (registers.regs[8], registers.regs[0], registers.regs[0]);
    Ok(Some(Call { has_ended, number: number.cast_signed(), first, result: result.cast_signed() }))
}

/// What a call is about to sync, if that is within the folder.
fn begun(disk: &mut Disk, process: Pid, call: &Call) -> anyhow::Result<Option<(PathBuf, Held)>> {
    if ![libc::SYS_fsync, libc::SYS_fdatasync].contains(&call.number) {
        return Ok(None);
    }
    let link = PathBuf::from(format!("/proc/{process}/fd/{}", call.first));
    let path = fs::read_link(&link).with_context(|| format!("{} is synced", link.display()))?;
    if !path.starts_with(disk.root()) {
        return Ok(None);
    }
    // Through the link: the file may have no name any more.
    let held = disk.hold(&link).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Some((path, held)))
}
