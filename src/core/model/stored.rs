//! How a published record gets new fields: without a second type, and without
//! changing a byte of what is stored already.
//!
//! A record that says nothing new is stored as it always was: its first fields,
//! one behind the other. One that does is stored as a *mark* (a first field that
//! no old record can have), the same fields, and then a list of what else is
//! said: a number for each field, with the field's own bytes. So old records are
//! read for ever, equal records have equal bytes and hashes whichever version
//! wrote them, and a program that does not know a number refuses the record
//! instead of losing half of it.
//!
//! To add a field: write it into the struct, and a line `NUMBER name` into its
//! [`extended!`]. Numbers are never used twice, and what has its default value is
//! not stored. Every new field needs `Default + PartialEq + Serialize +
//! Deserialize`. The type of a record's first field says what its mark is:
//! [`Spare`] if it has a value to spare, else [`Marked`].

use serde::Serialize;
use serde::de::{DeserializeOwned, Error};

use crate::ids::{ActionKey, JobId, Name, RunId, WorkerId};
use crate::time::UtcMillis;

/// Fields beyond those a record was published with.
pub(crate) type More = Vec<(u32, Vec<u8>)>;

/// A first field with a value that no record has.
pub(crate) trait Marked: Sized {
    /// What is stored: the field, or the mark.
    type Raw: Serialize + DeserializeOwned;

    /// What no record has in its place.
    fn mark() -> Self::Raw;

    /// None if it is the mark.
    fn read<E: Error>(raw: Self::Raw) -> Result<Option<Self>, E>;
}

/// A first field of a type that has a value to spare: no record has it, so it is the mark.
pub(crate) trait Spare: PartialEq + Serialize + DeserializeOwned {
    /// That value.
    const MARK: Self;
}

impl<T: Spare> Marked for T {
    type Raw = Self;

    fn mark() -> Self {
        Self::MARK
    }

    fn read<E: Error>(raw: Self) -> Result<Option<Self>, E> {
        Ok((raw != Self::MARK).then_some(raw))
    }
}

/// Numbers of runs are counted up from 1.
impl Spare for RunId {
    const MARK: Self = Self(0);
}

/// Numbers of workers are counted up from 1.
impl Spare for WorkerId {
    const MARK: Self = Self(0);
}

/// Numbers of jobs are counted up from 1, and 0 is said of a job that has none yet.
impl Spare for JobId {
    const MARK: Self = Self(u64::MAX);
}

/// No action is of such a job.
impl Spare for ActionKey {
    const MARK: Self = Self { job: JobId::MARK, nominal: UtcMillis(0) };
}

/// No instant is that far from us.
impl Spare for UtcMillis {
    const MARK: Self = Self(i64::MIN);
}

/// A random id is never zero.
impl Spare for u128 {
    const MARK: Self = 0;
}

/// A name is never empty.
impl Marked for Name {
    type Raw = String;

    fn mark() -> String {
        String::new()
    }

    fn read<E: Error>(raw: String) -> Result<Option<Self>, E> {
        if raw.is_empty() { Ok(None) } else { Self::new(&raw).map(Some).map_err(E::custom) }
    }
}

/// Notes a field that says something.
pub(crate) fn note<T, E>(more: &mut More, number: u32, value: &T) -> Result<(), E>
where
    T: Default + PartialEq + Serialize,
    E: serde::ser::Error,
{
    if *value != T::default() {
        more.push((number, postcard::to_stdvec(value).map_err(E::custom)?));
    }
    Ok(())
}

/// Reads a field's own bytes.
pub(crate) fn read<T: DeserializeOwned, E: Error>(number: u32, bytes: &[u8]) -> Result<T, E> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(E::custom(format_args!("field {number} is damaged"))),
    }
}

