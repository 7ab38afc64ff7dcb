//! The engine against strict hubs in memory, in virtual time.

mod golden;
mod hub;
mod life;
mod properties;
mod recorded;
mod world;

use super::*;
use world::{LinkSettings, World};

fn entity() -> EntityId {
    EntityId::parse("pump-7").unwrap()
}

/// A world in which nothing goes wrong by itself.
fn calm(change: impl FnOnce(&mut Settings)) -> World {
    let mut settings = Settings::new(entity());
    change(&mut settings);
    World::new(settings, LinkSettings { max_delay: 0, small_pieces: false })
}
