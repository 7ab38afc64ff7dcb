//! Queries of twins and device jobs, page by page (query §1).
//!
//! Must not know: the query language.
//!
//! Invariant: a page is asked for only when its rows are wanted, and never a second time with the same token.

use bytes::Bytes;
use futures_util::stream::{self, TryStreamExt};
use http::Method;
use ostler_wire::rest::page::{CONTINUATION_HEADER, ITEM_TYPE_HEADER, MAX_ITEM_COUNT_HEADER};
use ostler_wire::rest::twin_query::write_query;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::model::{ItemType, JsonObject, Twin};
use crate::retry::Safety;
use crate::rows::Rows;
use crate::transport::{Call, Reply};
use crate::Client;

impl Client {
    /// Prepares a query; nothing is sent until rows are asked for.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut pumps = hub.query("SELECT * FROM devices WHERE tags.kind = 'pump'").twins();
    /// while let Some(pump) = pumps.try_next().await? {
    ///     println!("{}", pump.device_id);
    /// }
    /// # Ok(()) }
    /// ```
    pub fn query(&self, text: impl Into<String>) -> Query {
        Query { client: self.clone(), text: text.into(), page_size: None, next: Next::First }
    }
}

/// A query and how far its rows were read.
#[derive(Debug, Clone)]
pub struct Query {
    client: Client,
    text: String,
    page_size: Option<u32>,
    next: Next,
}

/// Which page comes next.
#[derive(Debug, Clone)]
enum Next {
    First,
    After(String),
    None,
}

impl Query {
    /// Asks for this many rows a page: 100 unless told, 1,000 at most. A hub may hand out fewer.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let rows = hub.query("SELECT * FROM devices").page_size(1000).twins();
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn page_size(mut self, rows: u32) -> Self {
        self.page_size = Some(rows);
        self
    }

    /// Goes on where an earlier run of the same query stopped; see [`QueryPage::continuation`].
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut first = hub.query("SELECT * FROM devices");
    /// let page = first.next_page().await?;
    /// if let Some(token) = page.as_ref().and_then(|page| page.continuation()) {
    ///     // Later, perhaps in another process:
    ///     let rest = hub.query("SELECT * FROM devices").continuation(token).twins().into_vec().await?;
    ///     println!("{} more", rest.len());
    /// }
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn continuation(mut self, token: impl Into<String>) -> Self {
        self.next = Next::After(token.into());
        self
    }

    /// The next page, or nothing behind the last one. After an error the same page may be asked for again.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut query = hub.query("SELECT * FROM devices").page_size(500);
    /// while let Some(page) = query.next_page().await? {
    ///     println!("{} twins", page.twins()?.len());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`crate::ErrorKind::Invalid`] for a query that does not parse, or a token of another query.
    pub async fn next_page(&mut self) -> Result<Option<QueryPage>, Error> {
        let token = match &self.next {
            Next::First => None,
            Next::After(token) => Some(token.as_str()),
            Next::None => return Ok(None),
        };
        let page = QueryPage::read(&self.client.transport.send(&self.call(token)).await?)?;
        self.next = match &page.continuation {
            Some(next) if token == Some(next) => {
                let reason = "the hub goes on where it began".to_owned();
                return Err(Error::UnexpectedAnswer { status: 200, reason });
            }
            Some(next) => Next::After(next.clone()),
            None => Next::None,
        };
        Ok(Some(page))
    }

    fn call(&self, token: Option<&str>) -> Call {
        let mut call = Call::new(Method::POST, "/devices/query");
        let mut body = Vec::with_capacity(self.text.len() + 16);
        write_query(&self.text, &mut body);
        call.body = Some(body.into());
        // A query changes nothing.
        call.safety = Safety::Repeatable;
        call.headers.extend(self.page_size.map(|rows| (MAX_ITEM_COUNT_HEADER, rows.to_string())));
        call.headers.extend(token.map(|token| (CONTINUATION_HEADER, token.to_owned())));
        call
    }

    /// All pages, one after the other.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut pages = hub.query("SELECT deviceId FROM devices").pages();
    /// while let Some(page) = pages.try_next().await? {
    ///     println!("{}", String::from_utf8_lossy(page.json()));
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The stream ends with the first error.
    pub fn pages(self) -> Rows<QueryPage> {
        Rows::new(stream::try_unfold(self, |mut query| async move {
            let page = query.next_page().await?;
            Ok::<_, Error>(page.map(|page| (page, query)))
        }))
    }

