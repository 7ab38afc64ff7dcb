//! What hub, store and listeners count for themselves, read when somebody scrapes.
//!
//! Invariant: reading takes no lock that a connection holds for longer than a moment.

use crate::app::{App, DoorCounts};
use ostler_hub::stats::{Counter, Stats};
use ostler_hub::Hub;
use ostler_store::StoreStatus;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use std::fmt;
use std::time::UNIX_EPOCH;

/// Name, help and value of a metric.
type Row = (&'static str, &'static str, u64);

/// The state of a hub at one moment.
#[derive(Debug)]
pub(super) struct Snapshot {
    counters: Vec<Row>,
    gauges: Vec<Row>,
    bytes_taken: u64,
    bytes_held: u64,
    file_bytes: u64,
    file_bytes_taken: u64,
    sync_micros: u64,
    uptime_secs: u64,
    certificate_ends_secs: u64,
}

impl Snapshot {
    pub(super) fn of(app: &App) -> Snapshot {
        let (stats, store, doors) = (app.hub.stats(), app.hub.store().status(), app.doors());
        let mut counters = hub_counters(stats);
        counters.extend(door_counters(&doors));
        counters.extend([
            ("store_commits", "Durable commits of the store", store.commits),
            ("store_changes", "Changes in the store's commits", store.changes),
        ]);
        Snapshot {
            counters,
            gauges: gauges(&app.hub, &doors, &store),
            bytes_taken: stats.telemetry_bytes.count(),
            bytes_held: store.memory_bytes,
            file_bytes: app.hub.file_counts().bytes,
            file_bytes_taken: stats.file_bytes.count(),
            sync_micros: store.sync_micros,
            uptime_secs: app.started.elapsed().as_secs(),
            certificate_ends_secs: app
                .tls
                .not_after()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs(),
        }
    }
}

fn hub_counters(stats: &Stats) -> Vec<Row> {
    let rows: [(&str, &str, &Counter); 37] = [
        ("sign_ins", "Devices and modules that signed in", &stats.sign_ins),
        ("sign_in_failures", "Sign-ins refused, of devices and back ends", &stats.sign_in_failures),
        ("takeovers", "Connections closed by a newer one of the same identity", &stats.takeovers),
        ("method_calls", "Method calls asked for", &stats.method_calls),
        ("method_answers", "Method calls that a device answered", &stats.method_answers),
        ("method_offline", "Method calls that no device took", &stats.method_offline),
        ("method_timeouts", "Method calls not answered in time", &stats.method_timeouts),
        ("method_late_answers", "Answers to calls that nobody waited for", &stats.method_late_answers),
        ("reported_changes", "Changes of reported properties committed", &stats.reported_changes),
        ("service_changes", "Changes of tags and desired properties committed", &stats.service_changes),
        ("notifications", "Desired-property changes handed to a connection", &stats.notifications),
        ("device_twin_reads", "Twins read by devices", &stats.device_twin_reads),
        ("telemetry_messages", "Telemetry messages taken", &stats.telemetry_messages),
        ("messages_accepted", "Cloud-to-device messages accepted", &stats.messages_accepted),
        ("messages_delivered", "Cloud-to-device messages handed to connections", &stats.messages_delivered),
        ("messages_returned", "Messages not confirmed when their connection ended", &stats.messages_returned),
        ("messages_completed", "Messages confirmed by their devices", &stats.messages_completed),
        ("messages_expired", "Messages whose time was over", &stats.messages_expired),
        ("messages_undeliverable", "Messages given up", &stats.messages_undeliverable),
        ("messages_rejected", "Messages refused by their devices", &stats.messages_rejected),
        ("messages_purged", "Messages removed with their queue or device", &stats.messages_purged),
        ("feedback_expired", "Outcomes of messages that nobody read in time", &stats.feedback_expired),
        (
            "feedback_dropped",
            "Outcomes of messages not told because too many waited",
            &stats.feedback_dropped,
        ),
        ("queries", "Pages of queries asked for", &stats.queries),
        ("jobs_created", "Jobs created", &stats.jobs_created),
        ("jobs_ended", "Jobs that ended", &stats.jobs_ended),
        ("job_steps_succeeded", "Devices on which a job was done", &stats.job_steps_succeeded),
        ("job_steps_failed", "Devices on which a job failed", &stats.job_steps_failed),
        ("job_steps_canceled", "Devices on which a job was canceled", &stats.job_steps_canceled),
        ("configuration_looks", "Twins looked at for configurations", &stats.configuration_looks),
        ("configuration_changes", "Twins changed by configurations", &stats.configuration_changes),
        ("uploads_started", "File uploads begun by devices", &stats.uploads_started),
        ("uploads_succeeded", "File uploads that devices said to have succeeded", &stats.uploads_succeeded),
        ("uploads_failed", "File uploads that devices gave up", &stats.uploads_failed),
        ("uploads_expired", "File uploads whose time was over", &stats.uploads_expired),
        ("files_stored", "Files stored", &stats.files_stored),
        ("commit_retries", "Changes decided again because the record had changed", &stats.commit_retries),
    ];
    rows.into_iter().map(|(name, help, counter)| (name, help, counter.count())).collect()
}

