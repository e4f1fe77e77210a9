//! Servers that can be killed. Each lives in a runtime of its own: dropping that is as sudden as `kill -9`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use axum::Router;
use tokio::runtime::Runtime;

pub(crate) fn listener() -> TcpListener {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

/// A server in a runtime of its own.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    runtime: Option<Runtime>,
}

impl Process {
    pub(crate) fn start(listener: TcpListener, router: Router) -> Self {
        Self::run(listener, move |listener| async move { axum::serve(listener, router).await.unwrap() })
    }

    pub(crate) fn run<F: Future<Output = ()> + Send + 'static>(
        listener: TcpListener,
        serve: impl FnOnce(tokio::net::TcpListener) -> F + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let runtime = runtime();
        let listener = {
            let _inside = runtime.enter();
            tokio::net::TcpListener::from_std(listener).unwrap()
        };
        runtime.spawn(serve(listener));
        Self { address, runtime: Some(runtime) }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}
