//! A content that is found by its hash: what jobs bring along as files.
//!
//! Small, so that one is one record. On the wire and on disk it is a [`pb::Content`];
//! [`pack`] and [`unpack`] are the only way between the two, and what has not the hash that
//! it says is never stored and never served.

use bytes::Bytes;
use horai_core::model::file::{Digest, JobFile};
use horai_proto::logs as pb;
use sha2::{Digest as _, Sha256};

/// Below this, compressing costs more than it saves.
const WORTH: usize = 256;
/// Of zstd: the quickest that still halves text.
const LEVEL: i32 = 1;

/// Why something is no content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a content cannot be taken: {0}")]
pub struct BadContent(pub &'static str);

/// The hash of some bytes.
#[must_use]
pub fn digest_of(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Which content is meant.
///
/// # Errors
/// [`BadContent`] unless these are the bytes of a SHA-256.
pub fn digest_in(bytes: &[u8]) -> Result<Digest, BadContent> {
    bytes.try_into().map(Digest).map_err(|_| BadContent("its hash has not 32 bytes"))
}

/// Names a content on the wire.
#[must_use]
pub fn file_ref(digest: Digest) -> pb::FileRef {
    pb::FileRef { digest: Bytes::copy_from_slice(&digest.0) }
}

/// As it is sent and stored: compressed if that is worth it.
#[must_use]
pub fn pack(bytes: &Bytes) -> pb::Content {
    let digest = Bytes::copy_from_slice(&digest_of(bytes).0);
    // Files are far smaller than 4 GiB.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let small = (bytes.len() >= WORTH)
        .then(|| zstd::bulk::compress(bytes, LEVEL).ok())
        .flatten()
        .filter(|small| small.len() < bytes.len() - bytes.len() / 8);
    let zstd = small.is_some();
    pb::Content { digest, data: small.map_or_else(|| bytes.clone(), Bytes::from), len, zstd }
}

/// Checks a content and makes it readable.
///
/// # Errors
/// [`BadContent`]
pub fn unpack(content: &pb::Content) -> Result<(Digest, Bytes), BadContent> {
    let digest = digest_in(&content.digest)?;
    if u64::from(content.len) > JobFile::MAX_BYTES {
        return Err(BadContent("it is too long"));
    }
    let len = usize::try_from(content.len).map_err(|_| BadContent("it is too long"))?;
    let bytes = if content.zstd {
        let whole = zstd::bulk::decompress(&content.data, len);
        Bytes::from(whole.map_err(|_| BadContent("it cannot be decompressed"))?)
    } else {
        content.data.clone()
    };
    if bytes.len() != len || digest_of(&bytes) != digest {
        return Err(BadContent("it is another one than it says"));
    }
    Ok((digest, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_comes_back_and_a_wrong_one_does_not() {
        for text in [String::new(), "a".to_owned(), "line\n".repeat(5_000)] {
            let bytes = Bytes::from(text);
            let packed = pack(&bytes);
            assert_eq!(packed.zstd, bytes.len() > 1_000);
            assert_eq!(unpack(&packed).unwrap(), (digest_of(&bytes), bytes));
        }
        let good = pack(&Bytes::from_static(b"abc"));
        for bad in [
            pb::Content { data: Bytes::from_static(b"abd"), ..good.clone() },
            pb::Content { len: 4, ..good.clone() },
            pb::Content { digest: Bytes::from_static(b"short"), ..good.clone() },
            pb::Content { zstd: true, ..good.clone() },
        ] {
            assert!(unpack(&bad).is_err(), "{bad:?}");
        }
        let long = Bytes::from(vec![0; usize::try_from(JobFile::MAX_BYTES).unwrap() + 1]);
        assert_eq!(unpack(&pack(&long)), Err(BadContent("it is too long")));
    }
}
