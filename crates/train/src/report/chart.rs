//! Line charts in HTML: the lines are an inline SVG that stretches with the page, the labels are text beside it, so that
//! they stay readable on a phone.

use std::fmt::Write;

use super::html::escape;

/// A line chart.
pub(super) struct Chart<'a> {
    /// What is drawn.
    pub title: &'a str,
    /// Unit of the values.
    pub unit: &'a str,
    /// What runs along the bottom.
    pub along: &'a str,
    /// The points, from left to right. Those that are not finite are left out.
    pub points: &'a [(f64, f64)],
    /// Mark every point; for few of them.
    pub dots: bool,
    /// A point that stands out, with what is said of it.
    pub mark: Option<((f64, f64), String)>,
    /// Class of the figure, which gives the colour.
    pub class: &'a str,
    /// Said in place of the chart while there are no points.
    pub empty: &'a str,
}

/// Side of the square that the SVG draws in, before it is stretched.
const SIDE: f64 = 1000.0;
/// More points than this are averaged in groups.
const MAX_POINTS: usize = 300;

impl Chart<'_> {
    /// The chart as a `figure`.
    pub fn html(&self) -> String {
        let points: Vec<_> = self
            .points
            .iter()
            .copied()
            .filter(|(x, y)| x.is_finite() && y.is_finite())
            .collect();
        let mut html = format!(
            "<figure class=\"chart {}\"><figcaption>{} <span>{}</span>",
            self.class,
            escape(self.title),
            escape(self.unit)
        );
        if let Some((_, text)) = &self.mark {
            let _ = write!(html, "<b>{}</b>", escape(text));
        }
        html.push_str("</figcaption>");
        if points.is_empty() {
            let _ = write!(
                html,
                "<p class=\"empty\">{}</p></figure>",
                escape(self.empty)
            );
            return html;
        }
        let groups = grouped(&points);
        let x_axis = Axis::over(0.0, points.iter().map(|point| point.0));
        let (low, high) = (
            groups
                .iter()
                .map(|group| group.low)
                .fold(f64::INFINITY, f64::min),
            groups
                .iter()
                .map(|group| group.high)
                .fold(f64::NEG_INFINITY, f64::max),
        );
        let y_axis = Axis::over(low, [low, high].into_iter());
        html.push_str("<div class=\"plot\">");
        self.draw(&mut html, &groups, &x_axis, &y_axis);
        for tick in y_axis.ticks() {
            let _ = write!(
                html,
                "<span class=\"y\" style=\"bottom:{:.2}%\">{}</span>",
                100.0 * y_axis.share(tick),
                y_axis.label(tick)
            );
        }
        for tick in x_axis.ticks() {
            let _ = write!(
                html,
                "<span class=\"x\" style=\"left:{:.2}%\">{}</span>",
                100.0 * x_axis.share(tick),
                x_axis.label(tick)
            );
        }
        let _ = write!(
            html,
            "</div><p class=\"along\">{}</p></figure>",
            escape(self.along)
        );
        html
    }

    fn draw(&self, html: &mut String, groups: &[Group], x_axis: &Axis, y_axis: &Axis) {
        let place = |x: f64, y: f64| {
            format!(
                "{:.1},{:.1}",
                SIDE * x_axis.share(x),
                SIDE * (1.0 - y_axis.share(y))
            )
        };
        let _ = write!(
            html,
            "<svg viewBox=\"0 0 {SIDE} {SIDE}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}, from {} to {}\">",
            escape(self.title),
            y_axis.label(groups[0].mean),
            y_axis.label(groups[groups.len() - 1].mean),
        );
        for tick in y_axis.ticks() {
            let y = SIDE * (1.0 - y_axis.share(tick));
            let _ = write!(html, "<path class=\"grid\" d=\"M0,{y:.1}H{SIDE}\"/>");
        }
        if groups.iter().any(|group| group.low < group.high) {
            let above = groups.iter().map(|group| place(group.x, group.high));
            let below = groups.iter().rev().map(|group| place(group.x, group.low));
            let outline: Vec<_> = above.chain(below).collect();
            let _ = write!(
                html,
                "<polygon class=\"band\" points=\"{}\"/>",
                outline.join(" ")
            );
        }
        let line: Vec<_> = groups
            .iter()
            .map(|group| place(group.x, group.mean))
            .collect();
        let _ = write!(
            html,
            "<polyline class=\"line\" points=\"{}\"/>",
            line.join(" ")
        );
        let every = if self.dots && groups.len() <= 60 {
            1
        } else {
            groups.len()
        };
        // A stroke of no length with round ends: a dot that stays round when the drawing is stretched.
        for place in line.iter().rev().step_by(every) {
            let _ = write!(html, "<path class=\"dot\" d=\"M{place}h0\"/>");
        }
        if let Some(((x, y), _)) = self.mark {
            let _ = write!(html, "<path class=\"dot best\" d=\"M{}h0\"/>", place(x, y));
        }
        html.push_str("</svg>");
    }
}

/// Neighbouring points as one.
struct Group {
    x: f64,
    low: f64,
    mean: f64,
    high: f64,
}

