//! `jepsen export`: the history of a test as `history.edn`, in the form of Jepsen's own
//! histories, for tools that read those.
//!
//! A line is a map of `:index`, `:time` (nanoseconds from the first row), `:process`,
//! `:type`, `:f` and `:value`; `:key`, `:node` and `:error` stand beside them where
//! there are any. Faults are in it too, as `:info` of the process `:nemesis`.

use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::Failure;
use crate::history::{Kind, Row};
use crate::store::{Fault, history_rows};

/// Its name, beside the evidence.
const FILE: &str = "history.edn";

/// Writes the history of a store in EDN, and says where.
///
/// # Errors
/// The history cannot be read whole, or the file not be written.
pub(crate) fn export(store: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let (rows, faults) = history_rows(store)?;
    let path = store.join(FILE);
    let mut file = BufWriter::new(File::create(&path)?);
    let mut ops: Vec<(u64, Op<'_>)> = rows.iter().map(|row| (row.t, Op::Client(row))).collect();
    ops.extend(faults.iter().map(|fault| (fault.t, Op::Nemesis(fault))));
    ops.sort_by_key(|(t, _)| *t);
    let begun = ops.first().map_or(0, |(t, _)| *t);
    for (index, (t, op)) in ops.iter().enumerate() {
        writeln!(file, "{{:index {index}, :time {}, {op}}}", t - begun)?;
    }
    file.flush()?;
    writeln!(out, "{}: {} operations", path.display(), ops.len())?;
    Ok(())
}

enum Op<'a> {
    Client(&'a Row),
    Nemesis(&'a Fault),
}

impl Display for Op<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(row) => {
                let kind = match row.kind {
                    Kind::Invoke => "invoke",
                    Kind::Ok => "ok",
                    Kind::Fail => "fail",
                    Kind::Info => "info",
                };
                let value = Edn(&row.v);
                write!(f, ":process {}, :type :{kind}, :f :{}, :value {value}", row.p, row.f)?;
                let error = row.err.as_deref().unwrap_or_default();
                let more = [("key", row.k.as_str()), ("node", row.node.as_str()), ("error", error)];
                for (name, text) in more.into_iter().filter(|(_, text)| !text.is_empty()) {
                    write!(f, ", :{name} {}", json!(text))?;
                }
                Ok(())
            }
            Self::Nemesis(fault) => {
                let Fault { op, args, stage, detail, .. } = fault;
                let value = json!({"stage": stage, "args": args, "detail": detail});
                write!(f, ":process :nemesis, :type :info, :f :{op}, :value {}", Edn(&value))
            }
        }
    }
}

/// JSON as EDN. Strings and numbers are the same in both.
struct Edn<'a>(&'a Value);

impl Display for Edn<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Value::Null => f.write_str("nil"),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().map(|item| Edn(item).to_string()).collect();
                write!(f, "[{}]", items.join(" "))
            }
            Value::Object(fields) => write!(f, "{{{}}}", pairs(fields)),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => self.0.fmt(f),
        }
    }
}

fn pairs(fields: &Map<String, Value>) -> String {
    let pair = |(name, value): (&String, &Value)| {
        let is_plain = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let name = if is_plain { format!(":{name}") } else { json!(name).to_string() };
        format!("{name} {}", Edn(value))
    };
    let mut pairs: Vec<String> = fields.iter().map(pair).collect();
    pairs.sort_unstable();
    pairs.join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::history::{Ask, Came, Writer};
    use crate::store::{Stage, write_row};

    #[test]
    fn json_becomes_edn() {
        let edn = |value: Value| Edn(&value).to_string();
        assert_eq!(
            edn(json!([null, true, -1, 2.5, "a\n\"b\""])),
            r#"[nil true -1 2.5 "a\n\"b\""]"#
        );
        assert_eq!(edn(json!({"ttl_ms": 4, "a b": [[0, 3]]})), r#"{"a b" [[0 3]], :ttl_ms 4}"#);
        assert_eq!(edn(json!({"9": {}})), r#"{"9" {}}"#);
    }

    #[test]
    fn clients_and_faults_are_one_history_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path();
        let writer = Writer::create(&store.join("history.jsonl")).unwrap();
        let ask = Ask { p: 3, f: "add", k: "set".into(), v: json!(7), node: "n1".into() };
        let asked = writer.invoke(&ask).unwrap();
        let mut faults = File::create(store.join("nemesis.jsonl")).unwrap();
        let args = json!({"who": ["n2"]});
        let op = "kill-leader".to_owned();
        let fault = Fault { t: asked.t + 1, op, args, stage: Stage::Installed, ..Fault::default() };
        write_row(&mut faults, &fault).unwrap();
        let came = writer.complete(&ask, Came::info("late".into())).unwrap();
        let mut said = Vec::new();
        export(store, &mut said).unwrap();
        assert!(String::from_utf8(said).unwrap().ends_with("history.edn: 3 operations\n"));
        let text = fs::read_to_string(store.join(FILE)).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "{:index 0, :time 0, :process 3, :type :invoke, :f :add, :value 7, :key \"set\", \
             :node \"n1\"}"
        );
        assert_eq!(
            lines[1],
            "{:index 1, :time 1, :process :nemesis, :type :info, :f :kill-leader, :value {:args \
             {:who [\"n2\"]}, :detail nil, :stage \"installed\"}}"
        );
        let late = format!("{{:index 2, :time {}, :process 3, :type :info, ", came.t - asked.t);
        assert!(lines[2].starts_with(&late) && lines[2].ends_with(":error \"late\"}"), "{text}");
        // Half a history would be taken for a whole one.
        fs::write(store.join("nemesis.jsonl"), "{\n").unwrap();
        assert!(export(store, &mut Vec::new()).is_err());
    }
}
