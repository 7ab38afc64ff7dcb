//! The engine against strict hubs in memory, in virtual time.

use super::*;
use crate::message::Message;

fn engine() -> Engine {
    Engine::new(Settings::new(EntityId::parse("pump-7").unwrap()))
}

#[test]
fn connects_on_first_need_and_sends() {
    let mut engine = engine();
    assert_eq!(engine.next(0), Next::Idle { until: None });
    engine.send(Token(1), Message::new("hello").prepare().unwrap(), None, 0);
    assert_eq!(engine.next(0), Next::Dial);
    engine.handle_connected_transport(0, "hub/pump-7/?api-version=2021-04-12", Some(b"secret"));
    assert!(matches!(engine.next(0), Next::Idle { until: Some(_) }));
    assert_eq!(engine.output()[0], 0x10);
    engine.output().clear();
    engine.handle_input(&[0x20, 2, 0, 0], 1);
    assert!(matches!(engine.next(1), Next::Idle { until: Some(_) }));
    assert_eq!(engine.output()[0], 0x32);
    engine.handle_input(&[0x40, 2, 0, 1], 2);
    let events: Vec<Event> = std::iter::from_fn(|| engine.poll_event()).collect();
    assert!(matches!(events.last(), Some(Event::Sent { token: Token(1), result: Ok(()) })), "{events:?}");
}
