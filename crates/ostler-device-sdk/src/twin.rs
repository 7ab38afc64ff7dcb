//! The twin as a program sees it: typed where it likes, and as the hub wrote it where it must be exact (device §4, §5).
//!
//! Must not know: connections.
//!
//! Invariant: text handed out as JSON is the hub's own, byte for byte.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::TwinError;

/// A twin as a device sees it: what the back end desires, and what the device has reported.
///
/// ```no_run
/// # #[derive(serde::Deserialize)] struct Wishes { interval: u32 }
/// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::TwinError> {
/// let twin = client.twin().await?;
/// println!("desired version {}", twin.desired().version());
/// let wishes: Wishes = twin.desired().to()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Twin {
    text: Arc<str>,
    desired: Section,
    reported: Section,
}

/// The desired or the reported properties.
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::TwinError> {
/// if let Some(interval) = client.twin().await?.desired().get("interval") {
///     println!("{interval}");
/// }
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Section {
    values: Map<String, Value>,
    version: u64,
}

impl Section {
    fn new(value: Value) -> Result<Self, TwinError> {
        let Value::Object(mut values) = value else {
            return Err(TwinError::Shape("a section of the twin is no object".to_owned()));
        };
        let version = values.remove("$version").and_then(|version| version.as_u64()).unwrap_or(0);
        values.remove("$metadata");
        Ok(Self { values, version })
    }

    /// Counts the changes of the section.
    ///
    /// ```no_run
    /// # fn example(section: ostler_device_sdk::Section) {
    /// println!("version {}", section.version());
    /// # }
    /// ```
    pub fn version(&self) -> u64 {
        self.version
    }

    /// One property.
    ///
    /// ```no_run
    /// # fn example(section: ostler_device_sdk::Section) {
    /// let interval = section.get("interval").and_then(|value| value.as_u64());
    /// # }
    /// ```
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// All properties, without `$version`, in the hub's order.
    ///
    /// ```no_run
    /// # fn example(section: ostler_device_sdk::Section) {
    /// for (name, value) in section.values() {
    ///     println!("{name} = {value}");
    /// }
    /// # }
    /// ```
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// The section as a type of the program.
    ///
    /// # Errors
    /// [`TwinError::Shape`] if it does not fit.
    ///
    /// ```no_run
    /// #[derive(serde::Deserialize)]
    /// struct Wishes {
    ///     interval: Option<u32>,
    /// }
    /// # fn example(section: ostler_device_sdk::Section) -> Result<(), ostler_device_sdk::TwinError> {
    /// let wishes: Wishes = section.to()?;
    /// # Ok(()) }
    /// ```
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, TwinError> {
        shaped(Value::Object(self.values.clone()))
    }
}

fn shaped<T: DeserializeOwned>(value: Value) -> Result<T, TwinError> {
    serde_json::from_value(value).map_err(|error| TwinError::Shape(error.to_string()))
}

impl Twin {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, TwinError> {
        let bad = |error: &dyn std::fmt::Display| TwinError::Shape(format!("the hub's twin: {error}"));
        let text = std::str::from_utf8(bytes).map_err(|error| bad(&error))?;
        let mut whole: Map<String, Value> = serde_json::from_str(text).map_err(|error| bad(&error))?;
        let mut section =
            |name: &str| whole.remove(name).map_or_else(|| Ok(Section::default()), Section::new);
        let (desired, reported) = (section("desired")?, section("reported")?);
        Ok(Self { text: text.into(), desired, reported })
    }

    /// What the back end desires.
    ///
    /// ```no_run
    /// # fn example(twin: ostler_device_sdk::Twin) {
    /// println!("version {}", twin.desired().version());
    /// # }
    /// ```
    pub fn desired(&self) -> &Section {
        &self.desired
    }

    /// What the device has reported.
    ///
    /// ```no_run
    /// # fn example(twin: ostler_device_sdk::Twin) {
    /// println!("{:?}", twin.reported().get("firmware"));
    /// # }
    /// ```
    pub fn reported(&self) -> &Section {
        &self.reported
    }

    /// The whole twin as the hub wrote it.
    ///
    /// ```no_run
    /// # fn example(twin: ostler_device_sdk::Twin) {
    /// assert!(twin.as_json().starts_with('{'));
    /// # }
    /// ```
    pub fn as_json(&self) -> &str {
        &self.text
    }
}

/// What a [`DesiredStream`](crate::DesiredStream) brings.
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) {
/// use ostler_device_sdk::DesiredUpdate;
///
/// let mut updates = client.desired();
/// while let Some(update) = updates.next().await {
///     match update {
///         DesiredUpdate::Whole(twin) => println!("all of it, version {}", twin.desired().version()),
///         DesiredUpdate::Patch { version, json } => println!("a change, version {version}: {json}"),
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum DesiredUpdate {
    /// Everything: at first, and whenever changes were or may have been missed.
    Whole(Twin),
    /// A change: what is null in it is gone, what is not in it is as it was.
    Patch {
        /// The version of the desired properties after the change.
        version: u64,
        /// The patch as the hub wrote it; `$version` stands in it too.
        json: String,
    },
}

impl DesiredUpdate {
    /// The version of the desired properties after this.
    ///
    /// ```
    /// # use ostler_device_sdk::DesiredUpdate;
    /// let update = DesiredUpdate::Patch { version: 7, json: r#"{"interval":5,"$version":7}"#.into() };
    /// assert_eq!(update.version(), 7);
    /// ```
    pub fn version(&self) -> u64 {
        match self {
            Self::Whole(twin) => twin.desired.version,
            Self::Patch { version, .. } => *version,
        }
    }

    /// The text as the hub wrote it: of the whole twin, or of the patch.
    ///
    /// ```
    /// # use ostler_device_sdk::DesiredUpdate;
    /// let update = DesiredUpdate::Patch { version: 7, json: r#"{"interval":5,"$version":7}"#.into() };
    /// assert_eq!(update.as_json(), r#"{"interval":5,"$version":7}"#);
    /// ```
    pub fn as_json(&self) -> &str {
        match self {
            Self::Whole(twin) => &twin.text,
            Self::Patch { json, .. } => json,
        }
    }

    /// The desired properties, or the change of them, as a type of the program; without `$version`. For changes the
    /// fields should be optional.
    ///
    /// # Errors
    /// [`TwinError::Shape`] if they do not fit.
    ///
    /// ```
    /// # use ostler_device_sdk::DesiredUpdate;
    /// #[derive(serde::Deserialize)]
    /// struct Wishes {
    ///     interval: Option<u32>,
    /// }
    /// let update = DesiredUpdate::Patch { version: 7, json: r#"{"interval":5,"$version":7}"#.into() };
    /// assert_eq!(update.to::<Wishes>()?.interval, Some(5));
    /// # Ok::<(), ostler_device_sdk::TwinError>(())
    /// ```
    pub fn to<T: DeserializeOwned>(&self) -> Result<T, TwinError> {
        match self {
            Self::Whole(twin) => twin.desired.to(),
            Self::Patch { json, .. } => {
                let value =
                    serde_json::from_str(json).map_err(|error| TwinError::Shape(error.to_string()))?;
                Section::new(value)?.to()
            }
        }
    }
}

/// The hub has taken reported properties.
///
/// ```no_run
/// # async fn example(client: ostler_device_sdk::Client) -> Result<(), ostler_device_sdk::TwinError> {
/// let reported = client.report(&serde_json::json!({"fan": "on"})).await?;
/// println!("reported version {:?}", reported.version);
/// # Ok(()) }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reported {
    /// The version of the reported properties after the change, if the hub says it.
    pub version: Option<u64>,
}

