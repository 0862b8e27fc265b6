//! Drawing: a chart with time from left to right, as SVG text. Knows nothing of what
//! it draws.

/// Width of every chart, in its own units.
pub(super) const WIDTH: f64 = 1160.0;
/// Room for labels at the left of every chart.
pub(super) const LEFT: f64 = 118.0;
const RIGHT: f64 = 14.0;
const BOTTOM: f64 = 22.0;

/// Text that stands for itself in HTML.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// A number without more digits than it needs.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A chart over a stretch of time.
pub(super) struct Chart {
    body: String,
    height: f64,
    top: f64,
    from: u64,
    to: u64,
}

impl Chart {
    /// From and to in monotonic nanoseconds; `height` without the axis.
    pub(super) fn new(from: u64, to: u64, height: f64) -> Self {
        let to = to.max(from + 1_000_000_000);
        Self { body: String::new(), height, top: 6.0, from, to }
    }

    /// Where a time is.
    pub(super) fn x(&self, t: u64) -> f64 {
        let share = (t.clamp(self.from, self.to) - self.from) as f64 / (self.to - self.from) as f64;
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    /// Where a share of the height is, 0 at the bottom.
    pub(super) fn y(&self, share: f64) -> f64 {
        self.top + (1.0 - share.clamp(0.0, 1.0)) * self.height
    }

    /// A filled box between two times; at least a hair wide.
    pub(super) fn bar(
        &mut self,
        (from, to): (u64, u64),
        (y, h): (f64, f64),
        class: &str,
        title: &str,
    ) {
        let (x, end) = (self.x(from), self.x(to));
        let width = (end - x).max(0.8);
        self.push(format!(
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\">{}</rect>",
            short(x),
            short(y),
            short(width),
            short(h),
            title_of(title),
        ));
    }

    /// A point.
    pub(super) fn dot(&mut self, t: u64, y: f64, r: f64, class: &str, title: &str) {
        let (x, title) = (short(self.x(t)), title_of(title));
        let (y, r) = (short(y), short(r));
        self.push(format!(
            "<circle class=\"{class}\" cx=\"{x}\" cy=\"{y}\" r=\"{r}\">{title}</circle>"
        ));
    }

    /// A line through points.
    pub(super) fn line(&mut self, points: &[(u64, f64)], class: &str) {
        let text: Vec<String> =
            points.iter().map(|(t, y)| format!("{},{}", short(self.x(*t)), short(*y))).collect();
        self.push(format!("<polyline class=\"{class}\" points=\"{}\"/>", text.join(" ")));
    }

    /// A word at the left of the chart.
    pub(super) fn label(&mut self, y: f64, text: &str) {
        let (x, y) = (short(LEFT - 8.0), short(y));
        self.push(format!("<text class=\"label\" x=\"{x}\" y=\"{y}\">{}</text>", escape(text)));
    }

    /// A word at a time.
    pub(super) fn note(&mut self, t: u64, y: f64, class: &str, text: &str) {
        let (x, y) = (short(self.x(t) + 4.0), short(y));
        self.push(format!("<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escape(text)));
    }

    /// A faint line across, with its value at the left.
    pub(super) fn grid(&mut self, share: f64, text: &str) {
        let y = self.y(share);
        let (x1, x2) = (short(LEFT), short(WIDTH - RIGHT));
        self.push(format!(
            "<line class=\"grid\" x1=\"{x1}\" x2=\"{x2}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
        ));
        self.label(y + 3.5, text);
    }

    fn push(&mut self, element: String) {
        self.body.push_str(&element);
        self.body.push('\n');
    }

    /// The whole, with the axis of time below.
    pub(super) fn finish(mut self, label: &str) -> String {
        let seconds = (self.to - self.from) as f64 / 1e9;
        let steps = [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0];
        let step = steps.into_iter().find(|step| seconds / step <= 14.0).unwrap_or(7200.0);
        let y = self.top + self.height;
        let mut axis = String::new();
        let mut at = 0.0;
        while at <= seconds {
            let x = self.x(self.from + (at * 1e9) as u64);
            axis.push_str(&format!(
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{y}\"/>\
                 <text class=\"tick\" x=\"{x:.1}\" y=\"{}\">{at:.0} s</text>",
                self.top,
                y + 15.0,
            ));
            at += step;
        }
        self.body.insert_str(0, &axis);
        let height = y + BOTTOM;
        let label = escape(label);
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{label}\">\n{}</svg>",
            self.body
        )
    }
}

fn title_of(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<title>{}</title>", escape(text)) }
}

/// The share of the height for a value on a logarithmic scale from `least` to `most`.
pub(super) fn log_share(value: f64, least: f64, most: f64) -> f64 {
    (value.max(least).ln() - least.ln()) / (most.ln() - least.ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_where_it_belongs() {
        let mut chart = Chart::new(0, 10_000_000_000, 100.0);
        assert!((chart.x(0) - LEFT).abs() < 0.01);
        assert!(chart.x(5_000_000_000) > chart.x(4_000_000_000));
        assert!(chart.y(1.0) < chart.y(0.0));
        chart.dot(1, 2.0, 3.0, "ok", "a<b & \"c\"");
        let drawn = chart.finish("x");
        assert!(drawn.contains("a&lt;b &amp; &quot;c&quot;"), "{drawn}");
        assert!(drawn.starts_with("<svg") && drawn.ends_with("</svg>"));
        assert_eq!(drawn.matches("<svg").count(), 1);
    }

    #[test]
    fn a_logarithmic_scale_is_one() {
        assert!((log_share(10.0, 1.0, 100.0) - 0.5).abs() < 1e-9);
        assert!((log_share(0.0, 1.0, 100.0)).abs() < 1e-9);
    }
}
