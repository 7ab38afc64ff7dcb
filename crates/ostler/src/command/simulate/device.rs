//! One simulated device without its connection: what it hears and the passing of time in, what it does out.
//!
//! Feed it with `handle_*` and carry out what it appends to the commands; call [`Device::handle_timeout`] when
//! [`Device::deadline`] has passed. Times are milliseconds since the start of the run, with the wall clock beside them.
//!
//! Must not know: sockets, MQTT, clocks, hubs.
//!
//! Invariant: the same seed, index and scenario give the same decisions for the same sequence of calls of a method,
//! whatever else happens in between.
//! Invariant: at most [`MAX_WAITING`] things wait for their time; a device with more to answer says that it is busy.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use ostler_core::id::EntityId;
use ostler_core::time::Timestamp;
use serde_json::{json, Map, Value};

use super::delay::Delay;
use super::firmware::Update;
use super::random::{Random, Stream};
use super::scenario::{Group, Method};
use super::template::{Context, Template};

/// Longest agenda of one device.
const MAX_WAITING: usize = 256;
const BUSY: i32 = 429;
const UNKNOWN_METHOD: i32 = 404;

/// The time, twice.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Since the start of the run.
    pub ms: u64,
    pub wall: Timestamp,
}

/// What a device wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Answer a method call.
    Answer { rid: Box<str>, status: i32, payload: Vec<u8> },
    /// Change reported properties.
    Report(Vec<u8>),
    /// Ask for the twin; the answer goes to [`Device::handle_twin`].
    GetTwin,
    /// End the connection, with or without a goodbye, and open another after `down_ms`.
    Leave { rude: bool, down_ms: u64 },
    /// Keep the connection open and do nothing for `gone_ms`; then drop it and open another.
    Vanish { gone_ms: u64 },
}

/// A device.
#[derive(Debug)]
pub struct Device {
    index: u64,
    id: EntityId,
    group: Arc<Group>,
    streams: Streams,
    slots: Box<[f64]>,
    agenda: BinaryHeap<Reverse<Entry>>,
    /// Numbers the entries, so that those due at once keep their order.
    entries: u32,
    update: Option<Box<Update>>,
    /// The first connection has been greeted with what the scenario wants reported.
    introduced: bool,
}

#[derive(Debug)]
struct Streams {
    methods: Box<[Random]>,
    reports: Box<[Random]>,
    first_report: Random,
    flap: Random,
    vanish: Random,
    desired: Random,
    reboot: Random,
    firmware: Random,
}

/// Something to be done at its time.
#[derive(Debug)]
struct Entry {
    due: u64,
    number: u32,
    task: Task,
}

#[derive(Debug)]
enum Task {
    Answer(Box<Answering>),
    /// The report with this place.
    Report(usize),
    /// Report these properties.
    Tell(Vec<u8>),
    Flap,
    Vanish,
    Leave {
        down_ms: u64,
    },
    /// The next step of the firmware update.
    Update,
}

#[derive(Debug)]
struct Answering {
    rid: Box<str>,
    status: i32,
    payload: Vec<u8>,
    then_report: Option<Vec<u8>>,
}

impl Device {
    pub fn new(id: EntityId, index: u64, seed: u64, group: Arc<Group>) -> Self {
        let stream = |stream| Random::new(seed, index, stream);
        let streams = Streams {
            methods: (0..group.methods.len()).map(|place| stream(Stream::Method(place))).collect(),
            reports: (0..group.reports.len()).map(|place| stream(Stream::Report(place))).collect(),
            first_report: stream(Stream::FirstReport),
            flap: stream(Stream::Flap),
            vanish: stream(Stream::Vanish),
            desired: stream(Stream::Desired),
            reboot: stream(Stream::Reboot),
            firmware: stream(Stream::Firmware),
        };
        let slots = group.slots.clone().into();
        let agenda = BinaryHeap::new();
        Self { index, id, group, streams, slots, agenda, entries: 0, update: None, introduced: false }
    }

    pub fn id(&self) -> &EntityId {
        &self.id
    }

    /// Whether it has been connected before.
    pub fn is_introduced(&self) -> bool {
        self.introduced
    }

