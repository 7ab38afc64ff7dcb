//! A machine that fails the hub: full disk, folders it may not have, ports that are taken, certificates that ended.
//! Each is told in words that say what to do, and nothing that was acknowledged is lost.

use crate::support::http::create;
use crate::support::hub::{wait, Hub};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

#[test]
fn a_data_folder_serves_one_hub_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let first = Hub::start(&data);
    let (status, text) = Hub::refused(&data, &[]);
    assert!(!status.success());
    assert!(text.contains("in use") && text.contains(data.to_str().unwrap()), "{text}");
    first.owner().register("still-served");
    assert!(first.stop().success());
    Hub::start(&data).owner().call("GET", "/devices/still-served", None).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a-file");
    std::fs::write(&file, "not a folder").unwrap();
    let beneath = file.join("data");
    let (status, text) = Hub::refused(&beneath, &[]);
    assert!(!status.success());
    assert!(text.contains(beneath.to_str().unwrap()), "{text}");
    if let Some(mount) = Mount::tmpfs(folder.path(), "ro,size=1m") {
        let (status, text) = Hub::refused(&mount.0.join("data"), &[]);
        assert!(!status.success());
        assert!(text.to_lowercase().contains("read-only"), "{text}");
    }
}

#[test]
fn a_taken_port_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let (status, text) = Hub::refused(&folder.path().join("data"), &["--mqtt-port", &port]);
    assert!(!status.success());
    assert!(text.contains(&port) && text.contains("mqtt-port"), "{text}");
}

#[test]
fn a_folder_of_a_newer_version_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    Hub::start(&data).stop();
    let format = data.join("store/FORMAT");
    let newer = std::fs::read_to_string(&format).unwrap().replace('1', "2");
    std::fs::write(&format, &newer).unwrap();
    let (status, text) = Hub::refused(&data, &[]);
    assert!(!status.success());
    assert!(text.contains("newer") && text.contains(data.to_str().unwrap()), "{text}");
    assert_eq!(std::fs::read_to_string(&format).unwrap(), newer);
}

#[test]
fn a_certificate_that_has_ended_is_told_and_the_hub_stays_up() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("old.pem"), folder.path().join("old.key"));
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2021, 1, 1);
    std::fs::write(&certificate, parameters.self_signed(&pair).unwrap().pem()).unwrap();
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    let data = folder.path().join("data");
    let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
    let hub = Hub::start_with(&data, &["--certificate", files[0], "--certificate-key", files[1]]);
    hub.owner().register("served-without-tls");
    let log = data.with_extension("log");
    wait("the log to say so", || std::fs::read_to_string(&log).unwrap().contains("expired"));
}

#[test]
fn a_full_disk_refuses_writes_and_loses_none() {
    let folder = tempfile::tempdir().unwrap();
    let Some(mount) = Mount::tmpfs(folder.path(), "size=400m") else {
        println!("needs the right to mount; not run");
        return;
    };
    let data = mount.0.join("data");
    let hub = Hub::start(&data);
    let mut owner = hub.owner();
    owner.register("before");
    // What is left of the disk is taken by somebody else, all but a little: less than the hub keeps free.
    let filler = mount.0.join("filler");
    fill(&filler);
    let mut acknowledged = Vec::new();
    let refusal = (0..20_000).find_map(|i| {
        let device = format!("device-{i}");
        let answer = owner.call("PUT", &format!("/devices/{device}"), Some(&create(&device))).unwrap();
        if answer.status == 200 {
            acknowledged.push(device);
            return None;
        }
        Some(answer)
    });
    let refusal = refusal.unwrap();
    assert!(matches!(refusal.status, 500 | 503 | 507), "{refusal:?}");
    assert!(refusal.json()["Message"].is_string(), "{refusal:?}");
    assert_eq!(owner.call("GET", "/devices/before", None).unwrap().status, 200, "reads go on");
    std::fs::remove_file(&filler).unwrap();
    hub.kill();
    drop(hub);
    let hub = Hub::start(&data);
    let mut owner = hub.owner();
    for device in &acknowledged {
        assert_eq!(
            owner.call("GET", &format!("/devices/{device}"), None).unwrap().status,
            200,
            "{device} is lost"
        );
    }
    owner.register("after");
}

/// Writes until the disk is full, then gives a little back.
fn fill(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).unwrap();
    let block = vec![1; 64 * 1024];
    while file.write_all(&block).is_ok() {}
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(1 << 20)).unwrap();
}

/// A small file system of its own; unmounted when dropped.
struct Mount(std::path::PathBuf);

impl Mount {
    fn tmpfs(folder: &Path, options: &str) -> Option<Self> {
        let at = folder.join("mount");
        std::fs::create_dir_all(&at).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at).output().ok()?;
        mount.status.success().then_some(Self(at))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}
