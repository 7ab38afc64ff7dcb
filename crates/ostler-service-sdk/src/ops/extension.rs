//! Ostler's own routes under `/ostler/v1/`. Azure IoT Hub answers them with 404, a strict hub too.

use std::time::{Duration, Instant};

use http::Method;
use ostler_core::id::EntityId;
use serde_json::json;

use super::{encode, json_body};
use crate::error::Error;
use crate::model::{BackupReport, CertificateAuthority, Diagnosis, HubStatus, KeySlot, Policy};
use crate::retry::Safety;
use crate::transport::Call;
use crate::Client;

/// What [`Client::probe`] found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Probe {
    /// From the first byte sent to the last received, connecting included.
    pub round_trip: Duration,
    /// The hub's `Date` header, as HTTP writes it.
    pub date: Option<String>,
    /// Why the hub refused the caller, if it did.
    pub refusal: Option<Error>,
}

impl Client {
    /// How the hub is doing.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// println!("{:?}", hub.status().await?.get("version"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<HubStatus, Error> {
        self.get("/ostler/v1/status".to_owned()).await
    }

    /// Whether the hub answers at all, how fast, and what time it has. An answer that refuses the caller is an answer too.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let probe = hub.probe().await?;
    /// println!("{} ms, {:?}", probe.round_trip.as_millis(), probe.refusal.map(|error| error.to_string()));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn probe(&self) -> Result<Probe, Error> {
        let started = Instant::now();
        let reply = self.transport.exchange(&Call::new(Method::GET, "/statistics/service")).await?;
        let round_trip = started.elapsed();
        let date = reply.headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
        let date = date.map(str::to_owned);
        let refusal = (!reply.status.is_success()).then(|| reply.into_fault());
        Ok(Probe { round_trip, date, refusal })
    }

    /// Why a device or module is or is not online.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let diagnosis = hub.diagnosis(&"pump-7".parse()?).await?;
    /// println!("{}", diagnosis.summary.unwrap_or_default());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// See [`Error`]. A name nobody registered is a finding, not an error.
    pub async fn diagnosis(&self, id: &EntityId) -> Result<Diagnosis, Error> {
        let mut call =
            Call::new(Method::GET, format!("/ostler/v1/devices/{}/diagnosis", encode(id.device())));
        if let Some(module) = id.module() {
            call.query = format!("&moduleId={}", encode(module));
        }
        self.transport.send(&call).await?.json()
    }

    /// All shared access policies, keys included.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// for policy in hub.policies().await? {
    ///     println!("{}: {:?}", policy.name, policy.rights);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::Unauthorized`] for a policy that lacks a right.
    pub async fn policies(&self) -> Result<Vec<Policy>, Error> {
        self.get("/ostler/v1/policies".to_owned()).await
    }

    /// One shared access policy, keys included.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// println!("{:?}", hub.policy("service").await?.rights);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such policy.
    pub async fn policy(&self, name: &str) -> Result<Policy, Error> {
        self.get(policy_path(name)).await
    }

    /// Creates a policy and returns it with its keys.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::{Policy, Right};
    ///
    /// let reports = hub.create_policy(&Policy::new("reports", vec![Right::ServiceConnect])).await?;
    /// assert!(reports.primary_key.is_some());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::Conflict`] when the name is taken.
    pub async fn create_policy(&self, policy: &Policy) -> Result<Policy, Error> {
        let mut call = Call::new(Method::POST, "/ostler/v1/policies");
        call.body = json_body(policy)?;
        self.transport.send(&call).await?.json()
    }

    /// Deletes a policy; whoever signs in with it is locked out.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// hub.delete_policy("reports").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such policy.
    pub async fn delete_policy(&self, name: &str) -> Result<(), Error> {
        self.delete(policy_path(name), None).await
    }

    /// Replaces one of a policy's keys and returns the policy.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::KeySlot;
    ///
    /// let reports = hub.rotate_policy("reports", KeySlot::Secondary).await?;
    /// println!("{} has a new secondary key", reports.name);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such policy.
    pub async fn rotate_policy(&self, name: &str, slot: KeySlot) -> Result<Policy, Error> {
        let mut call = Call::new(Method::POST, format!("{}/rotate", policy_path(name)));
        call.query = format!("&key={}", slot.as_str());
        self.transport.send(&call).await?.json()
    }

    /// The authorities whose certificates devices may sign in with.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// for authority in hub.certificate_authorities().await? {
    ///     println!("{}", authority.name);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn certificate_authorities(&self) -> Result<Vec<CertificateAuthority>, Error> {
        self.get("/ostler/v1/certificate-authorities".to_owned()).await
    }

    /// One authority, its certificate included.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// println!("{}", hub.certificate_authority("plant").await?.pem.unwrap_or_default());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is none of that name.
    pub async fn certificate_authority(&self, name: &str) -> Result<CertificateAuthority, Error> {
        self.get(authority_path(name)).await
    }

    /// Adds an authority, or replaces the one of that name.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let pem = "-----BEGIN CERTIFICATE-----…";
    /// hub.put_certificate_authority("plant", pem).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] when the PEM is no certificate of an authority.
    pub async fn put_certificate_authority(
        &self,
        name: &str,
        pem: &str,
    ) -> Result<CertificateAuthority, Error> {
        let mut call = Call::new(Method::PUT, authority_path(name));
        call.safety = Safety::Repeatable;
        call.body = json_body(&json!({ "name": name, "pem": pem }))?;
        self.transport.send(&call).await?.json()
    }

    /// Removes an authority.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// hub.delete_certificate_authority("plant").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is none of that name.
    pub async fn delete_certificate_authority(&self, name: &str) -> Result<(), Error> {
        self.delete(authority_path(name), None).await
    }

    /// Makes a consistent copy of the hub's data in a folder on the hub's own machine, while it serves.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use std::time::Duration;
    ///
    /// let report = hub.backup("/var/backups/ostler/monday", Duration::from_secs(600)).await?;
    /// println!("{} records", report.records);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::Conflict`] or [`crate::ErrorKind::Invalid`] when the folder cannot be used.
    pub async fn backup(&self, path: &str, timeout: Duration) -> Result<BackupReport, Error> {
        let mut call = Call::new(Method::POST, "/ostler/v1/backup");
        call.body = json_body(&json!({ "path": path }))?;
        call.timeout = Some(timeout);
        self.transport.send(&call).await?.json()
    }
}

fn policy_path(name: &str) -> String {
    format!("/ostler/v1/policies/{}", encode(name))
}

fn authority_path(name: &str) -> String {
    format!("/ostler/v1/certificate-authorities/{}", encode(name))
}