    /// The connection is there and subscribed.
    pub fn handle_connected(&mut self, now: Now, out: &mut Vec<Command>) {
        let group = Arc::clone(&self.group);
        if !self.introduced {
            self.introduced = true;
            if let Some(reported) = &group.reported {
                let mut random = self.streams.first_report.clone();
                out.push(Command::Report(reported.rendered(&mut self.context(now, &mut random))));
            }
        }
        if let Some(applied) = self.update.take_if(|update| update.is_rebooting()) {
            out.push(Command::Report(applied.applied(now.wall)));
        }
        if group.on_desired.is_some() {
            out.push(Command::GetTwin);
        }
        for (place, report) in group.reports.iter().enumerate() {
            let first = self.streams.reports[place].below(report.every);
            self.schedule(now.ms + first, Task::Report(place));
        }
        if let Some(flap) = &group.flap {
            let lasts = flap.every.draw(&mut self.streams.flap);
            self.schedule(now.ms + lasts, Task::Flap);
        }
        if let Some(vanish) = &group.vanish {
            let behaves = vanish.every.draw(&mut self.streams.vanish);
            self.schedule(now.ms + behaves, Task::Vanish);
        }
    }

    /// The connection is gone. What was to be answered is forgotten; a firmware update goes on with the next
    /// connection.
    pub fn handle_lost(&mut self) {
        self.agenda.retain(|Reverse(entry)| matches!(entry.task, Task::Update));
    }

    /// A method is called.
    pub fn handle_method(&mut self, name: &str, rid: &str, payload: &[u8], now: Now, out: &mut Vec<Command>) {
        if self.agenda.len() >= MAX_WAITING {
            return out.push(answer(rid, BUSY, &json!({ "error": "too many calls are waiting" })));
        }
        let group = Arc::clone(&self.group);
        match (&group.reboot, &group.firmware) {
            (Some(reboot), _) if reboot.method == name => {
                out.push(answer(rid, reboot.status, &json!({ "status": "rebooting" })));
                out.push(Command::Report(nested(&reboot.report, json!(now.wall.to_string()))));
                let down_ms = reboot.down.draw(&mut self.streams.reboot);
                let shutdown = reboot.shutdown.draw(&mut self.streams.reboot);
                self.schedule(now.ms + shutdown, Task::Leave { down_ms });
            }
            (_, Some(firmware)) if firmware.method == name => {
                if let Some(update) = &self.update {
                    return out.push(answer(rid, 409, &update.is_running()));
                }
                match Update::start(firmware, payload, &mut self.streams.firmware) {
                    Err(problem) => out.push(answer(rid, 400, &json!({ "error": problem }))),
                    Ok(update) => {
                        let delay = firmware.delay.draw(&mut self.streams.firmware);
                        self.answer_after(delay, rid, firmware.status, update.started(), None, now, out);
                        self.update = Some(Box::new(update));
                        self.schedule(now.ms + delay, Task::Update);
                    }
                }
            }
            _ => match group.method(name) {
                Some((place, method)) => self.call(place, method, rid, payload, now, out),
                None => {
                    let error = format!("this device knows no method `{name}`");
                    out.push(answer(rid, UNKNOWN_METHOD, &json!({ "error": error })));
                }
            },
        }
    }

    fn call(
        &mut self,
        place: usize,
        method: &Method,
        rid: &str,
        payload: &[u8],
        now: Now,
        out: &mut Vec<Command>,
    ) {
        // Taken out, so that the rest of the device may be used beside it.
        let mut random = self.streams.methods[place].clone();
        let chosen = match method.answers.as_slice() {
            [only] => only,
            several => &several[random.weighted(several.iter().map(|answer| answer.weight))],
        };
        let mut delay = method.delay.draw(&mut random);
        if let Some(slow) = self.group.slow.as_ref().filter(|slow| random.chance(slow.probability)) {
            delay += slow.delay.draw(&mut random);
        }
        let decided = chosen.status;
        let mut told = decided;
        if let Some(lie) = self.group.lie.as_ref().filter(|lie| random.chance(lie.answers)) {
            told = lie.statuses[random.below(lie.statuses.len() as u64) as usize];
        }
        if let Some(template) = &chosen.payload {
            let payload = if method.uses_payload { serde_json::from_slice(payload).ok() } else { None };
            let mut context = self.context(now, &mut random);
            context.payload = payload.as_ref();
            context.status = Some(decided);
            let text = template.rendered(&mut context);
            let then_report = method.then_report.as_ref().map(|report| report.rendered(&mut context));
            self.answer_after(delay, rid, told, text, then_report, now, out);
        }
        self.streams.methods[place] = random;
    }

