//! Servers, packages, disks and hooks that do what they should not: what becomes of it, and what is left behind.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use tempfile::TempDir;

use super::disk::Ram;
use super::server::{answer, serve, Asked, Server};
use super::*;
use crate::firmware::{Code, Ending, Exit, Slot, Step, MAX_CHANGES, MAX_REDIRECTS};

const CHUNK: u64 = 1000;

/// A device that runs version 1.0.0, and what is left of its other slot.
struct Device {
    folder: TempDir,
}

impl Device {
    fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    fn builder(&self) -> Builder {
        builder(self.folder.path(), CHUNK)
    }

    /// Lets the updater tidy up.
    async fn tidied(&self, updater: &Updater) {
        let left = || std::fs::read_dir(self.folder.path().join("b")).unwrap().count();
        let https = https();
        tokio::select! {
            result = updater.drive(&https) => panic!("{result:?}"),
            () = async {
                while left() > 0 {
                    tokio::task::yield_now().await;
                }
            } => {}
        }
        self.is_as_before();
    }

    /// Nothing of an image may be left, and the old slot must boot.
    fn is_as_before(&self) {
        let left: Vec<_> = std::fs::read_dir(self.folder.path().join("b")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(std::fs::read_link(self.folder.path().join("current")).unwrap(), Path::new("a"));
    }
}

/// What `server` does to an update with this image.
async fn outcome(server: &Server, new: &[u8]) -> Progress {
    let device = Device::new();
    let updater = device.builder().open().unwrap();
    let progress = run(&updater, Request::Package(package("2.0.0", new, &server.url("image")))).await;
    if progress.state.update.is_none() {
        device.is_as_before();
    }
    progress
}

#[track_caller]
fn fails(progress: &Progress, expected: Code) -> String {
    match &progress.state.last.as_ref().expect("the update has ended").ending {
        Ending::Failed { failure, .. } if failure.code == expected => failure.text.clone(),
        other => panic!("expected {expected}, got {other:?}"),
    }
}

/// The update got as far as booting the new image.
#[track_caller]
fn works(progress: &Progress) {
    assert_eq!(progress.step, Step::Applying, "{progress:?}");
    assert_eq!(progress.state.image(Slot::B).unwrap().version, "2.0.0".parse().unwrap());
}

#[tokio::test]
async fn a_good_server_is_asked_chunk_by_chunk() {
    let new = image(2, 4500);
    let server = Server::good(new.clone());
    works(&outcome(&server, &new).await);
    let ranges: Vec<_> = server.asked().iter().map(|asked| asked.range.unwrap()).collect();
    assert_eq!(ranges, [(0, 999), (1000, 1999), (2000, 2999), (3000, 3999), (4000, 4499)]);
    assert!(server.asked()[1..].iter().all(|asked| asked.if_range.as_deref() == Some("\"v1\"")));
}

#[tokio::test]
async fn endless_redirects_are_refused() {
    let new = image(2, 4500);
    let server = Server::start(|asked: &Asked| {
        answer("302 Found", &[("Location", &format!("/{}", asked.number))], b"")
    });
    fails(&outcome(&server, &new).await, Code::Redirects);
    assert_eq!(server.asked().len() as u32, MAX_REDIRECTS + 1);
}

#[tokio::test]
async fn redirects_are_followed_and_only_to_where_they_may_lead() {
    let new = image(2, 2500);
    let body = new.clone();
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/image" => answer("307 Temporary Redirect", &[("Location", "../there?sig=1")], b""),
        "/there?sig=1" => serve(&body, "\"v1\"", asked),
        other => panic!("{other}"),
    });
    works(&outcome(&server, &new).await);
    for location in ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://"] {
        let server = Server::start(move |_| answer("301 Moved Permanently", &[("Location", location)], b""));
        fails(&outcome(&server, &new).await, Code::BadUrl);
    }
    let server = Server::start(|_| answer("301 Moved Permanently", &[], b""));
    fails(&outcome(&server, &new).await, Code::Redirects);
    // Without TLS only this machine is asked.
    let server = Server::start(|_| answer("302 Found", &[("Location", "http://192.0.2.1/x")], b""));
    fails(&outcome(&server, &new).await, Code::BadUrl);
}

#[tokio::test]
async fn truncated_answers_are_taken_up_where_they_broke() {
    let new = image(2, 4500);
    let body = new.clone();
    let server = Server::start(move |asked| {
        let mut bytes = serve(&body, "\"v1\"", asked);
        if asked.number % 2 == 0 {
            bytes.truncate(bytes.len() - 300);
        }
        bytes
    });
    works(&outcome(&server, &new).await);
    let starts: Vec<_> = server.asked().iter().map(|asked| asked.range.unwrap().0).collect();
    assert_eq!(&starts[..3], [0, 700, 1700]);
}

