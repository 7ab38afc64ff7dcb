//! The picture: frames of the terminal above, the devices over time below, as one SVG.
//!
//! Must not know: where the figures come from.

use std::fmt::Write as _;

use super::screen::Frame;

const WIDTH: f64 = 920.0;
const MARGIN: f64 = 64.0;
const PLOT_HEIGHT: f64 = 200.0;
const LINE_HEIGHT: f64 = 17.0;
/// Frames that are shown, of the many that were recorded.
const SHOWN_FRAMES: usize = 4;

/// A value at a time, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub at: f64,
    pub value: f64,
}

/// What is drawn.
pub struct Picture {
    pub title: String,
    pub devices: u64,
    /// When the job was created.
    pub scheduled: f64,
    /// When it began to run.
    pub started: f64,
    /// Devices on which the job succeeded.
    pub succeeded: Vec<Point>,
    /// Devices that were connected.
    pub connected: Vec<Point>,
    pub frames: Vec<Frame>,
}

/// A stretch of time and where it is drawn.
struct Plot<'p> {
    picture: &'p Picture,
    from: f64,
    to: f64,
    top: f64,
}

impl Picture {
    /// The whole picture.
    pub fn svg(&self) -> String {
        let mut body = String::new();
        let mut top = 44.0;
        put(
            &mut body,
            format_args!("<text x='{}' y='28' class='title'>{}</text>", WIDTH / 2.0, escaped(&self.title)),
        );
        for frame in self.chosen_frames() {
            top = terminal(&mut body, frame, top);
        }
        let end = self.succeeded.last().map_or(0.0, |point| point.at);
        let begin = self.started;
        let last = self.connected.last().map_or(end, |point| point.at);
        let whole = Plot { picture: self, from: self.scheduled - 1.0, to: last.max(end), top: top + 34.0 };
        whole.draw(&mut body, "from the creation of the job until every device is connected again");
        let room = ((end - begin) * 0.15).max(0.05);
        let close =
            Plot { picture: self, from: begin - room, to: end + room, top: whole.top + PLOT_HEIGHT + 78.0 };
        close.draw(
            &mut body,
            &format!("the job alone: {:.2} s from its start to its last result", end - begin),
        );
        let height = close.top + PLOT_HEIGHT + 56.0;
        format!(
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' font-family='sans-serif' font-size='13'>\n\
             <style>.title{{font-size:17px;font-weight:bold;text-anchor:middle}} .mono{{font-family:monospace;font-size:12.5px;\
             white-space:pre;fill:#d8dee9}} .dim{{fill:#6b7280}} .end{{text-anchor:end}} .mid{{text-anchor:middle}}</style>\n\
             <rect width='100%' height='100%' fill='#ffffff'/>\n{body}</svg>\n"
        )
    }

    /// One while the job waits, some under way, and the last.
    fn chosen_frames(&self) -> Vec<&Frame> {
        let shown: Vec<&Frame> = self.frames.iter().filter(|frame| !frame.lines.is_empty()).collect();
        let Some(last) = shown.last() else { return Vec::new() };
        let end = self.succeeded.last().map_or(self.started, |point| point.at);
        // Just before the start, then at even distances, then the end.
        let mut times = vec![self.started - 1e-3];
        let steps = SHOWN_FRAMES - 1;
        times.extend((1..steps).map(|n| self.started + (end - self.started) * n as f64 / steps as f64));
        let at = |time: f64| shown.iter().rev().find(|frame| frame.at.as_secs_f64() <= time).copied();
        let mut chosen: Vec<&Frame> = times.into_iter().filter_map(at).collect();
        chosen.push(last);
        chosen.dedup_by(|a, b| a.lines == b.lines);
        chosen
    }
}

/// Draws one frame; returns where the next may begin.
fn terminal(body: &mut String, frame: &Frame, top: f64) -> f64 {
    let height = frame.lines.len() as f64 * LINE_HEIGHT + 16.0;
    put(
        body,
        format_args!(
            "<rect x='{}' y='{top}' width='{}' height='{height}' rx='6' fill='#1f2430'/>",
            MARGIN,
            WIDTH - MARGIN - 20.0
        ),
    );
    put(
        body,
        format_args!(
            "<text x='{}' y='{}' class='dim end'>{:.2} s</text>",
            MARGIN - 6.0,
            top + 20.0,
            frame.at.as_secs_f64()
        ),
    );
    for (row, line) in frame.lines.iter().enumerate() {
        let y = top + 20.0 + row as f64 * LINE_HEIGHT;
        put(
            body,
            format_args!(
                "<text x='{}' y='{y}' class='mono' xml:space='preserve'>{}</text>",
                MARGIN + 10.0,
                escaped(line)
            ),
        );
    }
    top + height + 8.0
}

