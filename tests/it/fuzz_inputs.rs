//! Configurations, and what is asked of `trigger simulate`, against made-up input:
//! targets as in [`super::fuzz`], and as long. Of the second there all is nearly
//! right and most is refused; here each question is right and must be answered.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use horai::config::{self, Check, NodeConfig, WorkerConfig};
use horai::offline;
use horai_core::time::UtcMillis;
use serde_json::{Value, json};

use super::fuzz::{texts, time};

#[test]
fn configurations() {
    const PARTS: &[&str] = &[
        "[node]\n",
        "[raft]\n",
        "[log]\n",
        "[worker]\n",
        "[worker.labels]\n",
        "data_dir = ",
        "token_file = ",
        "http = ",
        "grpc = ",
        "raft = ",
        "advertise_grpc = ",
        "heartbeat_ms = ",
        "election_min_ms = ",
        "election_max_ms = ",
        "level = ",
        "format = ",
        "name = ",
        "nodes = ",
        "groups = ",
        "slots = ",
        "zone = ",
        "\"d\"\n",
        "\"127.0.0.1:7600\"\n",
        "\"0.0.0.0:0\"\n",
        "\"[::]:7601\"\n",
        "\"node-1:7601\"\n",
        "[\"n:1\", \"n:2\"]\n",
        "[]\n",
        "\"info\"\n",
        "\"warn,horai::session=trace\"\n",
        "\"json\"\n",
        "50\n",
        "200\n",
        "400\n",
        "0\n",
        "-1\n",
        "1e9\n",
        "0x10\n",
        "18446744073709551616\n",
        "1979-05-27\n",
        "true\n",
        "{a = 1}\n",
        "x",
        "=",
        ".",
        "[",
        "]",
        "\"",
        "'''",
        "\\u00e4",
        "#",
        "\n",
        "\r",
    ];
    const NODE: &str = "[node]\ndata_dir = \"d\"\ntoken_file = \"t\"\n";
    const WORKER: &str =
        "[worker]\nname = \"w\"\ndata_dir = \"d\"\nnodes = [\"n:1\"]\ntoken_file = \"t\"\n";
    fn read<C: serde::de::DeserializeOwned + Check + PartialEq + std::fmt::Debug>(text: &str) {
        static FILES: AtomicU64 = AtomicU64::new(0);
        // What follows a line of dots is the environment: one variable a line.
        let (file, variables) = text.split_once("...\n").unwrap_or((text, ""));
        let variables = variables.lines().filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            Some((format!("HORAI_CFG__{}", name.trim().to_uppercase()), value.trim().to_owned()))
        });
        let variables: Vec<(String, String)> = variables.collect();
        let number = FILES.fetch_add(1, Relaxed) % 64;
        let path = std::env::temp_dir();
        let path = path.join(format!("horai-fuzz-{}-{number}.toml", std::process::id()));
        std::fs::write(&path, file).unwrap();
        let read = config::load::<C>(&path, variables.clone());
        let again = config::load::<C>(&path, variables);
        std::fs::remove_file(&path).unwrap();
        match (read, again) {
            (Ok(config), Ok(again)) => {
                assert_eq!(config, again, "{text:?}");
                assert!(config.check().is_ok(), "{text:?}");
            }
            (Err(error), Err(again)) => {
                let told = error.to_string();
                assert_eq!(told, again.to_string());
                let names = told.contains(".toml") || told.contains("HORAI_CFG__");
                assert!(names && told.len() < 4_000, "{text:?}: {told}");
            }
            (read, again) => panic!("{text:?}: {read:?} and then {again:?}"),
        }
    }
    texts(PARTS, |text| {
        for dots in ["", "...\nraft__", "...\nnode__", "...\n"] {
            read::<NodeConfig>(&format!("{NODE}{dots}{text}"));
        }
        for dots in ["", "...\nworker__"] {
            read::<WorkerConfig>(&format!("{WORKER}{dots}{text}"));
        }
        read::<NodeConfig>(text);
        read::<WorkerConfig>(text);
    });
}

