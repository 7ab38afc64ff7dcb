//! Jobs, from the door of the hub. The wall clock is the tests' own.

mod crash;
mod fleet;
mod life;
mod methods;
pub mod mortal;
mod twins;