impl Plot<'_> {
    fn draw(&self, body: &mut String, caption: &str) {
        let bottom = self.top + PLOT_HEIGHT;
        put(body, format_args!("<text x='{MARGIN}' y='{}'>{}</text>", self.top - 12.0, escaped(caption)));
        for quarter in 0..=4 {
            let value = self.picture.devices as f64 * f64::from(quarter) / 4.0;
            let y = self.y(value);
            put(
                body,
                format_args!(
                    "<line x1='{MARGIN}' x2='{}' y1='{y:.1}' y2='{y:.1}' stroke='#e5e7eb'/>\
                 <text x='{}' y='{:.1}' class='dim end'>{value:.0}</text>",
                    WIDTH - 20.0,
                    MARGIN - 6.0,
                    y + 4.0
                ),
            );
        }
        let step = nice_step(self.to - self.from);
        let mut tick = (self.from / step).ceil() * step;
        let digits = if step < 0.1 { 2 } else { usize::from(step < 1.0) };
        while tick <= self.to {
            let x = self.x(tick);
            put(
                body,
                format_args!(
                    "<line x1='{x:.1}' x2='{x:.1}' y1='{bottom}' y2='{}' stroke='#9ca3af'/>\
                 <text x='{x:.1}' y='{}' class='dim mid'>{tick:.digits$} s</text>",
                    bottom + 4.0,
                    bottom + 18.0
                ),
            );
            tick += step;
        }
        self.line(body, &self.picture.connected, "#2563eb");
        self.line(body, &self.picture.succeeded, "#16a34a");
        if (self.from..=self.to).contains(&self.picture.scheduled) {
            let x = self.x(self.picture.scheduled);
            put(body, format_args!(
                "<line x1='{x:.1}' x2='{x:.1}' y1='{}' y2='{bottom}' stroke='#9ca3af' stroke-dasharray='4 3'/>\
                 <text x='{:.1}' y='{}' class='dim'>job created</text>",
                self.top,
                x + 5.0,
                self.top + 12.0
            ));
        }
        for (n, (name, colour)) in
            [("connected", "#2563eb"), ("succeeded", "#16a34a")].into_iter().enumerate()
        {
            let x = WIDTH - 200.0 + 95.0 * n as f64;
            put(body, format_args!(
                "<rect x='{x}' y='{}' width='12' height='4' fill='{colour}'/><text x='{}' y='{}'>{name}</text>",
                self.top - 18.0,
                x + 17.0,
                self.top - 12.0
            ));
        }
    }

    /// Steps, because nothing is known between two samples.
    fn line(&self, body: &mut String, points: &[Point], colour: &str) {
        let mut path = String::new();
        let mut last = None;
        for point in points.iter().filter(|point| point.at <= self.to) {
            if point.at < self.from {
                last = Some(point.value);
                continue;
            }
            let (x, y) = (self.x(point.at), self.y(point.value));
            if path.is_empty() {
                let (x0, y0) = last.map_or((x, y), |value| (self.x(self.from), self.y(value)));
                put(&mut path, format_args!("M{x0:.1} {y0:.1}"));
            }
            put(&mut path, format_args!("H{x:.1}V{y:.1}"));
            last = Some(point.value);
        }
        if !path.is_empty() {
            put(&mut path, format_args!("H{:.1}", self.x(self.to)));
            put(body, format_args!("<path d='{path}' fill='none' stroke='{colour}' stroke-width='2'/>"));
        }
    }

    fn x(&self, at: f64) -> f64 {
        MARGIN + (at - self.from) / (self.to - self.from).max(1e-9) * (WIDTH - 20.0 - MARGIN)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PLOT_HEIGHT * (1.0 - value / (self.picture.devices as f64).max(1.0))
    }
}

/// A step of 1, 2 or 5 times a power of ten that gives about eight ticks.
fn nice_step(span: f64) -> f64 {
    let raw = (span / 8.0).max(1e-3);
    let magnitude = 10f64.powf(raw.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * magnitude >= raw).unwrap_or(10.0);
    factor * magnitude
}

/// Writing to a text cannot fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = writeln!(out, "{text}");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn ticks_are_round_numbers() {
        assert_eq!([nice_step(24.0), nice_step(0.6), nice_step(9.0)], [5.0, 0.1, 2.0]);
    }

    #[test]
    fn a_picture_has_frames_and_both_lines() {
        let point = |at: f64, value: f64| Point { at, value };
        let frame =
            |at: f64, text: &str| Frame { at: Duration::from_secs_f64(at), lines: vec![text.to_owned()] };
        let picture = Picture {
            title: "a & b".to_owned(),
            devices: 10,
            scheduled: 1.0,
            started: 1.0,
            succeeded: vec![point(1.0, 0.0), point(2.0, 5.0), point(2.5, 10.0)],
            connected: vec![point(0.5, 10.0), point(3.0, 2.0), point(4.0, 10.0)],
            frames: vec![frame(0.9, "waiting"), frame(2.0, "half"), frame(2.5, "done <all>")],
        };
        let svg = picture.svg();
        for part in
            ["a &amp; b", ">waiting<", "done &lt;all&gt;", "#2563eb", "#16a34a", "1.50 s from its start"]
        {
            assert!(svg.contains(part), "{part}: {svg}");
        }
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }
}
