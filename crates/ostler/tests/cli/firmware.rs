//! `ostler firmware` as its users meet it: keys, packages, the server, and a device that is updated through a hub.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use ostler_device_sdk::firmware::{Code, Exit, Progress, Slot, Step, Updater};
use ostler_device_sdk::Client;
use serde_json::{json, Value};
use tempfile::TempDir;

use crate::support::{ostler, Hub, Ran};

fn run(folder: &Path, args: &[&str]) -> Ran {
    Ran::of(ostler(args).current_dir(folder).output().unwrap())
}

/// A folder with a key pair, an image, and its package.
fn signed() -> TempDir {
    let folder = TempDir::new().unwrap();
    let image: Vec<u8> = (0..3_000_000u32).map(|number| (number % 251) as u8).collect();
    std::fs::write(folder.path().join("pump 2.bin"), image).unwrap();
    run(folder.path(), &["firmware", "keygen", "release"]).ok();
    run(folder.path(), &sign(&["--to", "pump-2.json"])).ok();
    folder
}

fn sign<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["firmware", "sign", "pump 2.bin", "--key", "release.key", "--version", "2.0.0"];
    args.extend(["--hardware", "pump-a1", "--minimum-version", "1.0"]);
    args.extend(more);
    args
}

/// `ostler firmware serve`, until it is dropped.
struct Serving {
    process: Child,
    url: String,
}

impl Serving {
    fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[])
    }

    fn start_with(folder: &Path, flags: &[&str]) -> Self {
        let mut process = ostler(&["firmware", "serve", "--port", "0", "-o", "json"])
            .args(flags)
            .current_dir(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        // What it tells of requests is read, so that it does not wait for a reader.
        std::thread::spawn(move || lines.count());
        Self { process, url: first["url"].as_str().unwrap().to_owned() }
    }

    /// Status, and the headers and body as they came.
    fn ask(&self, path: &str, headers: &[&str]) -> (u16, String, Vec<u8>) {
        let mut command = Command::new("curl");
        command.args(["--silent", "--include", "--path-as-is", &format!("{}{path}", self.url)]);
        for header in headers {
            command.args(["--header", header]);
        }
        let output = command.output().unwrap().stdout;
        let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(output[..end].to_vec()).unwrap().to_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, output[end + 4..].to_vec())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn keys_are_kept_safe() {
    let folder = TempDir::new().unwrap();
    let made = run(folder.path(), &["firmware", "keygen", "release", "-o", "json"]).ok().json();
    let secret = folder.path().join("release.key");
    assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&secret).unwrap();
    let again = run(folder.path(), &["firmware", "keygen", "release"]).fails(4);
    assert!(!again.stderr.contains(text.lines().nth(1).unwrap()));
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), text);
    let public = std::fs::read_to_string(folder.path().join("release.pub")).unwrap();
    let key: ostler_device_sdk::firmware::PublicKey = public.parse().unwrap();
    assert_eq!(made["publicKey"], key.to_base64());
    // Half a pair is not left behind.
    std::fs::write(folder.path().join("half.pub"), "").unwrap();
    run(folder.path(), &["firmware", "keygen", "half"]).fails(4);
    assert!(!folder.path().join("half.key").exists());
}

