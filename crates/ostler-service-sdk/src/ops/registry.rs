//! Devices and modules one by one, and the registry's counts (service §5, §7).

use futures_util::stream::{self, TryStreamExt};
use http::Method;
use ostler_core::id::{DeviceId, EntityId, ModuleId};
use serde::de::DeserializeOwned;
use serde::Serialize;

use super::{encode, entity_path, json_body, IfMatch};
use crate::error::{Error, ErrorKind};
use crate::model::{Device, DeviceStatistics, Module, ServiceStatistics};
use crate::retry::Safety;
use crate::rows::Rows;
use crate::transport::Call;
use crate::Client;

/// Devices in one list, the service's limit.
const MAX_LISTED: u32 = 1000;

impl Client {
    /// A device's identity, keys included.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let pump = hub.device(&"pump-7".parse()?).await?;
    /// println!("{} is {:?}", pump.device_id, pump.connection_state);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such device.
    pub async fn device(&self, id: &DeviceId) -> Result<Device, Error> {
        self.get(entity_path("devices", &id.into())).await
    }

    /// Up to `top` devices, in the hub's order; the service hands out 1,000 at most.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// for device in hub.devices(20).await? {
    ///     println!("{}", device.device_id);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn devices(&self, top: u32) -> Result<Vec<Device>, Error> {
        self.devices_after(None, top).await
    }

    /// Up to `top` devices behind an id, in the order of their ids, 1,000 at most. Azure IoT Hub, and a strict hub,
    /// ignore the id: they start from the beginning again.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let first = hub.devices(100).await?;
    /// if let Some(last) = first.last() {
    ///     let next = hub.devices_after(Some(&last.device_id.parse()?), 100).await?;
    ///     println!("{} more", next.len());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn devices_after(&self, after: Option<&DeviceId>, top: u32) -> Result<Vec<Device>, Error> {
        let mut call = Call::new(Method::GET, "/devices");
        call.query = format!("&top={top}");
        if let Some(after) = after {
            call.query.push_str(&format!("&after={}", encode(after.as_str())));
        }
        self.transport.send(&call).await?.json()
    }

    /// Every device, page by page, in the order of their ids.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut devices = hub.all_devices();
    /// while let Some(device) = devices.try_next().await? {
    ///     println!("{}", device.device_id);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The stream ends with the first error. A hub that cannot go on behind an id, and has more devices than one page
    /// holds, ends it with [`Error::UnexpectedAnswer`] instead of repeating itself.
    pub fn all_devices(&self) -> Rows<Device> {
        let start = (self.clone(), Some(None::<DeviceId>));
        let pages = stream::try_unfold(start, |(client, state)| async move {
            let Some(after) = state else { return Ok(None) };
            let page = client.devices_after(after.as_ref(), MAX_LISTED).await?;
            let repeats = |first: &Device| {
                after.as_ref().is_some_and(|after| first.device_id.as_str() <= after.as_str())
            };
            if page.first().is_some_and(repeats) {
                let reason = format!("this hub lists no more than {MAX_LISTED} devices");
                return Err(Error::UnexpectedAnswer { status: 200, reason });
            }
            let last = page.last().filter(|_| page.len() as u64 == u64::from(MAX_LISTED));
            let next = last.map(|last| device_id(&last.device_id)).transpose()?.map(Some);
            Ok(Some((stream::iter(page.into_iter().map(Ok)), (client, next))))
        });
        Rows::new(pages.try_flatten())
    }

    /// Creates a device and returns it with what the hub made: keys, etag, generation.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::Device;
    ///
    /// let pump = hub.create_device(&Device::new("pump-7")).await?;
    /// println!("{}", pump.connection_string(hub.hostname()).unwrap_or_default());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the id is taken.
    pub async fn create_device(&self, device: &Device) -> Result<Device, Error> {
        self.put(entity_path("devices", &entity(&device.device_id, None)?), None, device).await
    }

    /// Overwrites a device that exists.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::Status;
    ///
    /// let mut pump = hub.device(&"pump-7".parse()?).await?;
    /// pump.status = Some(Status::Disabled);
    /// pump.status_reason = Some("stolen".into());
    /// hub.update_device(&pump, pump.if_match()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::PreconditionFailed`] when the etag differs.
    pub async fn update_device(&self, device: &Device, if_match: IfMatch) -> Result<Device, Error> {
        self.put(entity_path("devices", &entity(&device.device_id, None)?), Some(if_match), device).await
    }

    /// Deletes a device with its modules, twin and messages, and drops its connection.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::IfMatch;
    ///
    /// hub.delete_device(&"pump-7".parse()?, IfMatch::Any).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::PreconditionFailed`] when the etag differs.
    pub async fn delete_device(&self, id: &DeviceId, if_match: IfMatch) -> Result<(), Error> {
        self.delete(entity_path("devices", &id.into()), Some(if_match)).await
    }

    /// A module's identity, keys included.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let valve = hub.module(&"pump-7".parse()?, &"valve".parse()?).await?;
    /// println!("{:?}", valve.connection_state);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such device or module.
    pub async fn module(&self, device: &DeviceId, module: &ModuleId) -> Result<Module, Error> {
        self.get(entity_path("devices", &EntityId::of_module(device, module))).await
    }

    /// All modules of a device.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// for module in hub.modules(&"pump-7".parse()?).await? {
    ///     println!("{}", module.module_id);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when there is no such device.
    pub async fn modules(&self, device: &DeviceId) -> Result<Vec<Module>, Error> {
        self.get(format!("{}/modules", entity_path("devices", &device.into()))).await
    }

    /// Creates a module and returns it with what the hub made.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::Module;
    ///
    /// let valve = hub.create_module(&Module::new("pump-7", "valve")).await?;
    /// println!("{}", valve.connection_string(hub.hostname()).unwrap_or_default());
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] when the id is taken, [`ErrorKind::NotFound`] when there is no such device.
    pub async fn create_module(&self, module: &Module) -> Result<Module, Error> {
        let id = entity(&module.device_id, Some(&module.module_id))?;
        self.put(entity_path("devices", &id), None, module).await
    }

    /// Overwrites a module that exists.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut valve = hub.module(&"pump-7".parse()?, &"valve".parse()?).await?;
    /// valve.managed_by = Some("plant".into());
    /// hub.update_module(&valve, valve.if_match()).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::PreconditionFailed`] when the etag differs.
    pub async fn update_module(&self, module: &Module, if_match: IfMatch) -> Result<Module, Error> {
        let id = entity(&module.device_id, Some(&module.module_id))?;
        self.put(entity_path("devices", &id), Some(if_match), module).await
    }

    /// Deletes a module with its twin, and drops its connection.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// use ostler_service_sdk::IfMatch;
    ///
    /// hub.delete_module(&"pump-7".parse()?, &"valve".parse()?, IfMatch::Any).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], or [`ErrorKind::PreconditionFailed`] when the etag differs.
    pub async fn delete_module(
        &self,
        device: &DeviceId,
        module: &ModuleId,
        if_match: IfMatch,
    ) -> Result<(), Error> {
        self.delete(entity_path("devices", &EntityId::of_module(device, module)), Some(if_match)).await
    }

    /// How many devices there are.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// println!("{} devices", hub.device_statistics().await?.total_device_count);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn device_statistics(&self) -> Result<DeviceStatistics, Error> {
        self.get("/statistics/devices".to_owned()).await
    }

    /// How many devices are connected.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// println!("{} connected", hub.service_statistics().await?.connected_device_count);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn service_statistics(&self) -> Result<ServiceStatistics, Error> {
        self.get("/statistics/service".to_owned()).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: String) -> Result<T, Error> {
        self.transport.send(&Call::new(Method::GET, path)).await?.json()
    }

    /// A creation, or a conditional write, that was executed and whose answer got lost fails when repeated; so
    /// neither is repeated then.
    pub(crate) async fn put<T: Serialize + DeserializeOwned>(
        &self,
        path: String,
        if_match: Option<IfMatch>,
        value: &T,
    ) -> Result<T, Error> {
        let mut call = Call::new(Method::PUT, path);
        if !if_match.as_ref().is_some_and(IfMatch::is_repeatable) {
            call.safety = Safety::Once;
        }
        call.if_match = if_match.map(|if_match| if_match.header());
        call.body = json_body(value)?;
        self.transport.send(&call).await?.json()
    }

    /// Not repeated once it may have been executed: the caller could not tell "deleted" from "was never there".
    pub(crate) async fn delete(&self, path: String, if_match: Option<IfMatch>) -> Result<(), Error> {
        let mut call = Call::new(Method::DELETE, path);
        call.safety = Safety::Once;
        call.if_match = if_match.map(|if_match| if_match.header());
        self.transport.send(&call).await.map(drop)
    }

    /// Whether a device is there.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// if !hub.device_exists(&"pump-7".parse()?).await? {
    ///     println!("nobody of that name");
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Whatever [`Client::device`] answers, except that there is no such device.
    pub async fn device_exists(&self, id: &DeviceId) -> Result<bool, Error> {
        match self.device(id).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn device_id(text: &str) -> Result<DeviceId, Error> {
    Ok(DeviceId::new(text)?)
}

/// An id that breaks the rules would be refused by the hub anyway; a `/` in it would change the route.
fn entity(device: &str, module: Option<&str>) -> Result<EntityId, Error> {
    let device = device_id(device)?;
    match module {
        None => Ok(device.into()),
        Some(module) => Ok(EntityId::of_module(&device, &ModuleId::new(module)?)),
    }
}