fn door_counters(doors: &DoorCounts) -> [Row; 7] {
    [
        ("connections_accepted", "Connections accepted", doors.accepted),
        ("connections_refused", "Connections closed because their source had too many", doors.refused_source),
        ("accept_errors", "Accepts that failed for want of descriptors or memory", doors.accept_errors),
        ("mqtt_packets", "MQTT packets read", doors.mqtt_packets),
        (
            "mqtt_violations",
            "MQTT connections closed because the client broke the protocol",
            doors.mqtt_violations,
        ),
        (
            "mqtt_write_timeouts",
            "MQTT connections closed because the client did not read",
            doors.mqtt_write_timeouts,
        ),
        ("mqtt_throttled", "Times an MQTT client that sent too much was slowed down", doors.mqtt_throttled),
    ]
}

fn gauges(hub: &Hub, doors: &DoorCounts, store: &StoreStatus) -> Vec<Row> {
    let (counts, files) = (hub.counts(), hub.file_counts());
    vec![
        ("devices", "Devices registered", counts.devices),
        ("devices_disabled", "Devices that may not connect", counts.disabled),
        ("modules", "Modules registered", counts.modules),
        ("connected", "Devices and modules connected", hub.connected_count() as u64),
        ("messages_queued", "Messages that wait for devices", hub.queued_messages() as u64),
        ("feedback_waiting", "Outcomes of messages that wait to be read", hub.waiting_feedback() as u64),
        ("jobs_active", "Jobs that wait, run or are held", hub.active_jobs() as u64),
        ("files", "Uploaded files", files.files),
        ("uploads_active", "File uploads that have begun and not ended", files.uploads),
        ("connections", "Connections to all listeners", doors.connections),
        ("connections_max", "Connections there may be", doors.max_connections),
        ("connections_half_open", "Connections that have not signed in", doors.half_open),
        ("store_waiting", "Changes that wait to be durable", store.waiting),
        ("store_refusing_writes", "1 while the store refuses writes", store.refusing_writes.is_some().into()),
    ]
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let encoder = &mut encoder;
        for (name, help, count) in &self.counters {
            write(encoder, name, help, None, &ConstCounter::new(*count))?;
        }
        for (name, help, value) in &self.gauges {
            write(encoder, name, help, None, &gauge(*value))?;
        }
        let taken = ConstCounter::new(self.bytes_taken);
        write(encoder, "telemetry", "Telemetry taken", Some(&Unit::Bytes), &taken)?;
        let help = "Bytes of uploaded files, and of blocks that are not files yet";
        write(encoder, "files_held", help, Some(&Unit::Bytes), &gauge(self.file_bytes))?;
        let taken = ConstCounter::new(self.file_bytes_taken);
        write(encoder, "files_taken", "Bytes of files stored", Some(&Unit::Bytes), &taken)?;
        let help = "Memory that holds records";
        write(encoder, "store_memory", help, Some(&Unit::Bytes), &gauge(self.bytes_held))?;
        #[allow(clippy::cast_precision_loss, reason = "microseconds of syncs stay far below 2^53")]
        let sync = ConstCounter::new(self.sync_micros as f64 / 1e6);
        write(encoder, "store_sync", "Time the store spent in syncs", Some(&Unit::Seconds), &sync)?;
        let ends = gauge(self.certificate_ends_secs);
        let help = "When the server's certificate ends, since 1970";
        write(encoder, "tls_certificate_expiry", help, Some(&Unit::Seconds), &ends)?;
        write(encoder, "uptime", "Time since the start", Some(&Unit::Seconds), &gauge(self.uptime_secs))
    }
}

fn gauge(value: u64) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}

fn write(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    // The registry ends the texts of its own metrics with a dot.
    metric.encode(encoder.encode_descriptor(name, &format!("{help}."), unit, metric.metric_type())?)
}