#[test]
fn what_was_signed_is_verified() {
    let folder = signed();
    let verify = |more: &[&str]| {
        let mut args = vec!["firmware", "verify", "pump-2.json"];
        args.extend(more);
        run(folder.path(), &args)
    };
    let shown = verify(&["pump 2.bin", "--public-key", "release.pub", "-o", "json"]).ok().json();
    assert_eq!((&shown["version"], &shown["size"]), (&json!("2.0.0"), &json!(3_000_000)));
    assert_eq!(shown["url"], "pump%202.bin");
    verify(&["--public-key", "release.pub", "--hardware", "pump-a1", "--running", "1.2"]).ok();
    verify(&["--public-key", "release.pub", "--hardware", "valve", "--running", "1.2"]).fails(1);
    verify(&["--public-key", "release.pub", "--hardware", "pump-a1", "--running", "2.0"]).fails(1);
    run(folder.path(), &["firmware", "keygen", "other"]).ok();
    let ran = verify(&["--public-key", "other.pub"]).fails(1);
    assert!(ran.stderr.contains("not signed by the trusted key"), "{}", ran.stderr);
    verify(&["--public-key", "other.pub", "--public-key", "release.pub"]).ok();
    let ran = verify(&["release.pub", "--public-key", "release.pub"]).fails(1);
    assert!(ran.stderr.contains("is not the image that was signed"), "{}", ran.stderr);
    verify(&["none.bin", "--public-key", "release.pub"]).fails(3);
    verify(&[]).fails(2);
    let ran = run(folder.path(), &sign(&["--expires", "2020-01-01T00:00:00Z", "--url", "https://h/x"])).ok();
    std::fs::write(folder.path().join("pump-2.json"), ran.stdout).unwrap();
    assert!(verify(&["--public-key", "release.pub"]).ok().stderr.contains("expired"));
    run(folder.path(), &sign(&["--expires", "some day"])).fails(2);
    run(folder.path(), &sign(&["--hardware", ""])).fails(2);
}

#[test]
fn images_are_served_in_parts_and_nothing_else_is() {
    let folder = signed();
    let server = Serving::start(folder.path());
    let image = std::fs::read(folder.path().join("pump 2.bin")).unwrap();
    let (status, head, body) = server.ask("pump%202.bin", &[]);
    assert_eq!((status, body == image), (200, true));
    let etag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
    let (status, head, body) =
        server.ask("pump%202.bin", &["Range: bytes=1000-1999", &format!("If-Range: {etag}")]);
    assert_eq!((status, &body[..]), (206, &image[1000..2000]));
    assert!(head.contains("content-range: bytes 1000-1999/3000000"), "{head}");
    let (status, _, body) = server.ask("pump%202.bin", &["Range: bytes=1000-1999", "If-Range: \"other\""]);
    assert_eq!((status, body.len()), (200, image.len()));
    let (status, head, _) = server.ask("pump%202.bin", &["Range: bytes=3000000-"]);
    assert!(status == 416 && head.contains("content-range: bytes */3000000"), "{head}");
    for path in ["", "release.key", "../etc/passwd", "%2e%2e/etc/passwd", "none"] {
        assert_eq!(server.ask(path, &[]).0, 404, "{path}");
    }
    std::fs::write(folder.path().join("pump 2.bin"), b"new").unwrap();
    let (status, head, _) = server.ask("pump%202.bin", &["Range: bytes=1-", &format!("If-Range: {etag}")]);
    assert_eq!(status, 200, "{head}");
}

#[test]
fn images_are_served_over_tls() {
    let folder = signed();
    let pair = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = parameters.self_signed(&pair).unwrap();
    std::fs::write(folder.path().join("tls.pem"), certificate.pem()).unwrap();
    std::fs::write(folder.path().join("tls.key"), pair.serialize_pem()).unwrap();
    let server = Serving::start_with(folder.path(), &["--certificate", "tls.pem", "--tls-key", "tls.key"]);
    let output = Command::new("curl")
        .args(["--silent", "--fail", "--cacert", "tls.pem", &format!("{}pump-2.json", server.url)])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(server.url.starts_with("https://"), "{}", server.url);
    assert_eq!(output.stdout, std::fs::read(folder.path().join("pump-2.json")).unwrap());
    run(folder.path(), &["firmware", "serve", "--certificate", "tls.pem"]).fails(2);
    let flags = ["firmware", "serve", "--port", "0", "--certificate", "tls.key", "--tls-key", "tls.pem"];
    run(folder.path(), &flags).fails(1);
}

