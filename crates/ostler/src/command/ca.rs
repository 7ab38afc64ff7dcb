//! `ostler ca`: the CA of the hub's certificate and how each SDK is made to trust it; CAs of device certificates.

use std::path::{Path, PathBuf};

use base64::engine::general_purpose::STANDARD;
use base64::Engine;
use clap::{Subcommand, ValueEnum};
use ostler_service_sdk::CertificateAuthority;
use ring::digest::{digest, SHA256};
use serde_json::{json, Value};

use crate::exit::{Failure, Result};
use crate::hub::HubOptions;
use crate::input;
use crate::output::{Out, Tone};

#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  ostler ca                      what it is, and the lines for every SDK
  ostler ca --sdk python         the lines for one SDK
  ostler ca --pem > hub-ca.pem   the certificate itself
  ostler ca device add plant-ca plant-ca.pem"
)]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print the certificate alone, as PEM
    #[arg(long, conflicts_with_all = ["path", "sdk"])]
    pem: bool,
    /// Print the path of the certificate's file alone
    #[arg(long, conflicts_with = "sdk")]
    path: bool,
    /// Print the lines for this SDK alone
    #[arg(long, value_enum)]
    sdk: Option<Sdk>,
    #[command(flatten)]
    hub: HubOptions,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// CAs whose certificates devices may sign in with
    #[command(subcommand)]
    Device(DeviceAction),
}

