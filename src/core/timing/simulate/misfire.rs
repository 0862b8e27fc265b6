//! What Quartz does with a trigger that missed its time.

use super::{FOR_EVER, QuartzKind, QuartzTrigger};

/// A misfire instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instruction {
    /// Fire all that were missed, one after the other.
    Ignore,
    /// The usual one of the kind.
    Smart,
    /// Simple triggers: now.
    FireNow,
    /// Simple triggers: now and from now on, with the count that is left.
    NowWithExistingCount,
    /// Simple triggers: the same, and what was missed counts.
    NowWithRemainingCount,
    /// Simple triggers: at the next regular time, what was missed counts.
    NextWithRemainingCount,
    /// Simple triggers: at the next regular time.
    NextWithExistingCount,
    /// Other triggers: once now, then at regular times.
    FireOnceNow,
    /// Other triggers: at the next regular time.
    DoNothing,
}

impl Instruction {
    /// By Quartz's name for it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "IGNORE_MISFIRE_POLICY" => Self::Ignore,
            "SMART_POLICY" => Self::Smart,
            "FIRE_NOW" => Self::FireNow,
            "RESCHEDULE_NOW_WITH_EXISTING_REPEAT_COUNT" => Self::NowWithExistingCount,
            "RESCHEDULE_NOW_WITH_REMAINING_REPEAT_COUNT" => Self::NowWithRemainingCount,
            "RESCHEDULE_NEXT_WITH_REMAINING_COUNT" => Self::NextWithRemainingCount,
            "RESCHEDULE_NEXT_WITH_EXISTING_COUNT" => Self::NextWithExistingCount,
            "FIRE_ONCE_NOW" => Self::FireOnceNow,
            "DO_NOTHING" => Self::DoNothing,
            _ => return None,
        })
    }
}

/// What a misfire leaves behind.
#[derive(Debug, Clone)]
pub struct After {
    /// The trigger: start and counts may have changed.
    pub trigger: QuartzTrigger,
    /// What it fires next.
    pub next: Option<i64>,
}

impl QuartzTrigger {
    /// Handles a misfire of `missed` at `now`.
    #[must_use]
    pub fn misfired(&self, instruction: Instruction, missed: i64, now: i64) -> After {
        match &self.kind {
            QuartzKind::Simple { interval } => {
                self.simple_misfired(*interval, instruction, missed, now)
            }
            _ => {
                let next = match instruction {
                    Instruction::Ignore => Some(missed),
                    Instruction::DoNothing => self.after(now),
                    _ => Some(now),
                };
                After { trigger: self.clone(), next }
            }
        }
    }

    fn simple_misfired(
        &self,
        interval: i64,
        instruction: Instruction,
        missed: i64,
        now: i64,
    ) -> After {
        use Instruction as I;
        let mut trigger = self.clone();
        let is_bounded = !matches!(self.repeat_count, 0 | FOR_EVER);
        let count_to = |to: i64| (to - missed).checked_div(interval).unwrap_or(0);
        let instruction = match (instruction, self.repeat_count) {
            (I::Smart, 0) => I::FireNow,
            (I::Smart, FOR_EVER) => I::NextWithRemainingCount,
            (I::Smart, _) => I::NowWithExistingCount,
            (I::FireNow, count) if count != 0 => I::NowWithRemainingCount,
            (other, _) => other,
        };
        match instruction {
            I::Ignore => After { trigger, next: Some(missed) },
            I::NextWithExistingCount | I::DoNothing => {
                let next = trigger.after(now);
                After { trigger, next }
            }
            I::NextWithRemainingCount => {
                let next = trigger.after(now);
                trigger.times_triggered += next.map_or(0, count_to);
                After { trigger, next }
            }
            I::NowWithExistingCount | I::NowWithRemainingCount => {
                if is_bounded {
                    let missed =
                        if instruction == I::NowWithRemainingCount { count_to(now) } else { 0 };
                    let left = self.repeat_count - self.times_triggered - missed;
                    trigger.repeat_count =
                        if instruction == I::NowWithRemainingCount { left.max(0) } else { left };
                    trigger.times_triggered = 0;
                }
                if self.end.is_some_and(|end| end < now) {
                    return After { trigger, next: None };
                }
                trigger.start = now;
                After { trigger, next: Some(now) }
            }
            I::Smart | I::FireNow | I::FireOnceNow => After { trigger, next: Some(now) },
        }
    }
}