/// Whether the text is a JSON object, without building it.
pub(crate) fn check_object(json: &[u8]) -> Result<(), TwinError> {
    serde_json::from_slice::<std::collections::BTreeMap<String, serde::de::IgnoredAny>>(json)
        .map(drop)
        .map_err(|error| TwinError::NotAnObject(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wishes {
        interval: u32,
    }

    #[test]
    fn a_twin_is_typed_and_keeps_its_text() {
        let text = r#"{"desired":{"interval":5,"$version":6},"reported":{"x":1.0,"$version":14}}"#;
        let twin = Twin::parse(text.as_bytes()).unwrap();
        assert_eq!(twin.as_json(), text);
        assert_eq!(twin.desired().to::<Wishes>().unwrap(), Wishes { interval: 5 });
        assert_eq!((twin.desired().version(), twin.reported().version()), (6, 14));
        assert_eq!(twin.reported().get("x").unwrap().to_string(), "1.0");
        assert!(matches!(twin.reported().to::<Wishes>(), Err(TwinError::Shape(_))));
        for bad in ["", "[]", r#"{"desired":1}"#] {
            assert!(matches!(Twin::parse(bad.as_bytes()), Err(TwinError::Shape(_))), "{bad}");
        }
    }

    #[test]
    fn only_objects_are_reported() {
        assert_eq!(check_object(br#" {"a":{"b":null}} "#), Ok(()));
        for bad in ["", "1", "[]", r#"{"a":}"#, "{} x"] {
            assert!(matches!(check_object(bad.as_bytes()), Err(TwinError::NotAnObject(_))), "{bad}");
        }
    }
}
