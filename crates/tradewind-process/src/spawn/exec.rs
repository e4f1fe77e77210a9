//! What happens in the forked child before its program runs. Between fork and exec only async-signal-safe calls are
//! allowed (another thread may hold the allocator's lock at the fork), so everything is laid out beforehand and the
//! child only fills in its own pid.

use std::{
    collections::BTreeMap,
    ffi::{CString, OsString, c_char, c_uint},
    io,
    os::{fd::RawFd, unix::ffi::OsStrExt},
    path::Path,
    ptr,
};

use super::Error;
use crate::listeners::FIRST;

const PID_VARIABLE: &[u8] = b"LISTEN_PID=";
/// Digits of the largest pid that fits 32 bits.
const PID_DIGITS: usize = 10;
/// Real-time signals come after it.
const LAST_STANDARD_SIGNAL: i32 = 31;

/// The program, its arguments and its environment in the form that execve(2) takes.
pub(super) struct Exec {
    program: CString,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// `LISTEN_PID=` and room for a pid and its NUL; `environment` points to it. Empty when no socket is passed.
    pid_variable: Vec<u8>,
    /// Own the text that `arguments` and `environment` point to.
    _text: Vec<CString>,
}

#[expect(unsafe_code, reason = "raw pointers are not Send by themselves")]
// SAFETY: the pointers lead into heap memory that this value owns and that moves with it.
unsafe impl Send for Exec {}
#[expect(unsafe_code, reason = "raw pointers are not Sync by themselves")]
// SAFETY: nothing is changed through a shared reference.
unsafe impl Sync for Exec {}

impl Exec {
    pub(super) fn new(
        program: &Path,
        arguments: &[OsString],
        variables: BTreeMap<OsString, OsString>,
        listeners: usize,
    ) -> Result<Self, Error> {
        let text = |bytes: &[u8], what| CString::new(bytes).map_err(|_| Error::Nul { what });
        let program = text(program.as_os_str().as_bytes(), "the program's path")?;
        let argument_text: Vec<_> =
            arguments.iter().map(|argument| text(argument.as_bytes(), "an argument")).collect::<Result<_, _>>()?;
        let mut variable_text = Vec::new();
        for (name, value) in variables {
            variable_text.push(text(&[name.as_bytes(), b"=", value.as_bytes()].concat(), "an environment variable")?);
        }
        let mut pid_variable = Vec::new();
        if listeners > 0 {
            variable_text.push(text(format!("LISTEN_FDS={listeners}").as_bytes(), "LISTEN_FDS")?);
            pid_variable = [PID_VARIABLE, &[0; PID_DIGITS + 1]].concat();
        }

        let mut argv: Vec<_> = argument_text.iter().map(|text| text.as_ptr()).collect();
        argv.insert(0, program.as_ptr());
        argv.push(ptr::null());
        let mut envp: Vec<_> = variable_text.iter().map(|text| text.as_ptr()).collect();
        if listeners > 0 {
            envp.push(pid_variable.as_ptr().cast());
        }
        envp.push(ptr::null());
        let text = argument_text.into_iter().chain(variable_text).collect();
        Ok(Self { program, arguments: argv, environment: envp, pid_variable, _text: text })
    }

    /// Becomes the program, with `sources` as descriptors 3 and up; returns only the reason why it could not.
    /// Each source must lie above the last of those numbers.
    pub(super) fn replace(&mut self, sources: &[RawFd]) -> io::Error {
        if let Err(error) = rustix::process::setsid() {
            return error.into();
        }
        if let Err(error) = pass(sources) {
            return error;
        }
        hear_signals();
        if !self.pid_variable.is_empty() {
            write_decimal(std::process::id(), &mut self.pid_variable[PID_VARIABLE.len()..]);
        }
        #[expect(unsafe_code, reason = "the standard library's exec cannot take an environment made after the fork")]
        // SAFETY: all three are NUL-terminated and owned by `self`.
        unsafe {
            libc::execve(self.program.as_ptr(), self.arguments.as_ptr(), self.environment.as_ptr());
        }
        io::Error::last_os_error()
    }
}

/// Moves the sockets to their numbers, and lets nothing else through the exec: neither what this process inherited
/// from a parent that was less careful, nor what a library opened.
fn pass(sources: &[RawFd]) -> io::Result<()> {
    let after = FIRST as c_uint + sources.len() as c_uint;
    #[expect(unsafe_code, reason = "descriptors are moved by number")]
    // SAFETY: this is a forked child about to exec; nothing in it uses descriptors afterwards but the exec and the
    // report of its failure, which goes through a descriptor that keeps its number.
    unsafe {
        // Kernels before 5.11 do not know it; there the rule that everything is opened close-on-exec must do.
        libc::syscall(libc::SYS_close_range, after, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        for (target, &source) in (FIRST..).zip(sources) {
            // The copy is not close-on-exec.
            if libc::dup2(source, target) < 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

/// Undoes signals ignored by this process or by a shell that put it in the background: exec would keep them ignored,
/// and the program would not hear SIGINT or SIGTERM. (The standard library has emptied the mask.)
fn hear_signals() {
    for signal in 1..=LAST_STANDARD_SIGNAL {
        #[expect(unsafe_code, reason = "signal dispositions are process-wide")]
        // SAFETY: a forked child sets its own default dispositions; those that may not be set report an error.
        unsafe {
            libc::signal(signal, libc::SIG_DFL);
        }
    }
}

/// Writes `number` and a NUL. `into` has room for [`PID_DIGITS`] and the NUL.
fn write_decimal(mut number: u32, into: &mut [u8]) {
    let mut digits = [0; PID_DIGITS];
    let mut first = PID_DIGITS;
    while first == PID_DIGITS || number > 0 {
        first -= 1;
        digits[first] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    let length = PID_DIGITS - first;
    into[..length].copy_from_slice(&digits[first..]);
    into[length] = 0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_is_written_without_padding_and_ends_with_nul() {
        for number in [0, 7, 10, 4_194_304, u32::MAX] {
            let mut buffer = [b'x'; PID_DIGITS + 1];
            write_decimal(number, &mut buffer);
            let text = std::ffi::CStr::from_bytes_until_nul(&buffer).unwrap();
            assert_eq!(text.to_str().unwrap(), number.to_string());
        }
    }
}
