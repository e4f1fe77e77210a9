//! A replica as its clients see it: `run` in this process, on an ephemeral port, over HTTP.

mod hostile;
mod infer;
mod inspect;
mod lifecycle;
mod protocol;
mod replica;
