//! The scheduler of Mycelium.

pub mod command;
pub mod effects;
pub mod ids;
pub mod image;
pub mod status;
