//! What a query answers with (query §1).

use super::words;

words! {
    /// What the rows of a page are.
    ItemType {
        /// Whole twins of devices or modules.
        Twin = "Twin",
        /// Objects made by a select list.
        Raw = "Raw",
        /// What a job did to one device.
        DeviceJob = "DeviceJob",
        /// Jobs.
        JobResponse = "JobResponse",
    }
}
