//! Ends what an attempt of another worker began elsewhere, as that worker is gone.
//!
//! Commands of this worker's own configuration, with nothing of the leader's in them but a
//! text that one of the interpreter's patterns must take. One after the other, each bounded;
//! what became of them is reported as the attempt's own worker would have done.

use std::process::Stdio;
use std::time::Duration;

use horai_core::model::handle::{Handle, HandleEnd};
use tokio::process::Command;
use tokio::time::timeout;

use super::executor::PATH;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs what ends each of them, where there is a command for it.
pub(super) async fn end_all(left: Vec<(String, Vec<String>)>) -> Vec<Handle> {
    let mut handles = Vec::new();
    for (text, argv) in left {
        let (done, came_to) = end(&argv).await;
        let said = format!("{} -> {came_to}, by another worker", argv.join(" "));
        let end = HandleEnd { done, said: Handle::cut(&said) };
        handles.push(Handle { text, end: Some(end) });
    }
    handles
}

async fn end(argv: &[String]) -> (bool, String) {
    let Some((program, arguments)) = argv.split_first() else {
        return (false, "its interpreter knows no command that ends it".to_owned());
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match timeout(PATIENCE, command.status()).await {
        Ok(Ok(status)) => (
            status.success(),
            match status.code() {
                Some(code) => format!("exit {code}"),
                None => "ended by a signal".to_owned(),
            },
        ),
        Ok(Err(error)) => (false, error.to_string()),
        Err(_) => (false, format!("no end in {} s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_command_says_what_it_came_to() {
        let of = |text: &str, argv: &[&str]| {
            (text.to_owned(), argv.iter().map(|word| (*word).to_owned()).collect())
        };
        let left = vec![of("a", &["true"]), of("b", &["false"]), of("c", &[]), of("d", &["/no"])];
        let ended = end_all(left).await;
        let done: Vec<bool> = ended.iter().map(|h| h.end.as_ref().unwrap().done).collect();
        assert_eq!(done, [true, false, false, false]);
        assert!(ended[1].end.as_ref().unwrap().said.starts_with("false -> exit 1"));
    }
}
