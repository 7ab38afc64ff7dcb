//! `ostler firmware serve`: a small HTTP server with ranges and ETags, for trying updates out and for small fleets.
//!
//! Invariant: connections, and the time a client may take to ask, are bounded.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{header, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::files::{etag, locate, part, Content, Part};
use crate::exit::{Failure, Result};
use crate::output::{printable, Out, Tone};

/// Devices that are served at once; others wait.
const MAX_CONNECTIONS: usize = 256;
/// How long a client may take for its TLS handshake, and for its request.
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Hidden files and files that end in .key are not served. Images need no TLS to be safe, since devices check what was signed;
the device SDK asks for `http:` on other machines only when it is told so (`PlainHttp::Anywhere`).")]
pub struct Args {
    /// Folder with images and packages
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Address to listen at; 0.0.0.0 for other machines to reach it
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// Port to listen at; 0 takes any
    #[arg(long, default_value_t = 8070)]
    port: u16,
    /// Serve HTTPS with this certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    certificate: Option<PathBuf>,
    /// The certificate's key, PEM
    #[arg(long, value_name = "FILE", requires = "certificate")]
    tls_key: Option<PathBuf>,
}

pub async fn run(args: Args, out: &Out) -> Result {
    let folder = args.folder.canonicalize().map_err(|error| Failure::file(&args.folder, &error))?;
    if !folder.is_dir() {
        return Err(Failure::usage(format!("{} is no folder", folder.display())));
    }
    let tls = match (&args.certificate, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(acceptor(certificate, key)?),
        _ => None,
    };
    let wanted = SocketAddr::new(args.bind, args.port);
    let listener = TcpListener::bind(wanted).await.map_err(|error| {
        Failure::failed(format!("cannot listen at {wanted}: {error}"))
            .advise("Choose another --port; 0 takes any")
    })?;
    let bound = listener.local_addr().map_err(|error| Failure::failed(error.to_string()))?;
    announce(&folder, bound, tls.is_some(), out)?;
    let served = Served { folder: folder.into(), out: *out };
    tokio::select! {
        () = accept(listener, tls, served) => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

fn acceptor(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let bad = |path: &Path, why: String| Failure::failed(format!("{}: {why}", path.display()));
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| bad(certificate, error.to_string()))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, error.to_string()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(chain, secret))
        .map_err(|error| bad(certificate, error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Says where devices find what is there.
fn announce(folder: &Path, bound: SocketAddr, tls: bool, out: &Out) -> Result {
    let scheme = if tls { "https" } else { "http" };
    let url = format!("{scheme}://{bound}/");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .map_err(|error| Failure::file(folder, &error))?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| locate(folder, &format!("/{}", name.replace('%', "%25"))).is_some())
        .collect();
    names.sort();
    if out.is_json() {
        return out.json_line(&json!({ "url": url, "folder": folder, "files": names }));
    }
    out.line(format_args!("serving {} at {}", folder.display(), out.paint(Tone::Accent, &url)))?;
    for name in names.iter().take(20) {
        out.line(format_args!("  {url}{}", printable(name)))?;
    }
    if bound.ip().is_unspecified() {
        out.note("devices reach it under this machine's own name or address");
    }
    out.note("Ctrl-C ends it");
    Ok(())
}

/// What each connection needs.
#[derive(Clone)]
struct Served {
    folder: Arc<Path>,
    out: Out,
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, served: Served) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Too many open files, above all: others must end first.
                served.out.warn(format_args!("cannot accept a connection: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, served) = (tls.clone(), served.clone());
        tokio::spawn(async move {
            let _permit = permit;
            match tls {
                None => connection(stream, peer, served).await,
                Some(tls) => {
                    if let Ok(Ok(stream)) = tokio::time::timeout(PATIENCE, tls.accept(stream)).await {
                        connection(stream, peer, served).await;
                    }
                }
            }
        });
    }
}

async fn connection(io: impl AsyncRead + AsyncWrite + Unpin + 'static, peer: SocketAddr, served: Served) {
    let service = service_fn(move |request: Request<Incoming>| {
        let served = served.clone();
        async move {
            let response = answer(&served.folder, &request);
            told(&served.out, peer, &request, &response);
            Ok::<_, Infallible>(response)
        }
    });
    // A device that leaves amid an image comes back for the rest.
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .serve_connection(TokioIo::new(io), service)
        .await;
}

fn told(out: &Out, peer: SocketAddr, request: &Request<Incoming>, response: &Response<Content>) {
    let (method, path, status) = (request.method(), request.uri().path(), response.status().as_u16());
    let text = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    let range = text(header::CONTENT_RANGE);
    // Nobody is left to be told when stdout is gone; devices are still served.
    let _ = if out.is_json() {
        out.json_line(&json!({
            "peer": peer.to_string(), "method": method.as_str(), "path": path, "status": status, "range": range,
        }))
    } else {
        out.line(printable(&format!("{peer} {method} {path} {status} {}", range.unwrap_or_default())))
    };
}

fn answer<B>(folder: &Path, request: &Request<B>) -> Response<Content> {
    let plain = |status: StatusCode| {
        let mut response = Response::new(Content::empty());
        *response.status_mut() = status;
        response
    };
    let head = request.method() == Method::HEAD;
    if !head && request.method() != Method::GET {
        return plain(StatusCode::METHOD_NOT_ALLOWED);
    }
    let Some(path) = locate(folder, request.uri().path()) else { return plain(StatusCode::NOT_FOUND) };
    let opened = std::fs::File::open(path).and_then(|file| Ok((file.metadata()?, file)));
    let Ok((metadata, file)) = opened else { return plain(StatusCode::NOT_FOUND) };
    let (length, tag) = (metadata.len(), etag(&metadata));
    let asked = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let (status, first, end) = match part(asked(header::RANGE), asked(header::IF_RANGE), &tag, length) {
        Part::Whole => (StatusCode::OK, 0, length),
        Part::Range(first, end) => (StatusCode::PARTIAL_CONTENT, first, end),
        Part::Outside => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    let mut response = plain(status);
    let headers = response.headers_mut();
    let mut set = |name, value: String| {
        // Made of digits and quotes, each is a header's value.
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set(header::ETAG, tag);
    set(header::ACCEPT_RANGES, "bytes".to_owned());
    set(header::CONTENT_LENGTH, (end - first).to_string());
    match status {
        StatusCode::PARTIAL_CONTENT => {
            set(header::CONTENT_RANGE, format!("bytes {first}-{}/{length}", end - 1))
        }
        StatusCode::RANGE_NOT_SATISFIABLE => set(header::CONTENT_RANGE, format!("bytes */{length}")),
        _ => {}
    }
    if !head && end > first {
        *response.body_mut() = Content::read(file, first, end);
    }
    response
}
