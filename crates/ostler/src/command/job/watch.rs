//! `ostler job watch`, and the waiting of `create` and `retry`: a job from now to its end.
//!
//! Must not know: what the job does.
//!
//! Invariant: the job outlives its watcher, and a watcher outlives an absence of the hub.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use jiff::{SignedDuration, Timestamp};
use ostler_service_sdk::{Client, Job, JobProgress, JobStatus};
use tokio::time::{sleep, Instant};

use super::list::{causes, counts, print_or_json, wave};
use super::{answers, told};
use crate::command::query::mistake;
use crate::exit::{Exit, Failure, Result};
use crate::output::{Out, Tone};
use crate::when;

/// How often a hub without a progress stream is asked.
const POLL: Duration = Duration::from_secs(1);
/// Plain lines come no faster than this, save for changes of status.
const LINE_EVERY: Duration = Duration::from_secs(1);
/// The rate is that of so long.
const PACE: Duration = Duration::from_secs(4);
/// Waits between attempts to watch again after the hub went away.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const MAX_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ostler job watch reboot-1
  ostler job watch reboot-1 -o json | jq .deviceJobStatistics

On a terminal a bar shows the rate, the time left, the wave and the failures by cause; elsewhere a line a second does,
and with `-o json` a document for each change. Ctrl-C ends the watching, not the job.

Exits with 0 if the job completed and no device failed, else with 1.")]
pub struct Args {
    #[arg(value_name = "JOB")]
    id: String,
}

/// Whether to stay until the end of a new job.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Follow {
    /// Wait for its end; exits with 1 unless every device succeeded
    #[arg(long)]
    wait: bool,
    /// Wait for its end and show the progress
    #[arg(long, conflicts_with = "wait")]
    watch: bool,
}

pub async fn run(hub: &Client, args: Args, out: &Out) -> Result {
    follow(hub, &args.id, View::new(out), out).await
}

/// Tells that a job was made, or stays until its end.
pub async fn follow_new(hub: &Client, job: Job, follow_it: Follow, out: &Out) -> Result {
    match follow_it {
        Follow { watch: true, .. } => follow(hub, &job.job_id, View::new(out), out).await,
        Follow { wait: true, .. } => follow(hub, &job.job_id, View::Quiet, out).await,
        _ => told(&job, out),
    }
}

async fn follow(hub: &Client, id: &str, mut view: View, out: &Out) -> Result {
    let end = tokio::select! {
        end = until_final(hub, id, &mut view, out) => end?,
        _ = tokio::signal::ctrl_c() => {
            view.close();
            out.note(format_args!("the job goes on; `ostler job watch {id}` shows it again"));
            return Err(Failure::Silent(Exit::Failed));
        }
    };
    view.close();
    match (&view, out.is_json()) {
        (View::Quiet, _) | (View::Bar(_), false) => print_or_json(hub, &end, out).await?,
        (View::Lines { .. }, false) => {
            if let Some(answers) = answers::of(hub, &end).await {
                out.line(format_args!("answers  {answers}"))?;
            }
            if let (Some(reason), Some(condition)) = (&end.failure_reason, &end.query_condition) {
                mistake::point_at(reason, &mistake::query_of(condition), out);
            }
        }
        (_, _) => {}
    }
    verdict(&end)
}

/// How a job ended, as the exit code of whoever waited.
fn verdict(job: &Job) -> Result {
    let failed = job.device_job_statistics.map_or(0, |counts| counts.failed_count);
    if job.status == JobStatus::Completed && failed == 0 {
        Ok(())
    } else {
        Err(Failure::Silent(Exit::Failed))
    }
}

async fn until_final(hub: &Client, id: &str, view: &mut View, out: &Out) -> Result<Job> {
    // The first attempt fails for good: nobody waits for a job that was never there.
    let mut source = Source::open(hub, id).await?;
    let mut wait = FIRST_WAIT;
    loop {
        match source.next(view).await {
            Some(Ok(job)) => {
                wait = FIRST_WAIT;
                view.show(&job, out)?;
                if job.status.is_final() {
                    return Ok(job);
                }
                continue;
            }
            Some(Err(error)) if !error.is_transient() => return Err(error.into()),
            Some(Err(error)) => view.remark(format_args!("{error}; the job may go on"), out),
            None => view.remark("the hub ended the stream; the job may go on", out),
        }
        source = loop {
            sleep(wait).await;
            wait = (wait * 2).min(MAX_WAIT);
            match Source::open(hub, id).await {
                Ok(source) => break source,
                Err(error) if error.is_transient() => {}
                Err(error) => return Err(error.into()),
            }
        };
    }
}

/// Where news of a job come from.
enum Source<'a> {
    Stream(JobProgress),
    /// A hub that tells only when asked.
    Asking {
        hub: &'a Client,
        id: &'a str,
        asked: bool,
    },
}