#[derive(Debug, Subcommand)]
enum DeviceAction {
    /// Add a CA, or replace the one of that name
    Add {
        /// Your name for it
        name: String,
        /// Its certificate, PEM; `-` is stdin
        file: PathBuf,
    },
    /// List the CAs
    List,
    /// Remove a CA; devices with its certificates cannot sign in any more
    Remove {
        /// Your name for it
        name: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Sdk {
    Python,
    Node,
    Dotnet,
    Java,
    C,
    Rust,
    /// The retired packages iothub_client and iothub_service_client
    PythonV1,
}

impl Sdk {
    const ALL: [Self; 7] =
        [Self::Python, Self::Node, Self::Dotnet, Self::Java, Self::C, Self::Rust, Self::PythonV1];

    fn title(self) -> &'static str {
        match self {
            Self::Python => "Python",
            Self::Node => "Node.js",
            Self::Dotnet => ".NET",
            Self::Java => "Java",
            Self::C => "C",
            Self::Rust => "Rust",
            Self::PythonV1 => "Python v1 (iothub_client, iothub_service_client)",
        }
    }

    /// The lines that make the SDK trust the CA (device §1.6, service §1.1).
    fn lines(self, ca: &Path) -> String {
        let ca = ca.display();
        match self {
            Self::Python => format!(
                "# device: azure-iot-device\n\
                 client = IoTHubDeviceClient.create_from_connection_string(\n    \
                 CONNECTION_STRING, server_verification_cert=open(\"{ca}\").read())\n\
                 # back end: azure-iot-hub, in the environment\n\
                 export REQUESTS_CA_BUNDLE={ca} SSL_CERT_FILE={ca}"
            ),
            Self::Node => format!(
                "// device: azure-iot-device\n\
                 await client.setOptions({{ ca: fs.readFileSync(\"{ca}\", \"utf8\") }});\n\
                 // device and back end alike, in the environment\n\
                 export NODE_EXTRA_CA_CERTS={ca}"
            ),
            Self::Dotnet => format!(
                "# Linux, in the environment; for good: copy it to /usr/local/share/ca-certificates/ostler.crt\n\
                 # and run update-ca-certificates\n\
                 export SSL_CERT_FILE={ca}\n\
                 # Windows, as administrator\n\
                 certutil -addstore -f Root {ca}"
            ),
            Self::Java => format!(
                "keytool -importcert -noprompt -alias ostler -file {ca} -keystore ostler.jks -storepass changeit\n\
                 java -Djavax.net.ssl.trustStore=ostler.jks -Djavax.net.ssl.trustStorePassword=changeit …"
            ),
            Self::C => format!(
                "/* certificates = the text of {ca} */\n\
                 IoTHubDeviceClient_LL_SetOption(handle, OPTION_TRUSTED_CERT, certificates);"
            ),
            Self::Rust => format!(
                "// ostler-device-sdk and ostler-service-sdk alike, in the environment; in a program: .root_ca_pem(…)\n\
                 export OSTLER_CA_FILE={ca}"
            ),
            Self::PythonV1 => format!("# devices and back ends alike, in the environment\nexport OSTLER_CA_FILE={ca}"),
        }
    }
}

pub async fn run(args: Args, out: &Out) -> Result {
    if let Some(Action::Device(action)) = args.action {
        return device(&args.hub, action, out).await;
    }
    let path = ca_file(&args.hub)?;
    let pem = input::text(&path)?;
    let certificate = Certificate::parse(&pem)
        .ok_or_else(|| Failure::failed(format!("{}: holds no certificate", path.display())))?;
    if args.pem {
        return out.raw(&pem);
    }
    if args.path {
        return out.line(path.display());
    }
    if let (Some(sdk), false) = (args.sdk, out.is_json()) {
        return out.line(sdk.lines(&path));
    }
    let document = json!({
        "path": path, "subject": certificate.subject, "notBefore": certificate.not_before,
        "notAfter": certificate.not_after, "sha256": certificate.sha256, "pem": pem,
        "sdks": Sdk::ALL.map(|sdk| json!({ "sdk": sdk.title(), "lines": sdk.lines(&path) })),
    });
    out.show(&document, |out| {
        out.pairs([
            ("file", path.display().to_string()),
            ("subject", certificate.subject.clone()),
            ("valid", format!("{} to {}", certificate.not_before, certificate.not_after)),
            ("SHA-256", certificate.sha256.clone()),
        ])?;
        Sdk::ALL.iter().try_for_each(|sdk| {
            out.line(format_args!("\n{}", out.paint(Tone::Accent, sdk.title())))?;
            sdk.lines(&path).lines().try_for_each(|line| out.line(format_args!("  {line}")))
        })
    })
}

/// `--ca` if given; what a running hub says; else the place where a hub of this data folder keeps it.
fn ca_file(hub: &HubOptions) -> Result<PathBuf> {
    if let Some(path) = &hub.ca {
        return Ok(path.clone());
    }
    let path = match hub.local_hub().ok().and_then(|hub| hub.ca_file) {
        Some(path) => path,
        None => hub.data.join("ca.pem"),
    };
    if !path.exists() {
        return Err(Failure::new(crate::exit::Exit::NotFound, format!("{} holds no CA", hub.data.display()))
            .advise("`ostler serve` makes one at its first start; name its data folder with --data"));
    }
    std::path::absolute(&path).map_err(|error| Failure::file(&path, &error))
}

async fn device(hub: &HubOptions, action: DeviceAction, out: &Out) -> Result {
    let hub = hub.client()?;
    match action {
        DeviceAction::Add { name, file } => {
            let authority = hub.put_certificate_authority(&name, &input::text(&file)?).await?;
            out.show(&authority, |out| {
                out.note(format_args!(
                    "added {name}; create devices for it with `ostler device create ID --x509-ca`"
                ));
                Ok(())
            })
        }
        DeviceAction::List => {
            let authorities = hub.certificate_authorities().await?;
            out.show(&authorities, |out| {
                if authorities.is_empty() {
                    out.note("no CAs; `ostler ca device add NAME FILE` adds one");
                    return Ok(());
                }
                out.table(
                    &["NAME", "SUBJECT", "VALID UNTIL", "SHA-256"],
                    authorities.iter().map(|authority| {
                        let text = |name: &str| (member(authority, name), None);
                        vec![
                            (authority.name.clone(), None),
                            text("subject"),
                            text("notAfter"),
                            text("thumbprint"),
                        ]
                    }),
                )
            })
        }
        DeviceAction::Remove { name } => {
            hub.delete_certificate_authority(&name).await?;
            out.show(&json!({ "deleted": [name] }), |out| {
                out.note(format_args!("removed {name}"));
                Ok(())
            })
        }
    }
}

fn member(authority: &CertificateAuthority, name: &str) -> String {
    authority.extra.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What a person wants to know of a certificate.
pub struct Certificate {
    pub subject: String,
    pub not_before: String,
    pub not_after: String,
    pub sha256: String,
}

impl Certificate {
    /// The first certificate of a PEM text.
    fn parse(pem: &str) -> Option<Self> {
        let body = pem.split_once("-----BEGIN CERTIFICATE-----")?.1.split_once("-----END")?.0;
        let base64: String = body.split_ascii_whitespace().collect();
        Self::from_der(&STANDARD.decode(base64).ok()?)
    }

    pub fn from_der(der: &[u8]) -> Option<Self> {
        let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
        let time = |secs: i64| {
            jiff::Timestamp::from_second(secs).map_or_else(|_| secs.to_string(), |time| time.to_string())
        };
        let sha256 =
            digest(&SHA256, der).as_ref().iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>();
        Some(Self {
            subject: certificate.subject().to_string(),
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
            sha256: sha256.join(":"),
        })
    }
}