#[tokio::test]
async fn an_answer_that_never_comes_is_given_up_at_last() {
    let new = image(2, 4500);
    for bytes in
        [&b""[..], b"HTTP/1.1 206", b"\x16\x03\x01 garbage\r\n\r\n", b"HTTP/1.1 206 Partial Content\r\n\r\n"]
    {
        let server = Server::start(move |_| bytes.to_vec());
        fails(&outcome(&server, &new).await, Code::Unreachable);
        assert_eq!(server.asked().len() as u32, tuning(CHUNK).attempts);
    }
}

#[tokio::test]
async fn content_that_changes_midway_starts_again() {
    let (first, new) = (image(3, 4500), image(2, 4500));
    let (one, two) = (first.clone(), new.clone());
    // After two chunks of another image the right one is published.
    let server = Server::start(move |asked| match asked.number {
        0 | 1 => serve(&one, "\"v1\"", asked),
        _ => serve(&two, "\"v2\"", asked),
    });
    works(&outcome(&server, &new).await);
    let starts: Vec<_> = server.asked().iter().map(|asked| asked.range.unwrap().0).collect();
    assert_eq!(&starts[..4], [0, 1000, 2000, 0]);
}

#[tokio::test]
async fn content_that_keeps_changing_is_given_up() {
    let new = image(2, 4500);
    let body = new.clone();
    let server = Server::start(move |asked| serve(&body, &format!("\"{}\"", asked.number), asked));
    fails(&outcome(&server, &new).await, Code::Changed);
    assert_eq!(server.asked().len() as u32, 2 * (MAX_CHANGES + 1));
    // The same for a length that changes.
    let body = new.clone();
    let server = Server::start(move |asked| {
        serve(&body[..4500 - usize::from(asked.range != Some((0, 999)))], "\"v1\"", asked)
    });
    fails(&outcome(&server, &new).await, Code::Changed);
}