    /// All rows as a type of the caller's, for instance one made for a select list.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// #[derive(serde::Deserialize)]
    /// struct Row {
    ///     site: Option<String>,
    ///     n: u64,
    /// }
    ///
    /// let text = "SELECT tags.site AS site, COUNT() AS n FROM devices GROUP BY tags.site";
    /// for row in hub.query(text).rows::<Row>().into_vec().await? {
    ///     println!("{:?}: {}", row.site, row.n);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// The stream ends with the first error; [`Error::UnexpectedAnswer`] for a row that is not of the type.
    pub fn rows<T: DeserializeOwned + Send + 'static>(self) -> Rows<T> {
        self.flattened(|page| page.rows())
    }

    /// All rows of a `SELECT * FROM devices` or `devices.modules`.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut pumps = hub.query("SELECT * FROM devices WHERE tags.kind = 'pump'").twins();
    /// while let Some(pump) = pumps.try_next().await? {
    ///     println!("{}: {:?}", pump.device_id, pump.tags);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Query::rows`]; [`Error::UnexpectedAnswer`] if the rows of this query are no twins.
    pub fn twins(self) -> Rows<Twin> {
        self.flattened(|page| page.twins())
    }

    /// All rows as plain objects, whatever the query selects.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// for row in hub.query("SELECT COUNT() AS n FROM devices").objects().into_vec().await? {
    ///     println!("{}", row["n"]);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Query::rows`].
    pub fn objects(self) -> Rows<JsonObject> {
        self.rows()
    }

    fn flattened<T: Send + 'static>(self, read: fn(&QueryPage) -> Result<Vec<T>, Error>) -> Rows<T> {
        let items = move |page: QueryPage| read(&page).map(|items| stream::iter(items.into_iter().map(Ok)));
        Rows::new(self.pages().and_then(move |page| std::future::ready(items(page))).try_flatten())
    }
}

/// One page of a query's rows.
#[derive(Debug, Clone)]
pub struct QueryPage {
    item_type: ItemType,
    continuation: Option<String>,
    body: Bytes,
}

impl QueryPage {
    fn read(reply: &Reply) -> Result<QueryPage, Error> {
        let header = |name: &str| reply.headers.get(name).and_then(|value| value.to_str().ok());
        Ok(QueryPage {
            item_type: ItemType::from(header(ITEM_TYPE_HEADER).unwrap_or("Raw")),
            continuation: header(CONTINUATION_HEADER).filter(|token| !token.is_empty()).map(str::to_owned),
            body: reply.body.clone(),
        })
    }

    /// What the rows are.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut query = hub.query("SELECT * FROM devices");
    /// if let Some(page) = query.next_page().await? {
    ///     println!("{}", page.item_type()); // Twin
    /// }
    /// # Ok(()) }
    /// ```
    pub fn item_type(&self) -> &ItemType {
        &self.item_type
    }

    /// With what the same query goes on behind this page, if there is more. Good for this text only.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut query = hub.query("SELECT * FROM devices");
    /// if let Some(page) = query.next_page().await? {
    ///     println!("to be continued with {:?}", page.continuation());
    /// }
    /// # Ok(()) }
    /// ```
    pub fn continuation(&self) -> Option<&str> {
        self.continuation.as_deref()
    }

    /// The rows as JSON text, an array.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut query = hub.query("SELECT * FROM devices");
    /// if let Some(page) = query.next_page().await? {
    ///     println!("{}", String::from_utf8_lossy(page.json()));
    /// }
    /// # Ok(()) }
    /// ```
    pub fn json(&self) -> &Bytes {
        &self.body
    }

    /// The rows.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut query = hub.query("SELECT deviceId FROM devices");
    /// if let Some(page) = query.next_page().await? {
    ///     println!("{:?}", page.rows::<serde_json::Value>()?);
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnexpectedAnswer`] when a row is not of the type.
    pub fn rows<T: DeserializeOwned>(&self) -> Result<Vec<T>, Error> {
        serde_json::from_slice(&self.body).map_err(|error| Error::UnexpectedAnswer {
            status: 200,
            reason: format!("a row does not parse: {error}"),
        })
    }

    /// The rows, if they are twins.
    ///
    /// ```no_run
    /// # async fn example(hub: ostler_service_sdk::Client) -> Result<(), ostler_service_sdk::Error> {
    /// let mut query = hub.query("SELECT * FROM devices");
    /// if let Some(page) = query.next_page().await? {
    ///     println!("{} twins", page.twins()?.len());
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::UnexpectedAnswer`] when they are something else.
    pub fn twins(&self) -> Result<Vec<Twin>, Error> {
        if self.item_type != ItemType::Twin {
            let reason = format!("the rows of this query are {}, not twins", self.item_type);
            return Err(Error::UnexpectedAnswer { status: 200, reason });
        }
        self.rows()
    }
}
