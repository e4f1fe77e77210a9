//! The control plane: the API, the reconcilers and the only opener of the store.

pub mod hub;
pub mod keys;
pub mod repository;