/// Stores a record as the module says: first the fields that it was published
/// with, in their order, then numbers and names of those that came later.
macro_rules! extended {
    (
        $record:ident ($mark:ty)
        [$first:ident $($field:ident)*]
        [$($number:literal $more:ident)*]
    ) => {
        impl serde::Serialize for $record {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple;
                const PLAIN: usize = [stringify!($first) $(, stringify!($field))*].len();
                let mut more = $crate::model::stored::More::new();
                $($crate::model::stored::note::<_, S::Error>(&mut more, $number, &self.$more)?;)*
                let extra = if more.is_empty() { 0 } else { 2 };
                let mut tuple = serializer.serialize_tuple(PLAIN + extra)?;
                if !more.is_empty() {
                    tuple.serialize_element(&<$mark as $crate::model::stored::Marked>::mark())?;
                }
                tuple.serialize_element(&self.$first)?;
                $(tuple.serialize_element(&self.$field)?;)*
                if !more.is_empty() {
                    tuple.serialize_element(&more)?;
                }
                tuple.end()
            }
        }

        impl<'de> serde::Deserialize<'de> for $record {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Fields;

                impl<'de> serde::de::Visitor<'de> for Fields {
                    type Value = $record;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(stringify!($record))
                    }

                    fn visit_seq<A: serde::de::SeqAccess<'de>>(
                        self,
                        mut seq: A,
                    ) -> Result<$record, A::Error> {
                        use serde::de::Error;
                        use $crate::model::stored::{Marked, More, read};
                        macro_rules! next {
                            () => {
                                seq.next_element()?.ok_or_else(|| A::Error::custom("cut short"))?
                            };
                        }
                        let $first = <$mark as Marked>::read::<A::Error>(next!())?;
                        let is_extended = $first.is_none();
                        let $first = match $first {
                            Some(plain) => plain,
                            None => next!(),
                        };
                        $(let $field = next!();)*
                        #[allow(unused_mut)] // where a record has nothing new yet
                        let mut record =
                            $record { $first, $($field,)* $($more: Default::default(),)* };
                        let more: More = if is_extended { next!() } else { More::new() };
                        for (number, bytes) in more {
                            match number {
                                $($number => record.$more = read(number, &bytes)?,)*
                                _ => {
                                    let newer = "a field of a newer program: upgrade this node";
                                    return Err(A::Error::custom(newer));
                                }
                            }
                        }
                        Ok(record)
                    }
                }

                const MOST: usize = [stringify!($first) $(, stringify!($field))*].len() + 2;
                deserializer.deserialize_tuple(MOST, Fields)
            }
        }
    };
}
pub(crate) use extended;

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Before {
        name: Name,
        size: u32,
        text: String,
    }

    #[derive(Debug, Clone, PartialEq)]
    struct Now {
        name: Name,
        size: u32,
        text: String,
        colour: Option<String>,
        weight: u64,
    }
    extended! { Now (Name) [name size text] [1 colour 2 weight] }

    fn now(colour: Option<&str>, weight: u64) -> Now {
        let (name, text) = (Name::new("a").unwrap(), "x".to_owned());
        Now { name, size: 300, text, colour: colour.map(str::to_owned), weight }
    }

    #[test]
    fn what_says_nothing_new_is_stored_as_it_always_was() {
        let before = Before { name: Name::new("a").unwrap(), size: 300, text: "x".to_owned() };
        let bytes = postcard::to_stdvec(&before).unwrap();
        assert_eq!(postcard::to_stdvec(&now(None, 0)).unwrap(), bytes);
        assert_eq!(postcard::from_bytes::<Now>(&bytes).unwrap(), now(None, 0));
    }

    #[test]
    fn every_new_field_comes_back_and_what_follows_the_record_too() {
        for record in [now(Some("red"), 0), now(None, 9), now(Some(""), u64::MAX)] {
            let bytes = postcard::to_stdvec(&(7_u8, &record, "end")).unwrap();
            let read: (u8, Now, String) = postcard::from_bytes(&bytes).unwrap();
            assert_eq!(read, (7, record, "end".to_owned()));
        }
    }

    #[test]
    fn a_field_of_a_newer_program_is_refused_not_lost() {
        let more: More = vec![(3, vec![1])];
        let bytes = postcard::to_stdvec(&("", "a", 300_u32, "x", more)).unwrap();
        assert!(postcard::from_bytes::<Now>(&bytes).is_err());
        let cut: More = vec![(2, vec![0x80])];
        let bytes = postcard::to_stdvec(&("", "a", 300_u32, "x", cut)).unwrap();
        assert!(postcard::from_bytes::<Now>(&bytes).is_err());
        assert!(postcard::from_bytes::<Before>(&bytes).is_err(), "an old program refuses it too");
    }
}
