//! The control plane: the API, the reconcilers and the only opener of the store.
//!
//! [`run`] is the whole of it. A request goes through `api`; what it changes is one transaction of the
//! [`repository`]; what it shows is made by `view` of resources and of what agents and gateways last reported
//! ([`hub`]). The reconcilers ([`reconcile`]) take no input from the API: they look at the store and the hub.

pub mod admission;
mod api;
mod app;
pub mod assignments;
mod changes;
mod drains;
mod drills;
mod events;
mod fleet;
mod health;
pub mod hub;
mod inspect;
pub mod keys;
mod members;
mod monitoring;
mod publish;
pub mod reconcile;
pub mod repository;
mod server;
mod tables;
mod view;

use tradewind_api::suggest;

pub use api::{openapi, routes};
pub use server::{ADMIN_TOKEN_FILE, ControlOptions, Error, run, run_on};