/// Bytes as choices: each takes one, and when there are no more all are the first.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn number(&mut self) -> usize {
        self.0.next().copied().map_or(0, usize::from)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.number() % from.len()]
    }

    /// Nothing, or one of these.
    fn perhaps<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if self.number().is_multiple_of(2) { None } else { Some(self.pick(from)) }
    }

    fn instant(&mut self) -> String {
        const BASES: [i64; 6] = [
            1_711_846_800, // 2024-03-31T01:00:00Z: spring in Europe
            1_729_990_800, // and autumn
            1_712_415_600, // 2024-04-06T15:00:00Z, half an hour on Lord Howe
            1_709_164_800, // 2024-02-29
            0,
            4_070_908_800, // 2099-01-01
        ];
        let by = [0, 1, -1, 59, 1_800, -1_800, 3_600, -3_600, 86_400, 2_678_400];
        let second = self.pick(&BASES) + self.pick(&by) * self.pick(&[0, 1, 2, 7]);
        UtcMillis(second.max(0) * 1000).to_string()
    }

    fn calendar(&mut self, deep: u8) -> Value {
        let mut calendar = match self.number() % 7 {
            0 => json!({"type": "weekly"}),
            1 => json!({"type": "weekly", "days": [self.pick(&[1, 2, 7]), self.pick(&[3, 7])]}),
            2 => json!({"type": "monthly", "days": [self.pick(&[1, 15, 31])]}),
            3 => json!({"type": "annual", "dates": [self.pick(&["12-25", "02-29", "2024-03-31"])]}),
            4 => {
                json!({"type": "holiday", "dates": [self.pick(&["2024-03-31", "2024-10-27T00:00:00Z"])]})
            }
            5 => {
                let (start, end) =
                    self.pick(&[("08:00", "17:00"), ("22:00", "05:30"), ("02:00", "02:30")]);
                json!({"type": "daily", "start": start, "end": end})
            }
            _ => {
                json!({"type": "cron", "exclude": self.pick(&["* * 0-7,18-23 ? * *", "* 0-29 * * * ?"])})
            }
        };
        calendar["invert"] = self.pick(&[false, false, false, true]).into();
        calendar["tz"] = self.pick(&[None, None, Some("UTC"), Some("Asia/Kathmandu")]).into();
        if deep > 0 && self.number() % 4 == 1 {
            calendar["base"] = self.calendar(deep - 1);
        }
        calendar
    }

    /// A question of `trigger simulate` with nothing wrong in it.
    fn question(&mut self) -> Value {
        let kinds =
            ["simple", "cron", "cron_with_calendar", "calendar_interval", "daily_time_interval"];
        let kind = self.pick(&kinds);
        let is_misfire = self.number() % 3 == 1;
        let units = ["SECOND", "MINUTE", "HOUR", "DAY", "WEEK", "MONTH", "YEAR"];
        let units = if kind == "daily_time_interval" { &units[..3] } else { &units[..] };
        let zones =
            ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Antarctica/Troll"];
        let crons = [
            "0 30 2 * * ?",
            "0 0/20 * * * ?",
            "0 0 0 L * ?",
            "0 0 12 ? * 6#5",
            "0 0 0 29 2 ? 2024",
        ];
        let offsets =
            [0, 1, 999, 1_000, 60_000, 3_600_000, -3_600_000, 86_400_000, 31_622_400_000_i64];
        let mut question = json!({
            "kind": if is_misfire { format!("misfire_{kind}") } else { kind.to_owned() },
            "tz": self.pick(&zones),
            "interval_ms": self.pick(&[60_000, 1_000, 7_200_000, 86_400_000_i64, 10_000_000_000_000]),
            "interval": self.pick(&[1, 2, 7, 45, 1_000_i64]),
            "unit": self.pick(units),
            "expr": self.pick(&crons),
            "repeat_count": self.perhaps(&[-1, 0, 1, 5, 1_000_000]),
            "preserve_hour_across_dst": self.pick(&[false, true]),
            "skip_day_if_hour_missing": self.pick(&[false, true]),
            "start_time_of_day": self.perhaps(&["00:00", "02:30", "08:00:15"]),
            "end_time_of_day": self.perhaps(&["23:59:59", "17:00", "03:00"]),
            "days_of_week_sun1": self.perhaps(&[&[1, 2, 3, 4, 5, 6, 7][..], &[1], &[2, 6]]),
        });
        if is_misfire {
            let names = [
                "IGNORE_MISFIRE_POLICY",
                "SMART_POLICY",
                "FIRE_NOW",
                "RESCHEDULE_NOW_WITH_EXISTING_REPEAT_COUNT",
                "RESCHEDULE_NOW_WITH_REMAINING_REPEAT_COUNT",
                "RESCHEDULE_NEXT_WITH_REMAINING_COUNT",
                "RESCHEDULE_NEXT_WITH_EXISTING_COUNT",
                "FIRE_ONCE_NOW",
                "DO_NOTHING",
            ];
            question["instruction"] = self.pick(&names).into();
            question["start_off_ms"] = self.pick(&offsets).into();
            question["end_off_ms"] = self.perhaps(&offsets).into();
            question["now_off_ms"] = self.pick(&offsets).into();
            question["missed_fire_off_ms"] = self.pick(&offsets).into();
            question["fired_before"] = self.perhaps(&[0, 1, 5, 1_000_000]).into();
        } else {
            question["start"] = self.instant().into();
            question["end"] = (self.number() % 3 == 1).then(|| self.instant()).into();
            question["count_asked"] = self.pick(&[5, 0, 1, 60]).into();
            if self.number() % 2 == 1 {
                question["calendar"] = self.calendar(2);
            }
        }
        question
    }
}

#[test]
fn simulated_triggers() {
    bolero::check!().with_test_time(time()).with_max_len(60).for_each(|bytes: &[u8]| {
        let question = Choices(bytes.iter()).question();
        let line = question.to_string();
        let answer = offline::trigger::answer(&line);
        assert_eq!(offline::trigger::answer(&line), answer, "{line}");
        let read: Value = serde_json::from_str(&answer).unwrap();
        assert!(read.get("error").is_none(), "{line}: {answer}");
        let Some(fires) = read.get("expected_fires") else {
            let next = &read["expected_next_off_ms"];
            assert!(next.is_null() || next.is_i64() || next == "NOW", "{line}: {answer}");
            return;
        };
        // What lies near the end of time is printed, and cannot be read again.
        let instant = |value: &Value| offline::instant(value.as_str().unwrap()).ok();
        let fires = fires.as_array().unwrap();
        assert!(fires.len() <= usize::try_from(question["count_asked"].as_u64().unwrap()).unwrap());
        let fires: Vec<UtcMillis> = fires.iter().filter_map(instant).collect();
        // A hundred years ahead Quartz gives up, and says the same again.
        let given_up = offline::instant("2125-01-01T00:00:00Z").unwrap();
        let goes_on = |a: &UtcMillis, b: &UtcMillis| a < b || (a == b && *b >= given_up);
        assert!(fires.is_sorted_by(goes_on), "{line}: {answer}");
        let start = instant(&question["start"]);
        assert!(
            fires.first().is_none_or(|at| start.is_none_or(|start| *at >= start)),
            "{line}: {answer}"
        );
    });
}
