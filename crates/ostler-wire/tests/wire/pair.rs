//! A client and a server session wired together in memory, in virtual time.

use ostler_wire::mqtt::packet::{Connect, PacketId, QoS, SubscribeOutcome};
use ostler_wire::mqtt::{client, server, Attempt, Ticket};

pub const CONNECT: Connect<'static> =
    Connect { client_id: "pump-7", clean_session: false, keep_alive_secs: 60, will: None, login: None };

/// Lets a client in and returns the server's end alone.
pub fn accept(connect: &Connect<'_>, limits: server::Limits, now: u64) -> server::Session {
    let mut bytes = Vec::new();
    connect.encode(&mut bytes).unwrap();
    let caller =
        server::Greeting::new(limits, now).next(&mut bytes.as_slice(), &mut Vec::new()).unwrap().unwrap();
    caller.accept(false, now, &mut Vec::new())
}

pub fn server_session() -> server::Session {
    accept(&CONNECT, server::Limits::default(), 0)
}

/// Both ends of a connection, the bytes under way between them, and what either has heard, in words.
pub struct Pair {
    pub now: u64,
    pub client: client::Session,
    pub server: server::Session,
    pub to_server: Vec<u8>,
    pub to_client: Vec<u8>,
    /// Duties of the server, oldest first.
    pub tickets: Vec<Ticket>,
    pub server_heard: Vec<String>,
    pub client_heard: Vec<String>,
}

impl Pair {
    pub fn new(connect: &Connect<'_>, limits: server::Limits) -> Self {
        let now = 1_000;
        let (mut to_server, mut to_client) = (Vec::new(), Vec::new());
        let connecting =
            client::Connecting::start(connect, client::Limits::default(), now, &mut to_server).unwrap();
        let mut input = to_server.as_slice();
        let caller = server::Greeting::new(limits, now).next(&mut input, &mut to_client).unwrap().unwrap();
        let server = caller.accept(true, now, &mut to_client);
        assert!(input.is_empty());
        let answer = connecting.next(&mut to_client.as_slice(), now).unwrap().unwrap();
        let client::Answer::Accepted { session: client, session_present: true } = answer else {
            panic!("expected to be let in: {answer:?}")
        };
        Pair {
            now,
            client,
            server,
            to_server: Vec::new(),
            to_client: Vec::new(),
            tickets: Vec::new(),
            server_heard: Vec::new(),
            client_heard: Vec::new(),
        }
    }

    /// The server reads at most `bytes` of what is under way to it. Subscriptions are granted at once.
    pub fn run_server(&mut self, bytes: usize) -> Result<(), server::ProtocolError> {
        let end = bytes.min(self.to_server.len());
        let mut input = &self.to_server[..end];
        while let Some(event) = self.server.next(&mut input, self.now, &mut self.to_client)? {
            self.server_heard.push(server_words(&event));
            match event {
                server::Event::Publish(message) => self.tickets.extend(message.ticket),
                server::Event::Subscribe(request) => {
                    let outcomes: Vec<_> =
                        request.filters().map(|(filter, qos)| grant(filter, qos)).collect();
                    self.server.sub_ack(request.id, &outcomes, &mut self.to_client).unwrap();
                }
                server::Event::Unsubscribe(request) => self.server.unsub_ack(request.id, &mut self.to_client),
                server::Event::Acked(_) | server::Event::Disconnect => {}
            }
        }
        let read = end - input.len();
        self.to_server.drain(..read);
        Ok(())
    }

    /// The client reads at most `bytes` of what is under way to it and acknowledges every message.
    pub fn run_client(&mut self, bytes: usize) -> Result<(), client::ProtocolError> {
        let end = bytes.min(self.to_client.len());
        let mut input = &self.to_client[..end];
        while let Some(event) = self.client.next(&mut input)? {
            self.client_heard.push(client_words(&event));
            if let client::Event::Message(message) = event {
                if let Some(ticket) = message.ticket {
                    self.client.ack(ticket, &mut self.to_server);
                }
            }
        }
        let read = end - input.len();
        self.to_client.drain(..read);
        Ok(())
    }

    /// Lets everything arrive that is under way.
    pub fn settle(&mut self) {
        while !(self.to_server.is_empty() && self.to_client.is_empty()) {
            let before = (self.to_server.len(), self.to_client.len());
            self.run_server(usize::MAX).unwrap();
            self.run_client(usize::MAX).unwrap();
            assert_ne!(before, (self.to_server.len(), self.to_client.len()), "nothing moves");
        }
    }

    pub fn client_publish(&mut self, topic: &str, payload: &[u8]) -> PacketId {
        self.client.publish_acked(topic, payload, Attempt::First, &mut self.to_server).unwrap()
    }

    /// The server takes care of one of the messages it has heard.
    pub fn server_ack(&mut self, index: usize) {
        let ticket = self.tickets.remove(index);
        self.server.ack(ticket, &mut self.to_client);
    }
}

fn grant(filter: &str, qos: QoS) -> SubscribeOutcome {
    if filter == "#" {
        SubscribeOutcome::Refused
    } else {
        SubscribeOutcome::Granted(qos.min(QoS::AtLeastOnce))
    }
}

pub fn server_words(event: &server::Event<'_>) -> String {
    match event {
        server::Event::Publish(message) => format!(
            "publish {} {:?}{}{}{}",
            message.topic,
            String::from_utf8_lossy(message.payload),
            if message.ticket.is_some() { " q1" } else { "" },
            if message.retain { " retain" } else { "" },
            if message.dup { " dup" } else { "" },
        ),
        server::Event::Acked(id) => format!("acked {id}"),
        server::Event::Subscribe(request) => {
            let filters: Vec<_> =
                request.filters().map(|(filter, qos)| format!("{filter} q{}", qos as u8)).collect();
            format!("subscribe {} {}", request.id, filters.join(", "))
        }
        server::Event::Unsubscribe(request) => {
            format!("unsubscribe {} {}", request.id, request.filters().collect::<Vec<_>>().join(", "))
        }
        server::Event::Disconnect => "disconnect".to_owned(),
    }
}

pub fn client_words(event: &client::Event<'_>) -> String {
    match event {
        client::Event::Message(message) => {
            let text = String::from_utf8_lossy(message.payload);
            format!("message {} {text:?}{}", message.topic, if message.dup { " dup" } else { "" })
        }
        client::Event::Acked(id) => format!("acked {id}"),
        client::Event::Subscribed(answer) => {
            format!("subscribed {} {:?}", answer.id, answer.outcomes().collect::<Vec<_>>())
        }
        client::Event::Unsubscribed(id) => format!("unsubscribed {id}"),
    }
}
