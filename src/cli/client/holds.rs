//! Calendars and pauses, as one asks for them.

use reqwest::Method;

use super::transport::{Call, read};
use super::{ApiError, Client};
use crate::api::calendar_definition::CalendarDefinition;
use crate::api::dto::{
    AppliedCalendar, CalendarDto, Page, PauseDto, PausedDto, ResumeRequest, ResumedDto,
};

/// What is paused or resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held<'a> {
    /// Everything.
    Cluster,
    /// A group and what is in it.
    Group(&'a str),
    /// A job.
    Job(&'a str),
    /// A job's trigger.
    Trigger(&'a str, &'a str),
}

impl<'a> Held<'a> {
    fn path(self, verb: &'a str) -> Vec<&'a str> {
        match self {
            Self::Cluster if verb == "pause" => vec!["cluster", "freeze"],
            Self::Cluster => vec!["cluster", "unfreeze"],
            Self::Group(group) => vec!["groups", group, verb],
            Self::Job(job) => vec!["jobs", job, verb],
            Self::Trigger(job, trigger) => vec!["jobs", job, "triggers", trigger, verb],
        }
    }
}

impl Client {
    /// Starts nothing new of it.
    pub async fn pause(&self, held: Held<'_>) -> Result<PausedDto, ApiError> {
        read(self.send(&Call::write(Method::POST, &held.path("pause"))).await?)
    }

    /// Ends a pause; `missed` is `skip` or `misfire`.
    pub async fn resume(&self, held: Held<'_>, missed: Option<&str>) -> Result<(), ApiError> {
        let path = held.path("resume");
        let call = Call::write(Method::POST, &path);
        let call = match missed {
            Some(missed) => call.body(&ResumeRequest { missed: Some(missed.to_owned()) })?,
            None => call,
        };
        self.send(&call).await.map(drop)
    }

    /// Starts nothing new of a job and of all above or below it; `with` is `upstream` or
    /// `downstream`.
    pub async fn pause_with(&self, job: &str, with: &str) -> Result<PausedDto, ApiError> {
        let path = ["jobs", job, "pause"];
        let call = Call::write(Method::POST, &path).with("with", Some(with));
        read(self.send(&call).await?)
    }

    /// Ends the pauses of a job and of all above or below it.
    pub async fn resume_with(
        &self,
        job: &str,
        with: &str,
        missed: &str,
    ) -> Result<ResumedDto, ApiError> {
        let path = ["jobs", job, "resume"];
        let body = ResumeRequest { missed: Some(missed.to_owned()) };
        let call = Call::write(Method::POST, &path).with("with", Some(with)).body(&body)?;
        read(self.send(&call).await?)
    }

    /// Pauses of the cluster, of groups and of triggers, a page.
    pub async fn pauses(&self, after: Option<&str>) -> Result<Page<PauseDto>, ApiError> {
        self.read(Call::get(&["pauses"]).with("after", after)).await
    }

    /// Calendars by name, a page.
    pub async fn calendars(&self, after: Option<&str>) -> Result<Page<CalendarDto>, ApiError> {
        self.read(Call::get(&["calendars"]).with("after", after)).await
    }

    /// A calendar.
    pub async fn calendar(&self, name: &str) -> Result<CalendarDto, ApiError> {
        self.get(&["calendars", name]).await
    }

    /// Creates or changes a calendar.
    pub async fn put_calendar(
        &self,
        calendar: &CalendarDefinition,
    ) -> Result<AppliedCalendar, ApiError> {
        self.put(&["calendars", &calendar.name], calendar, None).await
    }

    /// Removes a calendar that nothing names, if it has the revision `expected`.
    pub async fn delete_calendar(&self, name: &str, expected: Option<u64>) -> Result<(), ApiError> {
        self.delete(&["calendars", name], expected).await
    }
}
