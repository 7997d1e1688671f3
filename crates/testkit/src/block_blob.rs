//! A block blob of Azure Storage, in memory.

use std::collections::BTreeMap;

use crate::http::Request;

/// The blob: what it holds, and blocks that are in no list yet.
#[derive(Default)]
pub(crate) struct BlockBlob {
    pub content: Vec<u8>,
    blocks: BTreeMap<String, Vec<u8>>,
}

impl BlockBlob {
    /// Status and body of the answer to a request at the blob's address.
    pub fn answer(&mut self, request: &Request) -> (u16, Vec<u8>) {
        let parameter = |name: &str| request.parameter(name);
        match (request.method.as_str(), parameter("comp").as_deref()) {
            ("GET" | "HEAD", None) => (200, self.content.clone()),
            ("PUT", None) => {
                if request.headers.get("x-ms-blob-type").is_none_or(|kind| kind != "BlockBlob") {
                    return (400, b"<Error><Code>MissingRequiredHeader</Code></Error>".to_vec());
                }
                self.content.clone_from(&request.body);
                (201, Vec::new())
            }
            ("PUT", Some("block")) => {
                self.blocks.insert(parameter("blockid").expect("an id"), request.body.clone());
                (201, Vec::new())
            }
            ("PUT", Some("blocklist")) => {
                let list = String::from_utf8(request.body.clone()).expect("XML");
                let ids = list.split("<Latest>").skip(1).map(|rest| rest.split('<').next().expect("an id"));
                self.content = ids.flat_map(|id| self.blocks.get(id).expect("a block").clone()).collect();
                (201, Vec::new())
            }
            _ => (405, Vec::new()),
        }
    }
}
