//! Starting a process that may outlive this one.

mod exec;

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    fmt,
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::{fs::OpenOptionsExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::io::Errno;

use crate::{
    cgroup::Group,
    listeners::{FIRST, LISTENERS_LIMIT},
    orphans::Claims,
    process::Process,
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open the log file {path}")]
    Log { path: PathBuf, source: io::Error },
    #[error("no program is called `{program}` on PATH")]
    NotFound { program: String },
    #[error("{what} contains a NUL byte")]
    Nul { what: &'static str },
    #[error("{count} listening sockets are more than the limit of {LISTENERS_LIMIT}")]
    TooManyListeners { count: usize },
    #[error("cannot prepare the sockets for {program}")]
    Listeners { program: PathBuf, source: io::Error },
    #[error("cannot put {program} into its control group")]
    Group { program: PathBuf, source: io::Error },
    #[error("cannot start {program}")]
    Start { program: PathBuf, source: io::Error },
    #[error("process {pid} was started and ended again, since it cannot be watched")]
    Watch { pid: u32, source: io::Error },
}

/// What to start and how. The process gets a session of its own, so that Ctrl-C at the terminal does not reach it,
/// and no descriptor but its log, its pipes and its listening sockets. It is started again as often as asked.
pub struct Spawn {
    program: OsString,
    arguments: Vec<OsString>,
    clear_environment: bool,
    environment: BTreeMap<OsString, Option<OsString>>,
    directory: Option<PathBuf>,
    log: Option<PathBuf>,
    pipes: Pipes,
    listeners: Vec<OwnedFd>,
    group: Option<Group>,
}

/// Ends of pipes that are a process's standard streams.
#[derive(Debug, Default)]
struct Pipes {
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    errors: Option<OwnedFd>,
}

impl Pipes {
    /// Standard input, output and errors: pipes where they were given, else the log.
    fn streams(&self, output: Option<File>, errors: Option<File>) -> io::Result<[Stdio; 3]> {
        let stream = |end: &Option<OwnedFd>, log: Option<File>| match end {
            Some(end) => end.try_clone().map(Stdio::from),
            None => Ok(log.map_or_else(Stdio::null, Stdio::from)),
        };
        Ok([stream(&self.input, None)?, stream(&self.output, output)?, stream(&self.errors, errors)?])
    }
}

impl Spawn {
    /// A program by path, or by name on `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            arguments: Vec::new(),
            clear_environment: false,
            environment: BTreeMap::new(),
            directory: None,
            log: None,
            pipes: Pipes::default(),
            listeners: Vec::new(),
            group: None,
        }
    }

    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets a variable, beside those inherited.
    #[must_use]
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.as_ref().to_owned(), Some(value.as_ref().to_owned()));
        self
    }

    #[must_use]
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.environment.insert(name.as_ref().to_owned(), None);
        self
    }

    /// Inherits no variable at all.
    #[must_use]
    pub fn env_clear(mut self) -> Self {
        self.clear_environment = true;
        self
    }

    #[must_use]
    pub fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Appends standard output and error to this file, made with mode 0600; without it both are thrown away.
    #[must_use]
    pub fn log(mut self, path: impl AsRef<Path>) -> Self {
        self.log = Some(path.as_ref().to_owned());
        self
    }

    /// Reads standard input from this end of a pipe; without it there is nothing to read. This and the next two keep the
    /// end open as long as `self` is.
    #[must_use]
    pub fn input(mut self, end: impl Into<OwnedFd>) -> Self {
        self.pipes.input = Some(end.into());
        self
    }

    /// Writes standard output to this end of a pipe, and not to the log.
    #[must_use]
    pub fn output(mut self, end: impl Into<OwnedFd>) -> Self {
        self.pipes.output = Some(end.into());
        self
    }

    /// Writes standard error to this end of a pipe, and not to the log.
    #[must_use]
    pub fn errors(mut self, end: impl Into<OwnedFd>) -> Self {
        self.pipes.errors = Some(end.into());
        self
    }

    /// Passes a listening socket: the first as descriptor 3, the next as 4, announced by `LISTEN_FDS` and `LISTEN_PID`.
    #[must_use]
    pub fn listener(mut self, socket: impl Into<OwnedFd>) -> Self {
        self.listeners.push(socket.into());
        self
    }

    /// Into this control group before its program begins, so that nothing it does or starts is outside.
    #[must_use]
    pub fn group(mut self, group: Group) -> Self {
        self.group = Some(group);
        self
    }

    /// Starts it; when this returns, the program has replaced the fork. Must be called within a tokio runtime.
    pub fn spawn(&self) -> Result<Process, Error> {
        Process::spawn(self)
    }

    pub(crate) fn start(&self) -> Result<Child, Error> {
        let program = self.find_program()?;
        if self.listeners.len() > LISTENERS_LIMIT {
            return Err(Error::TooManyListeners { count: self.listeners.len() });
        }
        let log = self.log.as_deref().map(open_log).transpose()?;
        let mut exec = exec::Exec::new(&program, &self.arguments, self.variables(), self.listeners.len())?;
        let entrances = self.group.as_ref().map_or_else(|| Ok(Vec::new()), Group::entrances);
        let entrances = entrances.map_err(|source| Error::Group { program: program.clone(), source })?;
        let passed =
            Passed::new(&self.listeners).map_err(|source| Error::Listeners { program: program.clone(), source })?;

        let mut command = Command::new(&program);
        let (output, errors) = log.unzip();
        let streams = self.pipes.streams(output, errors);
        let [input, output, errors] = streams.map_err(|source| Error::Start { program: program.clone(), source })?;
        command.stdin(input).stdout(output).stderr(errors);
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let sources: Vec<RawFd> = passed.sources.iter().map(AsRawFd::as_raw_fd).collect();
        #[expect(unsafe_code, reason = "LISTEN_PID is the child's own pid, which is known only after the fork")]
        // SAFETY: the closure runs in the forked child; it allocates nothing, takes no lock, and makes only
        // async-signal-safe calls on memory prepared here.
        unsafe {
            command.pre_exec(move || {
                join(&entrances)?;
                Err(exec.replace(&sources))
            });
        }
        let child = command.spawn().map_err(|source| Error::Start { program, source });
        drop(passed);
        child
    }

    /// Found here: the child may not search, since that allocates.
    fn find_program(&self) -> Result<PathBuf, Error> {
        let path = Path::new(&self.program);
        if path.components().count() > 1 || path.has_root() {
            return Ok(path.to_owned());
        }
        let directories = std::env::var_os("PATH").unwrap_or_default();
        let mut candidates = std::env::split_paths(&directories).map(|directory| directory.join(path));
        let executable =
            |path: &PathBuf| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
        candidates.find(executable).ok_or_else(|| Error::NotFound { program: path.display().to_string() })
    }

    fn variables(&self) -> BTreeMap<OsString, OsString> {
        let mut variables: BTreeMap<_, _> =
            if self.clear_environment { BTreeMap::new() } else { std::env::vars_os().collect() };
        for (name, value) in &self.environment {
            match value {
                Some(value) => variables.insert(name.clone(), value.clone()),
                None => variables.remove(name),
            };
        }
        // What this process was given is not meant for its children.
        for name in ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"] {
            variables.remove(OsStr::new(name));
        }
        variables
    }
}

