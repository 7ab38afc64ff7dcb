//! What the REST door counts: requests by route and outcome, and how long they took.
//!
//! Invariant: counting a request takes no lock that another request holds for long and allocates only at the first
//! request of its kind.

use http::StatusCode;
use ostler_wire::rest::route::ENDPOINTS;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::sync::OnceLock;
use std::time::Duration;

/// Upper ends of the histogram's buckets, in seconds: from a read out of memory to a method call that waits.
const BUCKETS: [f64; 11] = [0.000_1, 0.000_5, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 300.0];
/// What `endpoint` says of a request that met no route.
const NO_ROUTE: &str = "none";

type Labels<const N: usize> = [(&'static str, &'static str); N];

/// The counters of the REST door.
pub struct HttpMetrics {
    requests: Family<Labels<2>, Counter>,
    seconds: Family<Labels<1>, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    connections: Gauge,
    /// Connections given up because the client was too slow.
    pub stalled: Counter,
    /// Parts of the families that are in use, found without a lookup: one row per route and one for none.
    rows: Vec<Row>,
}

#[derive(Default)]
struct Row {
    by_class: [OnceLock<Counter>; 5],
    seconds: OnceLock<Histogram>,
}

/// One more while it lives.
pub struct Counted<'a>(&'a Gauge);

impl Counted<'_> {
    fn new(gauge: &Gauge) -> Counted<'_> {
        gauge.inc();
        Counted(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl HttpMetrics {
    /// Registers the metrics.
    pub fn register(registry: &mut Registry) -> HttpMetrics {
        let metrics = HttpMetrics {
            requests: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            stalled: Counter::default(),
            rows: (0..=ENDPOINTS.len()).map(|_| Row::default()).collect(),
        };
        let requests = "Requests answered, by route and class of status";
        registry.register("http_requests", requests, metrics.requests.clone());
        let help = "Time from a request's headers to its answer";
        registry.register_with_unit("http_request_duration", help, Unit::Seconds, metrics.seconds.clone());
        registry.register("http_requests_in_flight", "Requests being answered", metrics.in_flight.clone());
        let help = "Connections to the HTTP listeners, WebSocket connections not counted";
        registry.register("http_connections", help, metrics.connections.clone());
        let help = "HTTP connections given up because the client was too slow";
        registry.register("http_stalled_connections", help, metrics.stalled.clone());
        metrics
    }

    /// Counts a connection for as long as the guard lives.
    pub fn connection(&self) -> Counted<'_> {
        Counted::new(&self.connections)
    }

    /// Counts a request for as long as the guard lives.
    pub fn request(&self) -> Counted<'_> {
        Counted::new(&self.in_flight)
    }

    /// Counts an answer. `place` is the route's place in the table.
    pub fn answered(&self, place: Option<usize>, status: StatusCode, took: Duration) {
        let place = place.unwrap_or(ENDPOINTS.len()).min(ENDPOINTS.len());
        let name = ENDPOINTS.get(place).map_or(NO_ROUTE, |endpoint| endpoint.name);
        let row = &self.rows[place];
        let class = usize::from(status.as_u16() / 100).clamp(1, 5) - 1;
        let counter = row.by_class[class].get_or_init(|| {
            let label = ["1xx", "2xx", "3xx", "4xx", "5xx"][class];
            self.requests.get_or_create(&[("endpoint", name), ("class", label)]).clone()
        });
        counter.inc();
        let seconds = row.seconds.get_or_init(|| self.seconds.get_or_create(&[("endpoint", name)]).clone());
        seconds.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_route_and_class() {
        let mut registry = Registry::with_prefix("ostler");
        let metrics = HttpMetrics::register(&mut registry);
        metrics.answered(Some(0), StatusCode::OK, Duration::from_millis(3));
        metrics.answered(Some(0), StatusCode::NOT_FOUND, Duration::from_millis(3));
        metrics.answered(None, StatusCode::NOT_FOUND, Duration::ZERO);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            r#"ostler_http_requests_total{endpoint="invokeMethod",class="2xx"} 1"#,
            r#"ostler_http_requests_total{endpoint="invokeMethod",class="4xx"} 1"#,
            r#"ostler_http_requests_total{endpoint="none",class="4xx"} 1"#,
            r#"ostler_http_request_duration_seconds_bucket{le="0.005",endpoint="invokeMethod"} 2"#,
            "# UNIT ostler_http_request_duration_seconds seconds",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
