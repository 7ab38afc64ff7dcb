//! Automatic configurations (service §11).

use http::Method;
use ostler_core::id::DeviceId;

use super::{encode, json_body, IfMatch};
use crate::error::Error;
use crate::model::{Configuration, ConfigurationContent, ConfigurationQueries, ConfigurationQueryErrors};
use crate::retry::Safety;
use crate::transport::Call;
use crate::Client;

impl Client {
    /// Up to `top` configurations with their metrics; a hub holds 100 at most.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn configurations(&self, top: u32) -> Result<Vec<Configuration>, Error> {
        let mut call = Call::new(Method::GET, "/configurations");
        call.query = format!("&top={top}");
        self.transport.send(&call).await?.json()
    }

    /// A configuration with its metrics, counted now.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such configuration.
    pub async fn configuration(&self, id: &str) -> Result<Configuration, Error> {
        self.get(path(id)).await
    }

    /// Makes a configuration; twins follow.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Conflict`] when the id is taken, [`crate::ErrorKind::Invalid`] when a member breaks a rule.
    pub async fn create_configuration(&self, configuration: &Configuration) -> Result<Configuration, Error> {
        self.put(path(&configuration.id), None, configuration).await
    }

    /// Changes a configuration: all but its content can be changed.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`], [`crate::ErrorKind::PreconditionFailed`] when the etag differs, or
    /// [`crate::ErrorKind::Invalid`].
    pub async fn update_configuration(
        &self,
        configuration: &Configuration,
        if_match: IfMatch,
    ) -> Result<Configuration, Error> {
        self.put(path(&configuration.id), Some(if_match), configuration).await
    }

    /// Deletes a configuration; its settings are removed from twins.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`], or [`crate::ErrorKind::PreconditionFailed`] when the etag differs.
    pub async fn delete_configuration(&self, id: &str, if_match: IfMatch) -> Result<(), Error> {
        self.delete(path(id), Some(if_match)).await
    }

    /// Says what is wrong with the queries of a configuration to be made.
    ///
    /// # Errors
    /// See [`Error`]; a wrong query is none.
    pub async fn test_configuration_queries(
        &self,
        queries: &ConfigurationQueries,
    ) -> Result<ConfigurationQueryErrors, Error> {
        let mut call = Call::new(Method::POST, "/configurations/testQueries");
        // It only looks.
        call.safety = Safety::Repeatable;
        call.body = json_body(queries)?;
        self.transport.send(&call).await?.json()
    }

    /// Puts content into the modules of an edge device, once.
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`], or [`crate::ErrorKind::Invalid`] for a device that is not an edge device.
    pub async fn apply_configuration_content(
        &self,
        device: &DeviceId,
        content: &ConfigurationContent,
    ) -> Result<(), Error> {
        let path = format!("/devices/{}/applyConfigurationContent", encode(device.as_str()));
        let mut call = Call::new(Method::POST, path);
        // Setting the same twice leaves the same values.
        call.safety = Safety::Repeatable;
        call.body = json_body(content)?;
        self.transport.send(&call).await.map(drop)
    }
}

fn path(id: &str) -> String {
    format!("/configurations/{}", encode(id))
}