    #[allow(clippy::too_many_arguments, reason = "an answer has this many parts")]
    fn answer_after(
        &mut self,
        delay: u64,
        rid: &str,
        status: i32,
        payload: Vec<u8>,
        then_report: Option<Vec<u8>>,
        now: Now,
        out: &mut Vec<Command>,
    ) {
        if delay > 0 {
            let answering = Answering { rid: rid.into(), status, payload, then_report };
            self.schedule(now.ms + delay, Task::Answer(Box::new(answering)));
            return;
        }
        out.push(Command::Answer { rid: rid.into(), status, payload });
        out.extend(then_report.map(Command::Report));
    }

    /// Desired properties changed; `patch` is the notification's payload.
    pub fn handle_desired(&mut self, patch: &[u8], now: Now, out: &mut Vec<Command>) {
        if let Ok(Value::Object(desired)) = serde_json::from_slice(patch) {
            self.adapt(desired, &Value::Null, now, out);
        }
    }

    /// The answer to [`Command::GetTwin`]: `{"desired":{…},"reported":{…}}`. What changed while the device was away is
    /// done now.
    pub fn handle_twin(&mut self, document: &[u8], now: Now, out: &mut Vec<Command>) {
        let Ok(Value::Object(mut twin)) = serde_json::from_slice(document) else { return };
        if let Some(Value::Object(desired)) = twin.remove("desired") {
            self.adapt(desired, twin.get("reported").unwrap_or(&Value::Null), now, out);
        }
    }

    fn adapt(&mut self, mut desired: Map<String, Value>, reported: &Value, now: Now, out: &mut Vec<Command>) {
        let group = Arc::clone(&self.group);
        let Some(on_desired) = &group.on_desired else { return };
        let known = super::template::member(reported, &on_desired.under).unwrap_or(&Value::Null);
        desired.retain(|key, value| {
            let wanted = on_desired.only.is_empty() || on_desired.only.contains(key);
            wanted && !key.starts_with('$') && known.get(key) != Some(value)
        });
        let random = &mut self.streams.desired;
        if desired.is_empty() || random.chance(on_desired.ignore) || self.agenda.len() >= MAX_WAITING {
            return;
        }
        let delay = on_desired.delay.draw(random);
        let report = nested(&on_desired.under, Value::Object(desired));
        if delay == 0 {
            out.push(Command::Report(report));
        } else {
            self.schedule(now.ms + delay, Task::Tell(report));
        }
    }

    /// When [`Self::handle_timeout`] is due; `None` for never.
    pub fn deadline(&self) -> Option<u64> {
        self.agenda.peek().map(|Reverse(entry)| entry.due)
    }

    /// Does what is due. To be called while connected.
    pub fn handle_timeout(&mut self, now: Now, out: &mut Vec<Command>) {
        while self.deadline().is_some_and(|due| due <= now.ms) {
            if let Some(Reverse(entry)) = self.agenda.pop() {
                self.perform(entry.task, now, out);
            }
        }
    }

    fn perform(&mut self, task: Task, now: Now, out: &mut Vec<Command>) {
        let group = Arc::clone(&self.group);
        match task {
            Task::Answer(answering) => {
                let Answering { rid, status, payload, then_report } = *answering;
                out.push(Command::Answer { rid, status, payload });
                out.extend(then_report.map(Command::Report));
            }
            Task::Report(place) => self.report(place, now, out),
            Task::Tell(report) => out.push(Command::Report(report)),
            Task::Leave { down_ms } => out.push(Command::Leave { rude: false, down_ms }),
            Task::Flap => {
                if let Some(flap) = &group.flap {
                    let random = &mut self.streams.flap;
                    let rude = random.chance(flap.rude);
                    out.push(Command::Leave { rude, down_ms: flap.down.draw(random) });
                }
            }
            Task::Vanish => {
                if let Some(vanish) = &group.vanish {
                    out.push(Command::Vanish { gone_ms: vanish.gone.draw(&mut self.streams.vanish) });
                }
            }
            Task::Update => self.go_on_with_update(now, out),
        }
    }

