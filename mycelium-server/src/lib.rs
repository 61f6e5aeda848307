//! The broker of Mycelium as a library.

pub mod store;
