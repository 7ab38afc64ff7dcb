//! The demo's narration: one line per step, or one JSON object per step.
//!
//! Must not know: what happens next.

use std::cell::Cell;
use std::time::Instant;

use serde_json::{json, Value};

use crate::exit::Result;
use crate::output::{printable, Out, Tone};

/// Who does something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    Hub,
    BackEnd,
    Device,
}

impl Actor {
    fn name(self) -> &'static str {
        match self {
            Self::Hub => "hub",
            Self::BackEnd => "back end",
            Self::Device => "device",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Hub => Tone::Warn,
            Self::BackEnd => Tone::Accent,
            Self::Device => Tone::Good,
        }
    }
}

/// Tells the steps as they happen.
pub struct Story<'a> {
    out: &'a Out,
    started: Instant,
    steps: Cell<u32>,
}

impl<'a> Story<'a> {
    pub fn new(out: &'a Out) -> Self {
        Self { out, started: Instant::now(), steps: Cell::new(0) }
    }

    pub fn title(&self) -> Result {
        if self.out.is_json() {
            return Ok(());
        }
        let out = self.out;
        out.line(out.paint(Tone::Bold, "Ostler demo: a back end reboots a device through a hub of its own"))?;
        out.line(out.paint(
            Tone::Dim,
            "The back end speaks HTTPS and the device MQTT over TLS, as programs made for Azure IoT Hub do.",
        ))?;
        out.line("")
    }

    /// One step: who, what, how it looks on the wire, and the data that went with it.
    pub fn step(&self, actor: Actor, what: &str, wire: &str, data: Option<&Value>) -> Result {
        self.steps.set(self.steps.get() + 1);
        let ms = self.started.elapsed().as_secs_f64() * 1e3;
        if self.out.is_json() {
            return self.out.json_line(&json!({
                "step": self.steps.get(), "atMs": (ms * 10.0).round() / 10.0, "actor": actor.name(), "what": what,
                "wire": wire, "data": data,
            }));
        }
        let out = self.out;
        out.line(format_args!(
            "{}  {}  {what}",
            out.paint(Tone::Dim, format_args!("{:>5.0} ms", ms)),
            out.paint(actor.tone(), format_args!("{:<8}", actor.name())),
        ))?;
        if !wire.is_empty() {
            out.line(format_args!("                    {}", out.paint(Tone::Dim, printable(wire))))?;
        }
        match data {
            Some(data) => out.line(format_args!("                    {}", printable(&data.to_string()))),
            None => Ok(()),
        }
    }

    /// The end, with what a curious person does next.
    pub fn end(&self, what: &str, facts: &[(&'static str, String)], commands: &[String]) -> Result {
        if self.out.is_json() {
            let facts: serde_json::Map<String, Value> =
                facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
            return self.out.json_line(&json!({ "done": true, "facts": facts, "next": commands }));
        }
        let out = self.out;
        out.line(format_args!("\n{}\n", out.paint(Tone::Bold, what)))?;
        out.pairs(facts.iter().map(|(name, value)| (*name, value.clone())))?;
        out.line(format_args!("\n{}", out.paint(Tone::Bold, "Try next")))?;
        commands.iter().try_for_each(|command| out.line(format_args!("  {command}")))
    }
}
