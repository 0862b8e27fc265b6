//! Pools as a person writes them: a pool, and what the runs of a job take. What
//! only the cluster knows (which pools there are) is looked up in a state; the
//! machine checks it again.

use std::collections::BTreeMap;

use horai_core::ids::Name;
use horai_core::machine::state::State;
use horai_core::model::job::JobSpec;
use horai_core::model::pool::PoolDef;
use serde::{Deserialize, Serialize};

use super::definition_parts::{at_most, name};
use super::job_definition::JobDefinition;
use crate::error::{ErrorCode, FieldError};

/// A pool, as written; its name is in the address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoolDefinition {
    /// 1 to 10,000.
    pub slots: u32,
    /// For people; what there is stays where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

impl PoolDefinition {
    /// Checks the definition; `old` is the pool as it is.
    ///
    /// # Errors
    /// The first field that cannot be taken, with value and remedy.
    pub fn to_def(&self, name: &Name, old: Option<&PoolDef>) -> Result<PoolDef, FieldError> {
        let slots = slots("slots", self.slots)?;
        let kept = || old.map(|old| old.description.clone()).unwrap_or_default();
        let description = self.description.clone().unwrap_or_else(kept);
        if description.len() > PoolDef::MAX_DESCRIPTION {
            let (problem, most) = ("the description is too long", PoolDef::MAX_DESCRIPTION);
            let (value, remedy) =
                (format!("{} bytes", description.len()), format!("write at most {most} bytes"));
            return Err(FieldError::invalid("description", value, problem, remedy)
                .with_code(ErrorCode::TooLarge));
        }
        Ok(PoolDef { name: name.clone(), slots, description })
    }
}

fn slots(field: &str, given: u32) -> Result<u32, FieldError> {
    if (1..=PoolDef::MAX_SLOTS).contains(&given) {
        return Ok(given);
    }
    let remedy = format!("write 1 to {}", PoolDef::MAX_SLOTS);
    Err(FieldError::invalid(field, given, "there is no such number of slots", remedy))
}

impl JobDefinition {
    /// What each of its runs takes: of `pools`, or of one `pool`.
    pub(super) fn takes(&self) -> Result<BTreeMap<Name, u32>, FieldError> {
        let Some(pool) = &self.pool else {
            if let Some(slots) = self.slots {
                let problem = "it does not say slots of what";
                let remedy = "add pool: NAME, or write pools: {NAME: SLOTS}";
                return Err(FieldError::invalid("slots", slots, problem, remedy));
            }
            at_most("pools", self.pools.len(), JobSpec::MAX_POOLS)?;
            let take = |(pool, count): (&String, &u32)| {
                let field = format!("pools.{pool}");
                Ok((name(&field, pool)?, slots(&field, *count)?))
            };
            return self.pools.iter().map(take).collect();
        };
        if !self.pools.is_empty() {
            let problem = "the same is said under 'pools'";
            let remedy = "write one of the two: pool: NAME with slots, or pools: {NAME: SLOTS}";
            return Err(FieldError::invalid("pool", pool, problem, remedy));
        }
        let count = self.slots.map_or(Ok(1), |count| slots("slots", count))?;
        Ok(BTreeMap::from([(name("pool", pool)?, count)]))
    }

    /// Looks whether the pools that it names are there, and large enough.
    ///
    /// # Errors
    /// The first that is not, under the field that names it.
    pub(super) fn check_pools(&self, state: &State) -> Result<(), FieldError> {
        for (name, slots) in self.takes()? {
            let (pool_field, slots_field) = match &self.pool {
                Some(_) => ("pool".to_owned(), "slots".to_owned()),
                None => (format!("pools.{name}"), format!("pools.{name}")),
            };
            let set = format!("horai pool set {name} --slots {slots}");
            match state.pool(&name).map(|pool| pool.def.slots) {
                None => {
                    let problem = format!("pool {name} does not exist");
                    let remedy = format!("make it first ({set}), or correct the name");
                    return Err(FieldError::invalid(pool_field, "", problem, remedy));
                }
                Some(has) if has < slots => {
                    let problem = format!("pool {name} has only {has} slots");
                    let remedy = format!("write at most {has}, or make it larger: {set}");
                    return Err(FieldError::invalid(slots_field, slots, problem, remedy));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(rest: &str) -> Result<BTreeMap<Name, u32>, FieldError> {
        let text = format!("name: a\nnoop: true\n{rest}");
        serde_saphyr::from_str::<JobDefinition>(&text).unwrap().takes()
    }

    #[test]
    fn the_short_form_means_the_same() {
        let pools = |slots| BTreeMap::from([(Name::new("db").unwrap(), slots)]);
        assert_eq!(takes("").unwrap(), BTreeMap::new());
        assert_eq!(takes("pool: db").unwrap(), pools(1));
        assert_eq!(takes("pool: db\nslots: 2").unwrap(), pools(2));
        assert_eq!(takes("pools: {db: 2}").unwrap(), pools(2));
    }

    #[test]
    fn mistakes_name_their_field() {
        let nine = (0..9).map(|n| format!("p{n}: 1")).collect::<Vec<_>>().join(", ");
        for (text, field) in [
            ("slots: 2", "slots"),
            ("pool: db\npools: {db: 2}", "pool"),
            ("pool: DB", "pool"),
            ("pool: db\nslots: 0", "slots"),
            ("pool: db\nslots: 10001", "slots"),
            ("pools: {db: 0}", "pools.db"),
            ("pools: {Db: 1}", "pools.Db"),
            (&format!("pools: {{{nine}}}"), "pools"),
        ] {
            let error = takes(text).unwrap_err();
            assert_eq!(error.field, field, "{text}");
            assert!(!error.remedy.is_empty(), "{text}");
        }
    }

    #[test]
    fn what_is_not_said_of_a_pool_stays() {
        let name = Name::new("db").unwrap();
        let given = |description: Option<&str>| {
            let description = description.map(str::to_owned);
            PoolDefinition { slots: 2, description }.to_def(&name, None)
        };
        let old = given(Some("seats")).unwrap();
        let next = PoolDefinition { slots: 3, description: None };
        assert_eq!(next.to_def(&name, Some(&old)).unwrap(), PoolDef { slots: 3, ..old });
        assert_eq!(given(None).unwrap().description, "");
        let long = "x".repeat(PoolDef::MAX_DESCRIPTION + 1);
        assert_eq!(given(Some(&long)).unwrap_err().code, ErrorCode::TooLarge);
        let none = PoolDefinition { slots: 0, description: None };
        assert_eq!(none.to_def(&name, None).unwrap_err().field, "slots");
    }
}
