//! Opens the listening sockets and says in plain words why one cannot be opened.
//!
//! Invariant: either every listener that was asked for is open, or none is left open.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use crate::config::{Bind, Listen, Port};

/// Connections the kernel keeps ready for accept; more than it allows is cut to what it allows.
const BACKLOG: i32 = 4096;

/// The open listeners.
pub(crate) struct Doors {
    pub(crate) mqtt: TcpListener,
    pub(crate) https: TcpListener,
    pub(crate) plain_mqtt: Option<TcpListener>,
    pub(crate) plain_http: Option<TcpListener>,
    /// Set if HTTPS took its second choice, and why.
    pub(crate) https_fallback: Option<Fallback>,
}

/// A listener that could not have its first port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fallback {
    /// The port it wanted.
    pub wanted: u16,
    /// The port it has.
    pub taken: u16,
    /// Why, and what would help.
    pub reason: String,
}

/// A listener cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: cannot listen on {address}: {}", reason(source, address))]
pub struct BindError {
    /// The setting that names the port.
    pub setting: &'static str,
    /// What was tried.
    pub address: SocketAddr,
    /// The system's answer.
    pub source: io::Error,
}

/// Opens every configured listener.
///
/// # Errors
/// The first that cannot be opened.
pub(crate) fn open(listen: &Listen) -> Result<Doors, BindError> {
    let plain =
        |setting, port: Option<u16>| port.map(|port| bind(setting, listen.plain_bind, port)).transpose();
    let (https, https_fallback) = https(listen)?;
    let mqtt = match listen.mqtt {
        Port::Fixed(port) | Port::Either(port, _) => bind("mqtt-port", listen.bind, port)?,
    };
    Ok(Doors {
        mqtt,
        https,
        plain_mqtt: plain("plain-mqtt-port", listen.plain_mqtt)?,
        plain_http: plain("plain-http-port", listen.plain_http)?,
        https_fallback,
    })
}

fn https(listen: &Listen) -> Result<(TcpListener, Option<Fallback>), BindError> {
    let setting = "https-port";
    match listen.https {
        Port::Fixed(port) => Ok((bind(setting, listen.bind, port)?, None)),
        Port::Either(wanted, taken) => match bind(setting, listen.bind, wanted) {
            Ok(listener) => Ok((listener, None)),
            Err(first) => {
                let reason = reason(&first.source, &first.address);
                let listener = bind(setting, listen.bind, taken)?;
                Ok((listener, Some(Fallback { wanted, taken, reason })))
            }
        },
    }
}

fn bind(setting: &'static str, bind: Bind, port: u16) -> Result<TcpListener, BindError> {
    let at = |ip: IpAddr| {
        let address = SocketAddr::new(ip, port);
        socket(address).map_err(|source| BindError { setting, address, source })
    };
    match bind {
        Bind::Address(address) => at(address),
        // One socket for both families; IPv4 alone where the kernel has no IPv6.
        Bind::All => at(Ipv6Addr::UNSPECIFIED.into()).or_else(|error| match error.source.raw_os_error() {
            Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) => at(Ipv4Addr::UNSPECIFIED.into()),
            _ => Err(error),
        }),
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn reason(error: &io::Error, address: &SocketAddr) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "the system reserves port {port}; take another port, or allow it with \
             `sysctl net.ipv4.ip_unprivileged_port_start={port}` or `setcap cap_net_bind_service=+ep` on the binary"
        ),
        io::ErrorKind::AddrInUse => format!("another program listens on port {port}"),
        io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(https: Port) -> Listen {
        let loopback = Bind::Address(Ipv4Addr::LOCALHOST.into());
        Listen {
            bind: loopback,
            plain_bind: loopback,
            mqtt: Port::Fixed(0),
            https,
            plain_mqtt: Some(0),
            plain_http: None,
        }
    }

    #[tokio::test]
    async fn a_taken_port_is_named_and_the_second_choice_reported() {
        let first = open(&listen(Port::Fixed(0))).unwrap();
        let taken = first.https.local_addr().unwrap().port();
        let error = open(&listen(Port::Fixed(taken))).err().unwrap().to_string();
        assert_eq!(
            error,
            format!(
                "https-port: cannot listen on 127.0.0.1:{taken}: another program listens on port {taken}"
            )
        );
        let second = open(&listen(Port::Either(taken, 0))).unwrap();
        let fallback = second.https_fallback.unwrap();
        assert_eq!((fallback.wanted, fallback.taken), (taken, 0));
        assert!(second.plain_mqtt.is_some());
        assert!(second.plain_http.is_none());
    }

    #[tokio::test]
    async fn all_addresses_means_both_families() {
        let listener = bind("mqtt-port", Bind::All, 0).unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    }
}