    fn report(&mut self, place: usize, now: Now, out: &mut Vec<Command>) {
        let group = Arc::clone(&self.group);
        let report = &group.reports[place];
        let mut random = self.streams.reports[place].clone();
        let mut text = Vec::new();
        let nonsense = group.lie.as_ref().is_some_and(|lie| random.chance(lie.reports));
        let mut context = self.context(now, &mut random);
        if nonsense {
            report.properties.render_nonsense(&mut context, &mut text);
        } else {
            report.properties.render(&mut context, &mut text);
        }
        out.push(Command::Report(text));
        let swing = report.jitter * (2.0 * random.unit() - 1.0);
        let pause = (report.every as f64 * (1.0 + swing)).max(1.0) as u64;
        self.streams.reports[place] = random;
        self.schedule(now.ms + pause, Task::Report(place));
    }

    fn go_on_with_update(&mut self, now: Now, out: &mut Vec<Command>) {
        let Some(mut update) = self.update.take() else { return };
        let step = update.step(now.wall, &mut self.streams.firmware);
        out.push(Command::Report(step.report));
        if let Some(pause) = step.next_after {
            self.schedule(now.ms + pause, Task::Update);
        }
        if let Some(down_ms) = step.reboot_for {
            self.schedule(now.ms + REPORT_FIRST, Task::Leave { down_ms });
        }
        if !step.ended {
            self.update = Some(update);
        }
    }

    fn schedule(&mut self, due: u64, task: Task) {
        self.entries = self.entries.wrapping_add(1);
        self.agenda.push(Reverse(Entry { due, number: self.entries, task }));
    }

    fn context<'a>(&'a mut self, now: Now, random: &'a mut Random) -> Context<'a> {
        Context {
            id: self.id.as_str(),
            group: &self.group.name,
            index: self.index,
            now: now.wall,
            random,
            slots: &mut self.slots,
            payload: None,
            status: None,
        }
    }
}

/// Between the last report before a reboot and the goodbye, in ms.
const REPORT_FIRST: u64 = 100;

/// Tags and desired properties of a device at its registration.
pub fn registration(
    group: &Group,
    id: &EntityId,
    index: u64,
    seed: u64,
    wall: Timestamp,
) -> [Map<String, Value>; 2] {
    let mut random = Random::new(seed, index, Stream::Registration);
    let mut slots = group.slots.clone();
    let mut render = |template: &Template| {
        let mut context = Context {
            id: id.as_str(),
            group: &group.name,
            index,
            now: wall,
            random: &mut random,
            slots: &mut slots,
            payload: None,
            status: None,
        };
        serde_json::from_slice(&template.rendered(&mut context)).unwrap_or_default()
    };
    [render(&group.tags), render(&group.desired)]
}

/// `value` below a path of names with dots between them, as the text of an object; `value` itself for an empty path.
pub fn nested(path: &str, value: Value) -> Vec<u8> {
    let whole =
        path.rsplit('.').filter(|key| !key.is_empty()).fold(value, |value, key| json!({ key: value }));
    whole.to_string().into_bytes()
}

fn answer(rid: &str, status: i32, payload: &Value) -> Command {
    Command::Answer { rid: rid.into(), status, payload: payload.to_string().into_bytes() }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

/// The longest wait before attempt `attempt` (counted from 0) to connect again: it doubles from one to the next. The wait
/// itself is anything up to it, so that devices that lost their hub together do not come back together.
pub fn backoff(attempt: u32, first: u64, most: u64, random: &mut Random) -> u64 {
    let ceiling = first.saturating_mul(1 << attempt.min(20)).min(most);
    Delay::Uniform(0, ceiling).draw(random)
}

#[cfg(test)]
mod tests;