impl fmt::Debug for Spawn {
    /// Without the variables' values, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn")
            .field("program", &self.program)
            .field("arguments", &self.arguments)
            .field("environment", &self.environment.keys())
            .field("directory", &self.directory)
            .field("log", &self.log)
            .field("listeners", &self.listeners.len())
            .finish_non_exhaustive()
    }
}

/// Moves the calling process into the groups whose `cgroup.procs` these are. Async-signal-safe.
fn join(entrances: &[File]) -> io::Result<()> {
    entrances.iter().try_for_each(|file| rustix::io::write(file, b"0").map(drop).map_err(io::Error::from))
}

/// Whether a child can join those groups; it ends at once.
pub(crate) fn try_to_join(entrances: &[File]) -> io::Result<()> {
    const JOINED: Errno = Errno::CANCELED;
    let entrances = entrances.iter().map(File::try_clone).collect::<io::Result<Vec<_>>>()?;
    let mut command = Command::new("/proc/self/exe");
    #[expect(unsafe_code, reason = "a process joins by itself, after the fork")]
    // SAFETY: the closure only writes to open descriptors, and returns an error: no program is executed.
    unsafe {
        command.pre_exec(move || join(&entrances).and(Err(JOINED.into())));
    }
    // Held until it is reaped, which no other may do.
    let _claims = Claims::lock();
    match command.spawn() {
        Err(error) if Errno::from_io_error(&error) == Some(JOINED) => Ok(()),
        Err(error) => Err(error),
        Ok(mut child) => child.wait().map(drop),
    }
}

fn open_log(path: &Path) -> Result<(File, File), Error> {
    let open = || {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        Ok((file.try_clone()?, file))
    };
    open().map_err(|source| Error::Log { path: path.to_owned(), source })
}

/// The sockets under numbers above those they will get in the child, so that moving one never overwrites another.
#[derive(Debug)]
struct Passed {
    sources: Vec<OwnedFd>,
    /// Keeps the numbers 3 and up taken until the fork is done, so that the pipe through which the standard library
    /// learns of a failed exec does not get one of them and is not overwritten in the child. Another thread that
    /// closes one of them at that moment can defeat this: then a failed exec shows as a child that ends at once.
    _reserved: Vec<OwnedFd>,
}

impl Passed {
    fn new(listeners: &[OwnedFd]) -> io::Result<Self> {
        let after = FIRST + listeners.len() as i32;
        let above = |socket: &OwnedFd| rustix::io::fcntl_dupfd_cloexec(socket, after);
        let sources = listeners.iter().map(above).collect::<Result<Vec<_>, _>>()?;
        let mut reserved = Vec::new();
        if let Some(socket) = sources.first() {
            for _ in listeners {
                reserved.push(rustix::io::fcntl_dupfd_cloexec(socket.as_fd(), FIRST)?);
            }
        }
        Ok(Self { sources, _reserved: reserved })
    }
}
