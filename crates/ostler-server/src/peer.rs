//! Who is at the other end of a connection, as far as the transport knows.
//!
//! It must not know devices: a certificate here is one whose key was proven, nothing more.

use std::fmt;
use std::net::SocketAddr;

use crate::listen::Place;
use crate::tls::client_certificate::ClientChain;

/// The way a client came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// MQTT over TLS.
    Mqtt,
    /// MQTT over WebSocket.
    MqttWebSocket,
    /// MQTT without TLS.
    PlainMqtt,
    /// HTTPS.
    Https,
    /// HTTP without TLS.
    PlainHttp,
}

impl Transport {
    /// A word for logs, events and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::MqttWebSocket => "mqtt-ws",
            Self::PlainMqtt => "mqtt-plain",
            Self::Https => "https",
            Self::PlainHttp => "http-plain",
        }
    }
}

/// The other end of a connection. Clones share the connection's place among those allowed at
/// once; it is free again when all are gone.
#[derive(Clone)]
pub struct Peer {
    address: SocketAddr,
    transport: Transport,
    chain: Option<ClientChain>,
    place: Option<Place>,
}

impl Peer {
    pub(crate) fn new(
        address: SocketAddr,
        transport: Transport,
        chain: Option<ClientChain>,
        place: Option<Place>,
    ) -> Self {
        Self { address, transport, chain, place }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it came in.
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The certificates it presented.
    pub fn chain(&self) -> Option<&ClientChain> {
        self.chain.as_ref()
    }

    /// The same peer, now speaking MQTT inside its HTTP connection.
    #[must_use]
    pub fn over_websocket(&self) -> Self {
        Self { transport: Transport::MqttWebSocket, ..self.clone() }
    }

    /// As the hub wants to be told.
    pub fn as_hub_peer(&self) -> ostler_hub::access::Peer {
        ostler_hub::access::Peer { addr: Some(self.address.ip()), transport: self.transport.name() }
    }

    /// The client has shown that it belongs here; until then its connection may be closed to make
    /// room for others. May be said again and again.
    pub fn signed_in(&self) {
        if let Some(place) = &self.place {
            place.signed_in();
        }
    }

    /// Where the connection sits, if a listener of this server accepted it.
    pub(crate) fn place(&self) -> Option<Place> {
        self.place.clone()
    }

    /// Lets go of the certificates once sign-in has looked at them.
    pub(crate) fn forget_chain(&mut self) {
        self.chain = None;
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.address, self.transport.name())
    }
}
