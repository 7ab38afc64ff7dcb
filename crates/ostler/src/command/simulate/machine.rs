//! What this machine allows: file descriptors, above all.
//!
//! Must not know: what they are for.

use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

use crate::exit::{Failure, Result};

/// Descriptors for everything but devices.
const RESERVE: u64 = 64;

/// Makes room for so many connections, as far as this process may.
///
/// # Errors
/// When the machine allows fewer; the text says how many, and what to do.
pub fn make_room(devices: u64) -> Result {
    let wanted = devices + RESERVE;
    let limit = getrlimit(Resource::Nofile);
    let (Some(soft), Some(hard)) = (limit.current, limit.maximum) else {
        // No limit, or none below what anybody could use.
        return Ok(());
    };
    if soft >= wanted {
        return Ok(());
    }
    // Only a privileged process may raise the hard limit; where that fails, the hard limit counts.
    let raised = Rlimit { current: Some(wanted.max(soft)), maximum: Some(wanted.max(hard)) };
    if setrlimit(Resource::Nofile, raised).is_ok() {
        return Ok(());
    }
    let most = Rlimit { current: Some(hard), maximum: Some(hard) };
    let allowed = if setrlimit(Resource::Nofile, most).is_ok() { hard } else { soft };
    if allowed >= wanted {
        return Ok(());
    }
    let fit = allowed.saturating_sub(RESERVE);
    Err(Failure::failed(format!(
        "{devices} devices need {wanted} open files, and this process may have {allowed}"
    ))
    .advise(format!(
        "Raise the hard limit (`ulimit -Hn`, LimitNOFILE= of systemd, --ulimit nofile= of containers), or simulate \
         with --devices {fit}; further ones in another process, with --start {}",
        fit + 1
    )))
}

/// One thread for each two cores: the other is for the hub, which is often on the same machine, and a thread keeps
/// tens of thousands of devices busy.
pub fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_devices_fit_and_what_does_not_is_told_with_what_to_do() {
        assert!(make_room(8).is_ok());
        // More than Linux allows to anybody (fs.nr_open).
        match make_room(3_000_000_000) {
            Err(Failure::Told { message, advice: Some(advice), .. }) => {
                assert!(message.contains("3000000000 devices") && advice.contains("--devices"), "{advice}");
            }
            Ok(()) => assert!(getrlimit(Resource::Nofile).maximum.is_none()),
            other => panic!("{other:?}"),
        }
    }
}
