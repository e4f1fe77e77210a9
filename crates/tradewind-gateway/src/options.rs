//! What a gateway is told at its start.

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf};

use tradewind_core::RegionName;

use crate::{access::AccessLogOptions, tls::TlsOptions, user_key::UserKey};

/// Where a gateway listens.
#[derive(Debug)]
pub enum Listen {
    Address(SocketAddr),
    /// A socket that somebody else bound and keeps, so that a restart loses no connection.
    Inherited(std::net::TcpListener),
}

pub struct GatewayOptions {
    pub region: RegionName,
    /// `http://host:port`
    pub control_url: String,
    /// Of the scope `gateway/<region>`.
    pub token: String,
    /// Holds the last good state.
    pub data_dir: PathBuf,
    pub listen: Listen,
    /// host:port where users and other gateways reach this gateway; default: where it listens.
    pub advertise: Option<String>,
    /// Whether `x-tradewind-client-region` decides whose user a request is.
    pub trust_client_region: bool,
    /// Where requests have their user's key; default: in `x-tradewind-user`.
    pub user_key: Option<UserKey>,
    /// Whether clients are given the epoch of their answers as a cookie, and those heeded that come with requests.
    pub epoch_cookie: bool,
    /// Threads that serve requests; default: one for each core that this process may use.
    pub workers: Option<std::num::NonZeroU16>,
    /// host:port to dial instead of the gateways of a region.
    pub links: BTreeMap<RegionName, String>,
    /// Without it requests come in the clear; with it, they may come either way.
    pub tls: Option<TlsOptions>,
    /// Without it nothing is logged of requests.
    pub access_log: Option<AccessLogOptions>,
}

impl fmt::Debug for GatewayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayOptions")
            .field("region", &self.region)
            .field("control_url", &self.control_url)
            .field("data_dir", &self.data_dir)
            .field("listen", &self.listen)
            .field("advertise", &self.advertise)
            .field("trust_client_region", &self.trust_client_region)
            .field("user_key", &self.user_key)
            .field("epoch_cookie", &self.epoch_cookie)
            .field("workers", &self.workers)
            .field("links", &self.links)
            .field("tls", &self.tls)
            .field("access_log", &self.access_log)
            .finish_non_exhaustive()
    }
}
