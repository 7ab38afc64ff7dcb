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
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// for configuration in hub.configurations(100).await? {
    ///     println!("{}", configuration.id);
    /// }
    /// # Ok(()) }
    /// ```
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
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let metrics = hub.configuration("fans-1").await?.system_metrics.unwrap_or_default();
    /// println!("applied to {:?}", metrics.results.get("appliedCount"));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`] when there is no such configuration.
    pub async fn configuration(&self, id: &str) -> Result<Configuration, Error> {
        self.get(path(id)).await
    }

    /// Makes a configuration; twins follow.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::{Configuration, ConfigurationContent, JsonObject};
    ///
    /// let settings = JsonObject::from_iter([("properties.desired.fan".to_owned(), 2.into())]);
    /// let content = ConfigurationContent::devices(settings);
    /// hub.create_configuration(&Configuration::new("fans-1", content, "tags.site = 'A'", 10)).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::Conflict`] when the id is taken, [`crate::ErrorKind::Invalid`] when a member breaks a rule.
    pub async fn create_configuration(&self, configuration: &Configuration) -> Result<Configuration, Error> {
        self.put(path(&configuration.id), None, configuration).await
    }

    /// Changes a configuration: all but its content can be changed.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut fans = hub.configuration("fans-1").await?;
    /// fans.priority = Some(20);
    /// hub.update_configuration(&fans, fans.if_match()).await?;
    /// # Ok(()) }
    /// ```
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
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::IfMatch;
    ///
    /// hub.delete_configuration("fans-1", IfMatch::Any).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::NotFound`], or [`crate::ErrorKind::PreconditionFailed`] when the etag differs.
    pub async fn delete_configuration(&self, id: &str, if_match: IfMatch) -> Result<(), Error> {
        self.delete(path(id), Some(if_match)).await
    }

    /// Says what is wrong with the queries of a configuration to be made.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::ConfigurationQueries;
    ///
    /// let queries = ConfigurationQueries { target_condition: Some("tags.site =".into()), ..Default::default() };
    /// let errors = hub.test_configuration_queries(&queries).await?;
    /// println!("{}", errors.target_condition_error.unwrap_or_else(|| "fine".into()));
    /// # Ok(()) }
    /// ```
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
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::{ConfigurationContent, JsonObject};
    /// use std::collections::BTreeMap;
    ///
    /// let settings = JsonObject::from_iter([("properties.desired.fan".to_owned(), 2.into())]);
    /// let content = ConfigurationContent::edge(BTreeMap::from([("cooler".to_owned(), settings)]));
    /// hub.apply_configuration_content(&"gateway-1".parse()?, &content).await?;
    /// # Ok(()) }
    /// ```
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
