//! Figures for Prometheus, in its text format, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds of the buckets of durations, in seconds.
const BUCKETS: [f64; 8] = [0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0, 60.0];

/// All figures.
pub(super) struct Metrics {
    started: Instant,
    requests: Mutex<BTreeMap<(&'static str, &'static str, u16), u64>>,
    durations: Mutex<Durations>,
    pub(super) in_flight: AtomicU64,
    pub(super) bytes_received: AtomicU64,
    pub(super) bytes_sent: AtomicU64,
    pub(super) uploads_dropped: AtomicU64,
    pub(super) connections_refused: AtomicU64,
    pub(super) clients_given_up: AtomicU64,
    pub(super) cache_hits: AtomicU64,
    pub(super) cache_misses: AtomicU64,
    pub(super) cache_evictions: AtomicU64,
    pub(super) log_lines_lost: AtomicU64,
}

#[derive(Default)]
struct Durations {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics {
            started: Instant::now(),
            requests: Mutex::default(),
            durations: Mutex::default(),
            in_flight: AtomicU64::new(0),
            bytes_received: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            uploads_dropped: AtomicU64::new(0),
            connections_refused: AtomicU64::new(0),
            clients_given_up: AtomicU64::new(0),
            cache_hits: AtomicU64::new(0),
            cache_misses: AtomicU64::new(0),
            cache_evictions: AtomicU64::new(0),
            log_lines_lost: AtomicU64::new(0),
        }
    }
}

/// Adds to a figure.
pub(super) fn add(figure: &AtomicU64, number: u64) {
    figure.fetch_add(number, Ordering::Relaxed);
}

impl Metrics {
    /// Counts an answer. `duration` is the time to the answer's head: a client can lengthen it only by
    /// sending its body slowly.
    pub(super) fn answered(&self, method: &str, endpoint: &'static str, status: u16, duration: Duration) {
        // A client may send any word as the method; all unknown words share one line.
        let known = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"];
        let method = known.into_iter().find(|known| *known == method).unwrap_or("other");
        let mut requests = self.requests.lock().unwrap_or_else(|e| e.into_inner());
        *requests.entry((method, endpoint, status)).or_insert(0) += 1;
        drop(requests);
        let mut durations = self.durations.lock().unwrap_or_else(|e| e.into_inner());
        let seconds = duration.as_secs_f64();
        durations.count += 1;
        durations.seconds += seconds;
        for (bucket, bound) in durations.buckets.iter_mut().zip(BUCKETS) {
            *bucket += u64::from(seconds <= bound);
        }
    }

    /// All figures as text. The caller supplies the number of open `connections` and the free `room` in
    /// bytes.
    pub(super) fn text(&self, connections: usize, room: Option<u64>) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, lines: &[(String, String)]| {
            let _ = writeln!(
                text,
                "# HELP crossdock_registry_{name} {help}\n# TYPE crossdock_registry_{name} {kind}"
            );
            for (suffix, value) in lines {
                let _ = writeln!(text, "crossdock_registry_{name}{suffix} {value}");
            }
        };
        let one = |value: String| vec![(String::new(), value)];
        let read = |figure: &AtomicU64| one(figure.load(Ordering::Relaxed).to_string());
        let requests = self.requests.lock().unwrap_or_else(|e| e.into_inner()).clone();
        let lines: Vec<_> = requests
            .iter()
            .map(|((method, endpoint, status), count)| {
                let labels = format!("{{method=\"{method}\",endpoint=\"{endpoint}\",status=\"{status}\"}}");
                (labels, count.to_string())
            })
            .collect();
        family("requests_total", "counter", "Requests that were answered.", &lines);
        let durations = self.durations.lock().unwrap_or_else(|e| e.into_inner());
        let mut lines: Vec<_> = durations
            .buckets
            .iter()
            .zip(BUCKETS)
            .map(|(count, bound)| (format!("_bucket{{le=\"{bound}\"}}"), count.to_string()))
            .collect();
        lines.push(("_bucket{le=\"+Inf\"}".to_string(), durations.count.to_string()));
        lines.push(("_sum".to_string(), durations.seconds.to_string()));
        lines.push(("_count".to_string(), durations.count.to_string()));
        drop(durations);
        family("request_duration_seconds", "histogram", "Time to the head of the answer.", &lines);
        family("requests_in_flight", "gauge", "Requests without an answer yet.", &read(&self.in_flight));
        family("connections", "gauge", "Connections that are open.", &one(connections.to_string()));
        family(
            "connections_refused_total",
            "counter",
            "Connections beyond the limits.",
            &read(&self.connections_refused),
        );
        family(
            "clients_given_up_total",
            "counter",
            "Clients that took too little for too long.",
            &read(&self.clients_given_up),
        );
        family(
            "bytes_received_total",
            "counter",
            "Bytes of uploads that were written.",
            &read(&self.bytes_received),
        );
        family("bytes_sent_total", "counter", "Bytes of bodies that were sent.", &read(&self.bytes_sent));
        family(
            "uploads_dropped_total",
            "counter",
            "Uploads that were abandoned, or did not fit on the disk.",
            &read(&self.uploads_dropped),
        );
        family(
            "cache_hits_total",
            "counter",
            "Content of the other registry that was in the cache.",
            &read(&self.cache_hits),
        );
        family(
            "cache_misses_total",
            "counter",
            "Content that was fetched from the other registry.",
            &read(&self.cache_misses),
        );
        family(
            "cache_evictions_total",
            "counter",
            "Files that were removed to keep the cache within its bound.",
            &read(&self.cache_evictions),
        );
        family(
            "access_log_lines_lost_total",
            "counter",
            "Lines that the access log could not take in time.",
            &read(&self.log_lines_lost),
        );
        if let Some(room) = room {
            family("disk_free_bytes", "gauge", "Bytes that can be written.", &one(room.to_string()));
        }
        let uptime = self.started.elapsed().as_secs_f64().to_string();
        family("uptime_seconds", "gauge", "Time since the start.", &one(uptime));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format() {
        let metrics = Metrics::default();
        metrics.answered("GET", "blob", 200, Duration::from_millis(7));
        metrics.answered("GET", "blob", 200, Duration::from_secs(100));
        metrics.answered("BREW\"", "other", 405, Duration::ZERO);
        add(&metrics.bytes_sent, 12);
        let text = metrics.text(3, Some(99));
        for line in [
            "crossdock_registry_requests_total{method=\"GET\",endpoint=\"blob\",status=\"200\"} 2",
            "crossdock_registry_requests_total{method=\"other\",endpoint=\"other\",status=\"405\"} 1",
            "crossdock_registry_request_duration_seconds_bucket{le=\"0.005\"} 1",
            "crossdock_registry_request_duration_seconds_bucket{le=\"0.01\"} 2",
            "crossdock_registry_request_duration_seconds_bucket{le=\"+Inf\"} 3",
            "crossdock_registry_request_duration_seconds_count 3",
            "# TYPE crossdock_registry_bytes_sent_total counter",
            "crossdock_registry_bytes_sent_total 12",
            "crossdock_registry_connections 3",
            "crossdock_registry_disk_free_bytes 99",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
