//! Settings that hold for the whole cluster, replicated so that every node
//! decides alike.

use super::area::Area;
use super::stored::extended;
use crate::time::Span;

/// Given by `cluster init`; the area alone may be changed later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterSettings {
    /// Random id of this cluster, never changed.
    pub uuid: u128,
    /// Zone of jobs that name none; an IANA name.
    pub default_zone: String,
    /// Waited beyond a worker's lease before its attempts are given up:
    /// covers a late shim and clocks that run up to 1 % apart. Default 10 s.
    pub lease_margin: Span,
    /// An instant planned later than this after it was due is a misfire. Default 60 s.
    pub misfire_after: Span,
    /// Where it stands. A cluster without one leaves no job out.
    pub area: Option<Area>,
}

extended! {
    ClusterSettings (u128)
    [uuid default_zone lease_margin misfire_after]
    [1 area]
}

impl ClusterSettings {
    /// The settings of a cluster that asked for nothing special.
    #[must_use]
    pub fn new(uuid: u128) -> Self {
        Self {
            uuid,
            default_zone: "UTC".to_owned(),
            lease_margin: Span::secs(10),
            misfire_after: Span::secs(60),
            area: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_without_an_area_keep_their_bytes() {
        let plain = ClusterSettings::new(7);
        let fields =
            (plain.uuid, plain.default_zone.clone(), plain.lease_margin, plain.misfire_after);
        let bytes = postcard::to_stdvec(&plain).unwrap();
        assert_eq!(bytes, postcard::to_stdvec(&fields).unwrap());
        assert_eq!(postcard::from_bytes::<ClusterSettings>(&bytes).unwrap(), plain);
        let of_eu = ClusterSettings { area: Some(Area::new("EU").unwrap()), ..plain };
        let bytes = postcard::to_stdvec(&of_eu).unwrap();
        assert_eq!(postcard::from_bytes::<ClusterSettings>(&bytes).unwrap(), of_eu);
    }
}