fn grouped(points: &[(f64, f64)]) -> Vec<Group> {
    points
        .chunks(points.len().div_ceil(MAX_POINTS))
        .map(|chunk| {
            let count = chunk.len() as f64;
            let values = || chunk.iter().map(|point| point.1);
            Group {
                x: chunk.iter().map(|point| point.0).sum::<f64>() / count,
                low: values().fold(f64::INFINITY, f64::min),
                mean: values().sum::<f64>() / count,
                high: values().fold(f64::NEG_INFINITY, f64::max),
            }
        })
        .collect()
}

/// A range of values and the round numbers in it.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// From `low` or the least value to the greatest, with a few steps of 1, 2 or 5 times a power of ten.
    fn over(low: f64, values: impl Iterator<Item = f64>) -> Self {
        const MAX_TICKS: usize = 6;
        let (low, high) = values.fold((low, low), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        // A single value gets room around it, so that there is a range at all.
        let (low, high) = if high > low {
            (low, high)
        } else {
            let room = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
            (low - room, high + room)
        };
        // A little air, so that no line runs along an edge; but an axis that starts at 0 starts there.
        let air = 0.04 * (high - low);
        let mut axis = Self {
            low: if low == 0.0 { 0.0 } else { low - air },
            high: high + air,
            step: 0.1 * 10_f64.powf((high - low).log10().floor()),
        };
        for factor in [2.0, 2.5, 2.0].into_iter().cycle() {
            if axis.ticks().len() <= MAX_TICKS {
                break;
            }
            axis.step *= factor;
        }
        axis
    }

    fn ticks(&self) -> Vec<f64> {
        let first = (self.low / self.step).ceil() as i64;
        let last = (self.high / self.step).floor() as i64;
        (first..=last).map(|tick| tick as f64 * self.step).collect()
    }

    /// Where a value lies, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    fn label(&self, value: f64) -> String {
        let decimals = (-self.step.log10().floor()).max(0.0) as usize;
        let text = format!("{value:.decimals$}");
        if decimals == 0 {
            super::html::grouped_digits(&text)
        } else {
            text
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, values: &[f64]) -> Vec<String> {
        let axis = Axis::over(low, values.iter().copied());
        axis.ticks()
            .into_iter()
            .map(|tick| axis.label(tick))
            .collect()
    }

    #[test]
    fn ticks_are_round_numbers_within_the_range() {
        assert_eq!(labels(0.0, &[3.0, 96.0]), ["0", "20", "40", "60", "80"]);
        assert_eq!(labels(6.31, &[6.31, 8.13]), ["6.5", "7.0", "7.5", "8.0"]);
        assert_eq!(
            labels(0.0, &[0.0, 20_000.0]),
            ["0", "5,000", "10,000", "15,000", "20,000"]
        );
        assert_eq!(
            labels(0.131, &[0.131, 0.152]),
            ["0.135", "0.140", "0.145", "0.150"]
        );
    }

    #[test]
    fn any_range_has_a_few_ticks() {
        for values in [
            [0.0, 0.0],
            [5.0, 5.0],
            [-3.0, -3.0],
            [1e-9, 2e-9],
            [-1e9, 1e12],
            [0.1, 0.100_01],
        ] {
            let axis = Axis::over(values[0], values.into_iter());
            let ticks = axis.ticks();
            assert!((2..=6).contains(&ticks.len()), "{values:?}: {ticks:?}");
            assert!(
                ticks
                    .iter()
                    .all(|&tick| (0.0..=1.0).contains(&axis.share(tick))),
                "{values:?}"
            );
        }
    }

    #[test]
    fn many_points_become_few_that_keep_the_extremes() {
        let points: Vec<_> = (0..10_007)
            .map(|i| (f64::from(i), f64::from(i * i % 101)))
            .collect();
        let groups = grouped(&points);
        assert!(groups.len() <= MAX_POINTS);
        let high = groups.iter().map(|group| group.high).fold(0.0, f64::max);
        let low = groups.iter().map(|group| group.low).fold(100.0, f64::min);
        let all = || points.iter().map(|point| point.1);
        assert_eq!(low.to_bits(), all().fold(f64::INFINITY, f64::min).to_bits());
        assert_eq!(high.to_bits(), all().fold(0.0, f64::max).to_bits());
        assert!(groups.windows(2).all(|pair| pair[0].x < pair[1].x));
        assert!(
            groups
                .iter()
                .all(|group| group.low <= group.mean && group.mean <= group.high)
        );
    }

    #[test]
    fn values_that_are_no_numbers_are_left_out_of_the_drawing() {
        let chart = |points| Chart {
            title: "Loss",
            unit: "nats",
            along: "epochs",
            points,
            dots: true,
            mark: None,
            class: "a",
            empty: "nothing <yet>",
        };
        let html = chart(&[(0.0, 1.0), (1.0, f64::NAN), (2.0, 3.0)]).html();
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        assert_eq!(html.matches("class=\"dot\"").count(), 2);
        assert!(
            chart(&[(1.0, f64::NAN)])
                .html()
                .contains("nothing &lt;yet&gt;")
        );
    }
}
