//! Messages that read blobs: clients send them to us, and we to them (containerd,
//! api/services/content/v1/content.proto, `ReadContentRequest` and `ReadContentResponse`).

/// Asks for a part of a blob.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadRequest {
    /// The blob's digest.
    #[prost(string, tag = "1")]
    pub digest: String,
    /// Where the part begins, in bytes.
    #[prost(int64, tag = "2")]
    pub offset: i64,
    /// Its length in bytes; 0 reads to the end.
    #[prost(int64, tag = "3")]
    pub size: i64,
}

/// A piece of the part.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ReadAnswer {
    /// Where the piece begins in the blob, in bytes.
    #[prost(int64, tag = "1")]
    pub offset: i64,
    /// The piece.
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
}