#[tokio::test]
async fn a_server_without_ranges_sends_everything_at_once() {
    let new = image(2, 150_000);
    let body = new.clone();
    let server = Server::start(move |asked| {
        let mut bytes = answer("200 OK", &[], &body);
        if asked.number == 0 {
            bytes.truncate(80_000);
        }
        bytes
    });
    works(&outcome(&server, &new).await);
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn the_wrong_bytes_are_thrown_away() {
    let new = image(2, 4500);
    let mut wrong = new.clone();
    wrong[4499] ^= 1;
    let server = Server::good(wrong);
    let text = fails(&outcome(&server, &new).await, Code::DigestMismatch);
    assert!(text.contains(&Digest::of(&new).to_string()), "{text}");
}

#[tokio::test]
async fn an_image_of_another_length_is_stopped() {
    let new = image(2, 4500);
    for length in [4499, 4501, 900_000] {
        let server = Server::good(image(2, length));
        fails(&outcome(&server, &new).await, Code::SizeMismatch);
        assert_eq!(server.asked().len(), 1);
    }
    // One that does not say how long it is, and does not end.
    let server = Server::start(|_| {
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for _ in 0..50 {
            bytes.extend_from_slice(b"400\r\n");
            bytes.extend_from_slice(&[7; 1024]);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    });
    fails(&outcome(&server, &new).await, Code::SizeMismatch);
}

#[tokio::test]
async fn a_busy_server_is_left_alone_as_long_as_it_asks() {
    let new = image(2, 1500);
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        let body = new.clone();
        let server = Server::start(move |asked| match asked.number {
            0 => answer(status, &[("Retry-After", "1")], b"later"),
            _ => serve(&body, "\"v1\"", asked),
        });
        works(&outcome(&server, &new).await);
        let asked = server.asked();
        assert!(asked[1].at.duration_since(asked[0].at) >= Duration::from_secs(1));
    }
}

#[tokio::test]
async fn refusals_are_final() {
    let new = image(2, 1500);
    for status in ["404 Not Found", "403 Forbidden", "410 Gone", "204 No Content"] {
        let server = Server::start(move |_| answer(status, &[], b""));
        let text = fails(&outcome(&server, &new).await, Code::Refused);
        assert!(text.contains(&status[..3]), "{text}");
        assert_eq!(server.asked().len(), 1);
    }
    let server = Server::start(|_| answer("500 Internal Server Error", &[], b""));
    fails(&outcome(&server, &new).await, Code::Unreachable);
}

#[tokio::test]
async fn nobody_at_the_other_end_is_given_up_at_last() {
    let device = Device::new();
    let updater = device.builder().open().unwrap();
    // Nobody listens at port 1.
    let package = package("2.0.0", b"image", "http://127.0.0.1:1/image");
    fails(&run(&updater, Request::Package(package)).await, Code::Unreachable);
    device.is_as_before();
}

#[tokio::test]
async fn a_package_may_be_fetched_first() {
    let new = image(2, 1500);
    let (body, text) = (new.clone(), package("2.0.0", &new, "images/new.bin").to_json());
    let server = Server::start(move |asked| match asked.path.as_str() {
        "/fw/package.json" => answer("200 OK", &[], text.as_bytes()),
        "/fw/images/new.bin" => serve(&body, "\"v1\"", asked),
        _ => answer("404 Not Found", &[], b""),
    });
    let device = Device::new();
    let updater = device.builder().open().unwrap();
    works(&run(&updater, Request::Uri(server.url("fw/package.json"))).await);

    let device = Device::new();
    let updater = device.builder().open().unwrap();
    fails(&run(&updater, Request::Uri(server.url("nothing"))).await, Code::Refused);
    fails(&run(&updater, Request::Uri(server.url("fw/images/new.bin"))).await, Code::BadPackage);
    fails(&run(&updater, Request::Uri("test.com".to_owned())).await, Code::BadUrl);
    device.is_as_before();
}

#[tokio::test]
async fn packages_that_must_not_be_installed_are_refused_before_anything_is_asked() {
    let new = image(2, 1500);
    let server = Server::good(new.clone());
    let url = server.url("image");
    let good = manifest("2.0.0", &new);
    let expired = Manifest { expires: Timestamp::parse("2020-01-01T00:00:00Z"), ..good.clone() };
    let other = Manifest { hardware: vec!["valve-1".to_owned()], ..good.clone() };
    let next = Manifest { minimum_version: Some("1.5".parse().unwrap()), ..good.clone() };
    let stranger = SigningKey::generate().unwrap();
    for (manifest, signed_by, code) in [
        (&expired, key(), Code::Expired),
        (&other, key(), Code::WrongHardware),
        (&next, key(), Code::VersionTooOld),
        (&manifest("0.9", &new), key(), Code::NotNewer),
        (&manifest("1.0.0", &new), key(), Code::NotNewer),
        (&good, stranger, Code::BadSignature),
    ] {
        let device = Device::new();
        let updater = device.builder().open().unwrap();
        let package = sign(manifest, &url, &signed_by);
        let refused = updater.request(Request::Package(package), Source::Call).await.unwrap_err();
        assert_eq!(refused.code, code);
        fails(&updater.progress(), code);
        device.is_as_before();
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_full_disk_is_told_and_cleaned_up() {
    let new = image(2, 40_000);
    let server = Server::good(new.clone());
    let ram = Arc::new(Ram::small(20_000));
    let files = store(Path::new("/fw"), ram.clone()).unwrap();
    let updater = builder(Path::new("/fw"), CHUNK).open_on(files.clone()).unwrap();
    let request = Request::Package(package("2.0.0", &new, &server.url("image")));
    fails(&run(&updater, request).await, Code::DiskFull);
    assert_eq!(files.linked().unwrap(), Slot::A);
    assert!(!server.asked().is_empty());
    // What was there has made room for the next, smaller one.
    let small = image(4, 9000);
    let server = Server::good(small.clone());
    works(&run(&updater, Request::Package(package("2.0.0", &small, &server.url("image")))).await);
}

#[tokio::test]
async fn an_image_larger_than_the_disk_is_not_even_asked_for() {
    let new = image(2, 1500);
    let server = Server::good(new.clone());
    let device = Device::new();
    let updater = device.builder().max_size(u64::MAX).open().unwrap();
    let manifest = Manifest { size: 1 << 60, ..manifest("2.0.0", &new) };
    let request = Request::Package(sign(&manifest, server.url("image"), &key()));
    fails(&run(&updater, request).await, Code::DiskFull);
    assert!(server.asked().is_empty());
    device.is_as_before();
}

#[tokio::test]
async fn hooks_that_refuse_or_panic_leave_the_old_image() {
    let new = image(2, 1500);
    let server = Server::good(new.clone());
    let request = || Request::Package(package("2.0.0", &new, &server.url("image")));

    let device = Device::new();
    let builder = device.builder().install(|install| async move {
        assert_eq!(std::fs::read(install.image).unwrap().len(), 1500);
        Err("no flash".to_owned())
    });
    let updater = builder.open().unwrap();
    let text = fails(&run(&updater, request()).await, Code::InstallFailed);
    assert_eq!(text, "no flash");
    assert_eq!(updater.progress().state.image(Slot::B), None);
    device.tidied(&updater).await;

    let device = Device::new();
    let updater = device.builder().install(|_| async { panic!("out of {}", "luck") }).open().unwrap();
    let text = fails(&run(&updater, request()).await, Code::HookPanicked);
    assert!(text.ends_with("out of luck"), "{text}");
    device.tidied(&updater).await;
}

#[tokio::test]
async fn health_checks_that_refuse_panic_or_hang_lead_back() {
    let new = image(2, 1500);
    let server = Server::good(new.clone());
    for (kind, code) in [(0, Code::Unhealthy), (1, Code::HookPanicked), (2, Code::Unhealthy)] {
        let device = Device::new();
        let boots = Arc::new(AtomicUsize::new(0));
        let open = || {
            let builder = device.builder().confirm_within(Duration::from_millis(50));
            let builder = builder.health_check(move |_| async move {
                match kind {
                    0 => Err("too hot".to_owned()),
                    1 => panic!("too cold"),
                    _ => std::future::pending().await,
                }
            });
            let boots = boots.clone();
            let builder = builder.reboot(move |_| {
                boots.fetch_add(1, Ordering::SeqCst);
                async { Ok(()) }
            });
            builder.open().unwrap()
        };
        let updater = open();
        works(&run(&updater, Request::Package(package("2.0.0", &new, &server.url("image")))).await);
        drop(updater);
        let updater = open();
        assert_eq!((updater.progress().step, updater.progress().running), (Step::Confirming, Slot::B));
        let Exit::Boot(reboot) = updater.drive(&https()).await.unwrap();
        assert_eq!(reboot.slot, Slot::A);
        drop(updater);
        let updater = open();
        let progress = updater.progress();
        assert_eq!((progress.step, progress.running), (Step::RolledBack, Slot::A));
        assert_eq!(progress.state.last.unwrap().ending.code(), Some(code));
        assert_eq!(boots.load(Ordering::SeqCst), 2);
    }
}

#[tokio::test]
async fn a_download_can_be_called_off() {
    let new = image(2, 4500);
    let server = Server::start(|_| answer("503 Service Unavailable", &[("Retry-After", "3000")], b""));
    let device = Device::new();
    let updater = device.builder().open().unwrap();
    let package = package("2.0.0", &new, &server.url("image"));
    updater.request(Request::Package(package), Source::Call).await.unwrap();
    let mut changes = updater.changes();
    let https = https();
    tokio::select! {
        result = updater.drive(&https) => panic!("{result:?}"),
        _ = async {
            while server.asked().is_empty() {
                tokio::task::yield_now().await;
            }
            assert!(updater.cancel().await.unwrap());
            changes.wait_for(|progress| progress.state.update.is_none()).await.unwrap();
        } => {}
    }
    fails(&updater.progress(), Code::Cancelled);
}

#[tokio::test]
async fn a_folder_belongs_to_one_updater() {
    let device = Device::new();
    let updater = device.builder().open().unwrap();
    assert_eq!(device.builder().open().unwrap_err().code, Code::Busy);
    drop(updater);
    device.builder().open().unwrap();
}

#[tokio::test]
async fn a_damaged_state_is_put_aside() {
    let device = Device::new();
    drop(device.builder().open().unwrap());
    std::fs::write(device.folder.path().join("state.json"), "{\"good\":").unwrap();
    let updater = device.builder().open().unwrap();
    assert_eq!(updater.progress().step, Step::StandBy);
    assert!(device.folder.path().join("state.json.damaged").exists());
    // A link that leads nowhere is for a person to look at.
    drop(updater);
    std::fs::remove_file(device.folder.path().join("current")).unwrap();
    std::os::unix::fs::symlink("c", device.folder.path().join("current")).unwrap();
    assert_eq!(device.builder().open().unwrap_err().code, Code::Storage);
}

#[tokio::test]
async fn a_state_that_cannot_be_read_just_now_stays_where_it_is() {
    let device = Device::new();
    drop(device.builder().open().unwrap());
    let state = device.folder.path().join("state.json");
    let kept = device.folder.path().join("kept");
    std::fs::rename(&state, &kept).unwrap();
    // Too many open files, or no right to this one, are harder to come by in a test.
    std::fs::create_dir(&state).unwrap();
    assert_eq!(device.builder().open().unwrap_err().code, Code::Storage);
    assert!(state.is_dir());
    std::fs::remove_dir(&state).unwrap();
    std::fs::rename(&kept, &state).unwrap();
    device.builder().open().unwrap();
}

#[test]
fn a_launcher_gives_up_an_image_that_crashes_before_its_updater() {
    let device = Device::new();
    let new = image(2, 1500);
    let server = Server::good(new.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let updater = device.builder().open().unwrap();
        works(&run(&updater, Request::Package(package("2.0.0", &new, &server.url("image")))).await);
    });
    let folder = device.folder.path();
    let slots: Vec<_> = (0..3).map(|_| crate::firmware::launch(folder, 2).unwrap().slot).collect();
    assert_eq!(slots, [Slot::B, Slot::B, Slot::A]);
    let updater = device.builder().launched().open().unwrap();
    assert_eq!((updater.progress().step, updater.progress().running), (Step::RolledBack, Slot::A));
}