impl<'a> Source<'a> {
    async fn open(
        hub: &'a Client,
        id: &'a str,
    ) -> std::result::Result<Source<'a>, ostler_service_sdk::Error> {
        match hub.job_progress(id).await {
            Ok(stream) => Ok(Source::Stream(stream)),
            Err(error) if error.is_unknown_route() => Ok(Source::Asking { hub, id, asked: false }),
            Err(error) => Err(error),
        }
    }

    /// The next state; meanwhile the view may count down.
    async fn next(&mut self, view: &View) -> Option<std::result::Result<Job, ostler_service_sdk::Error>> {
        match self {
            Source::Stream(stream) => loop {
                tokio::select! {
                    job = stream.next() => return job,
                    () = sleep(Duration::from_secs(1)) => view.tick(),
                }
            },
            Source::Asking { hub, id, asked } => {
                if std::mem::replace(asked, true) {
                    sleep(POLL).await;
                }
                Some(hub.job(id).await)
            }
        }
    }
}

/// How the progress is shown.
enum View {
    /// Not at all.
    Quiet,
    Json,
    Bar(Box<Bar>),
    Lines {
        last: Option<(JobStatus, Instant)>,
    },
}

impl View {
    fn new(out: &Out) -> View {
        if out.is_json() {
            View::Json
        } else if std::io::stderr().is_terminal() && std::io::stdout().is_terminal() {
            View::Bar(Box::new(Bar::new(out)))
        } else {
            View::Lines { last: None }
        }
    }

    fn show(&mut self, job: &Job, out: &Out) -> Result {
        match self {
            View::Quiet => Ok(()),
            View::Json => out.json_line(job),
            View::Bar(bar) => {
                bar.show(job);
                Ok(())
            }
            View::Lines { last } => {
                let due = last.as_ref().is_none_or(|(status, at)| {
                    *status != job.status || at.elapsed() >= LINE_EVERY || job.status.is_final()
                });
                if !due {
                    return Ok(());
                }
                *last = Some((job.status.clone(), Instant::now()));
                out.line(line(job))
            }
        }
    }

    fn remark(&self, text: impl std::fmt::Display, out: &Out) {
        match self {
            View::Bar(bar) => bar.bar.println(format!("warning: {text}")),
            _ => out.warn(text),
        }
    }

    fn tick(&self) {
        if let View::Bar(bar) = self {
            bar.draw();
        }
    }

    fn close(&self) {
        if let View::Bar(bar) = self {
            bar.bar.finish_and_clear();
        }
    }
}

/// A state of a job in one line: `12:00:03.120  reboot-1  running  1000: 900 succeeded, 2 failed  wave 1 of 3`.
fn line(job: &Job) -> String {
    let mut text = format!("{}  {}  {}", when::clock(&Timestamp::now().to_string()), job.job_id, job.status);
    if job.device_job_statistics.is_some() {
        text.push_str(&format!("  {}", counts(job)));
    }
    if let Some(wave) = wave(job) {
        text.push_str(&format!("  wave {wave}"));
    }
    if !job.failures_by_cause.is_empty() {
        text.push_str(&format!("  failures: {}", causes(job)));
    }
    for words in [&job.failure_reason, &job.status_message].into_iter().flatten() {
        text.push_str(&format!("  {}", crate::output::printable(words).replace('\n', " ")));
    }
    text
}

/// A bar with the numbers beside and below it. Everything on it is drawn from one state at once.
struct Bar {
    bar: ProgressBar,
    out: Out,
    drawn: Arc<Mutex<Drawn>>,
    /// When how many devices had ended, the last few seconds of it.
    pace: VecDeque<(Instant, u64)>,
    job: Option<Job>,
}

/// What stands left of the bar, and what stands right of it and below.
#[derive(Default)]
struct Drawn {
    left: String,
    right: String,
}

impl Bar {
    fn new(out: &Out) -> Bar {
        let drawn = Arc::<Mutex<Drawn>>::default();
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{left} {bar:40} {right}") {
            let (left, right) = (drawn.clone(), drawn.clone());
            let style = style.with_key("left", move |_: &ProgressState, text: &mut dyn std::fmt::Write| {
                let _ = text.write_str(&lock(&left).left);
            });
            let style = style.with_key("right", move |_: &ProgressState, text: &mut dyn std::fmt::Write| {
                let _ = text.write_str(&lock(&right).right);
            });
            bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        }
        Bar { bar, out: *out, drawn, pace: VecDeque::new(), job: None }
    }

    fn show(&mut self, job: &Job) {
        let ended = job.device_job_statistics.map_or(0, |counts| counts.ended());
        let soaks = job.wave.as_ref().is_some_and(|wave| wave.soak_until.is_some());
        if job.status == JobStatus::Running && !soaks {
            let now = Instant::now();
            self.pace.push_back((now, ended));
            while self.pace.len() > 2 && self.pace.front().is_some_and(|(at, _)| now - *at > PACE) {
                self.pace.pop_front();
            }
        } else {
            // The time that a job is held, or waits between two waves, is no slowness.
            self.pace.clear();
        }
        self.job = Some(job.clone());
        self.draw();
    }

    /// Draws anew what changes by itself: times.
    fn draw(&self) {
        let Some(job) = &self.job else { return };
        let counts = job.device_job_statistics.unwrap_or_default();
        let left = format!("{} {}", self.out.paint_note(Tone::Bold, &job.job_id), job.status);
        let pace = pace_and_rest(&self.pace, counts.device_count);
        // Before its devices are chosen a job has none to count.
        let count = job
            .device_job_statistics
            .map_or_else(String::new, |counts| format!("{}/{}", counts.ended(), counts.device_count));
        let right = format!("{count}{pace}\n{}", below(job, &self.out));
        *lock(&self.drawn) = Drawn { left, right };
        self.bar.update(|state| {
            state.set_len(counts.device_count.max(1));
            state.set_pos(counts.ended());
        });
        self.bar.force_draw();
    }
}

