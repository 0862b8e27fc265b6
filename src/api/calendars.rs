//! Calendars: list, apply, read, delete.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use horai_core::ids::{Name, Revision};
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State as Machine;

use super::calendar_definition::CalendarDefinition;
use super::dto::{AppliedCalendar, CalendarDto, Page};
use super::params::{Params, Segment, page};
use super::problem::Fault;
use super::revisions::{stored, tagged};
use super::write::{Write, odd};
use super::{Api, WRITE_LIMIT};
use crate::error::{ErrorCode, FieldError};

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<CalendarDto>>, Fault> {
    let (limit, after) = api.part::<Name>(params).await?;
    Ok(Json(api.read(|state| {
        let calendars = state.calendars_after(after);
        page(calendars, limit, |c| c.def.name.to_string(), |c| CalendarDto::of(state, c))
    })))
}

pub(super) async fn show(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Response, Fault> {
    let (name, params) = (name.name()?, params.only(&[])?);
    api.fresh(&params).await?;
    let found = api.read(|state| state.calendar(&name).map(|c| CalendarDto::of(state, c)));
    let calendar = found.ok_or_else(|| Fault::not_found("calendar", &name))?;
    Ok(tagged(calendar.revision, calendar))
}

pub(super) async fn put(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<Response, Fault> {
    let name = name.name()?;
    let definition: CalendarDefinition = write.json()?;
    if definition.name != name.as_str() {
        let problem = format!("the address names {name}");
        let remedy = "use one name in both; a calendar cannot be renamed";
        return Err(FieldError::invalid("name", &definition.name, problem, remedy).into());
    }
    let expected = write.revision();
    let outcome = api
        .write(&write, |state| {
            if write.must_exist() && state.calendar(&name).is_none() {
                return Err(Fault::absent_named("calendar", &name));
            }
            let def = definition.to_def(&|name| state.calendar(name).map(|c| &c.def))?;
            Ok(Command::PutCalendar { def: Box::new(def), expected })
        })
        .await?;
    let Outcome::Calendar { revision, changed, .. } = outcome else {
        return Err(odd(&outcome));
    };
    // Also where nothing changed: it may be the same change, asked for once more.
    let jobs = api.replanned(&name, revision).await?;
    let replanned = if changed { jobs } else { 0 };
    let name = definition.name;
    let applied = AppliedCalendar { name, revision: revision.0, changed, replanned };
    Ok(stored(revision.0, changed, applied))
}

impl Api {
    /// Waits until a change has come to all jobs that rest on the calendar, and says
    /// how many they are. Whoever hears of the change may rely on it for each of them.
    async fn replanned(&self, name: &Name, revision: Revision) -> Result<u32, Fault> {
        let is_done = |state: &Machine| {
            let is_known = state.calendar(name).is_none_or(|c| c.revision >= revision);
            is_known && !state.is_replanning(name)
        };
        if !self.node.wait_until(WRITE_LIMIT, is_done).await {
            let detail = format!(
                "calendar {name} is changed, and some jobs that rest on it are still planned by \
                 what it said before"
            );
            let remedy = "send it again with the same request id";
            return Err(Fault::new(ErrorCode::OutcomeUnknown, detail, remedy));
        }
        let jobs = self.read(Machine::clone).jobs_under(name);
        Ok(u32::try_from(jobs).unwrap_or(u32::MAX))
    }
}

pub(super) async fn delete(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    write.empty()?;
    let (name, expected) = (name.name()?, write.revision());
    api.write(&write, |_| Ok(Command::DeleteCalendar { name, expected })).await?;
    Ok(StatusCode::NO_CONTENT)
}