/// A device process from boot to boot; returns whether it wants to be booted.
async fn device(hub: &Hub, folder: &Path, text: &str, key: &str, until: impl Fn(&Progress) -> bool) -> bool {
    let ca = std::fs::read(hub_ca(hub)).unwrap();
    let hub_file: Value =
        serde_json::from_slice(&std::fs::read(hub.data().join("hub.json")).unwrap()).unwrap();
    let port = u16::try_from(hub_file["mqttPort"].as_u64().unwrap()).unwrap();
    let client = Client::builder(text.parse().unwrap()).root_ca_pem(ca).mqtt_port(port).build().unwrap();
    let updater = Updater::builder(folder, "pump-a1", "1.0.0".parse().unwrap())
        .trust(key.parse().unwrap())
        .open()
        .unwrap();
    let mut changes = updater.changes();
    let boots = tokio::select! {
        result = updater.run(&client) => {
            let Exit::Boot(reboot) = result.unwrap() else { panic!("there is nothing else") };
            assert_eq!(reboot.slot, Slot::B);
            true
        }
        _ = changes.wait_for(|progress| until(progress)) => false,
    };
    client.close(std::time::Duration::from_secs(5)).await;
    boots
}

fn hub_ca(hub: &Hub) -> String {
    hub.run(&["ca", "--path"]).ok().stdout.trim().to_owned()
}

#[test]
fn a_device_is_updated_through_the_hub() {
    let folder = signed();
    let server = Serving::start(folder.path());
    let hub = Hub::start();
    hub.run(&["device", "create", "pump-7"]).ok();
    let text = hub.run(&["device", "connection-string", "pump-7"]).ok().stdout.trim().to_owned();
    let key = std::fs::read_to_string(folder.path().join("release.pub")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let slots = folder.path().join("slots");

    let failed = |progress: &Progress| progress.step == Step::Failed;
    // The back end: asks as in the tutorials, as soon as the device is there.
    let payload = json!({ "fwPackageUri": format!("{}pump-2.json", server.url) }).to_string();
    let boots = std::thread::scope(|scope| {
        let caller = scope.spawn(|| {
            let args = [
                "method",
                "invoke",
                "pump-7",
                "firmwareUpdate",
                &payload,
                "--connect-timeout",
                "60",
                "-o",
                "json",
            ];
            hub.run(&args).ok().json()
        });
        let boots = runtime.block_on(device(&hub, &slots, &text, &key, failed));
        let answer = caller.join().unwrap();
        assert_eq!(answer["payload"]["status"], "started", "{answer}");
        boots
    });
    assert!(boots);
    let reported =
        || hub.run(&["twin", "show", "pump-7", "-o", "json"]).ok().json()["properties"]["reported"].clone();
    let before = reported();
    assert_eq!(
        (&before["firmwareStatus"], &before["firmware"]["target"]),
        (&json!("applying"), &json!("2.0.0"))
    );
    assert_eq!(std::fs::read_link(slots.join("current")).unwrap(), Path::new("b"));

    // The next boot confirms by reaching the hub, and says so.
    let told = |progress: &Progress| progress.state.last.as_ref().is_some_and(|last| last.told);
    let boots = runtime.block_on(device(&hub, &slots, &text, &key, told));
    assert!(!boots);
    let after = reported();
    assert_eq!(after["firmwareStatus"], "completed", "{after}");
    assert_eq!(after["firmware"]["version"], "2.0.0");
    assert_eq!(after["firmware"]["slot"], "b");
    for key in ["standByTime", "downloadingTime", "applyingTime", "completedTime"] {
        assert!(after[key].is_string(), "{key}: {after}");
    }

    // A package that nobody trusted has signed, as a desired property.
    run(folder.path(), &["firmware", "keygen", "stranger"]).ok();
    let mut args = sign(&["--url", "http://127.0.0.1:1/x"]);
    args[4] = "stranger.key";
    args[6] = "3.0.0";
    let package = run(folder.path(), &args).ok().stdout;
    hub.run(&["twin", "set", "pump-7", "desired", "--json", &format!("{{\"firmware\":{package}}}")]).ok();
    let refused = |progress: &Progress| {
        progress
            .state
            .last
            .as_ref()
            .is_some_and(|last| last.told && last.ending.code() == Some(Code::BadSignature))
    };
    runtime.block_on(device(&hub, &slots, &text, &key, refused));
    let last = reported();
    assert_eq!(last["firmwareStatus"], "downloadFailed");
    assert_eq!(last["firmware"]["error"]["code"], "badSignature");
}