fn lock(drawn: &Mutex<Drawn>) -> MutexGuard<'_, Drawn> {
    drawn.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `  98/s  4 s left`, once that can be told.
fn pace_and_rest(pace: &VecDeque<(Instant, u64)>, devices: u64) -> String {
    let (Some((from, before)), Some((to, ended))) = (pace.front(), pace.back()) else { return String::new() };
    let (secs, done) = ((*to - *from).as_secs_f64(), ended.saturating_sub(*before));
    if secs <= 0.0 || done == 0 {
        return String::new();
    }
    let rate = done as f64 / secs;
    let left = (devices.saturating_sub(*ended) as f64 / rate).ceil();
    let rate = if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") };
    if left < 1.0 {
        return format!("  {rate}/s");
    }
    format!("  {rate}/s  {} left", when::span(SignedDuration::from_secs(left as i64)))
}

/// The lines below the bar.
fn below(job: &Job, out: &Out) -> String {
    let mut lines = Vec::new();
    match (&job.status, job.start_time.as_deref()) {
        (JobStatus::Queued | JobStatus::Enqueued | JobStatus::Scheduled, Some(start)) => {
            let now = Timestamp::now();
            let waits = start.parse::<Timestamp>().is_ok_and(|time| time > now);
            lines.push(if waits {
                format!("starts {}", when::ago_or_in(start, now))
            } else {
                "about to start".into()
            });
        }
        _ => lines.push(counts(job)),
    }
    if let Some(wave) = wave(job) {
        lines.push(format!("wave {wave}"));
    }
    if !job.failures_by_cause.is_empty() {
        lines.push(out.paint_note(Tone::Bad, format_args!("failures: {}", causes(job))));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(text: &str) -> Job {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn only_a_job_without_failures_is_a_success() {
        for (status, failed, good) in
            [("completed", 0, true), ("completed", 1, false), ("cancelled", 0, false), ("failed", 0, false)]
        {
            let job = job(&format!(
                r#"{{"jobId":"j","type":"scheduleUpdateTwin","status":"{status}","deviceJobStatistics":{{"failedCount":{failed}}}}}"#
            ));
            assert_eq!(verdict(&job).is_ok(), good, "{status} {failed}");
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let start = Instant::now();
        let at = |millis, ended| (start + Duration::from_millis(millis), ended);
        let told = |pace: &[(Instant, u64)]| pace_and_rest(&pace.iter().copied().collect(), 500);
        assert_eq!(told(&[at(0, 100), at(2000, 300)]), "  100/s  2 s left");
        assert_eq!(told(&[at(0, 0), at(4000, 6)]), "  1.5/s  5 min left");
        assert_eq!(told(&[at(0, 107), at(4000, 500)]), "  98/s");
        for nothing in [&[][..], &[at(0, 9)], &[at(0, 9), at(1000, 9)]] {
            assert_eq!(told(nothing), "");
        }
    }

    #[test]
    fn a_job_that_waits_counts_down() {
        let below = |start: &str| {
            let job = job(&format!(
                r#"{{"jobId":"j","type":"scheduleUpdateTwin","status":"scheduled","startTime":"{start}"}}"#
            ));
            below(&job, &Out::new(crate::output::Format::Human, crate::output::ColorChoice::Never))
        };
        assert!(below("9999-01-01T00:00:00Z").starts_with("starts in "));
        assert_eq!(below("2020-01-01T00:00:00Z"), "about to start");
    }

    #[test]
    fn a_line_tells_it_all() {
        let job = job(
            r#"{"jobId":"j","type":"scheduleDeviceMethod","status":"paused","statusMessage":"held by its gate",
                "deviceJobStatistics":{"deviceCount":9,"failedCount":3,"succeededCount":4,"pendingCount":2},
                "wave":{"number":1,"count":2},"failuresByCause":{"A":1,"B":2}}"#,
        );
        let line = line(&job);
        let (_, told) = line.split_once("  ").unwrap();
        assert_eq!(
            told,
            "j  paused  9: 4 succeeded, 3 failed, 2 pending  wave 1 of 2  failures: B 2, A 1  held by its gate"
        );
    }
}
