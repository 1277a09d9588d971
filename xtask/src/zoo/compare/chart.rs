//! Drawings as inline SVG: dots with their names beside them, and lines with their names at their ends. No two names overlap.
//!
//! Colours come from the page: `--ink`, `--soft`, `--line`, and `--hue` with `--light`, which differs between light and dark.

use std::fmt::Write;

use super::verdict::grouped_digits;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 430.0;
const LEFT: f64 = 78.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 48.0;
/// Height of a line of text.
const TEXT: f64 = 14.0;

/// A mark, or one end of a line: who it is of.
#[derive(Debug, Clone)]
pub struct Name<'a> {
    /// What stands beside it.
    pub text: String,
    /// Angle of its colour; none: that of text, for what all are compared with.
    pub hue: Option<f64>,
    /// More, for those who point at it.
    pub more: &'a str,
}

/// A dot, and how far its values reach.
#[derive(Debug, Clone)]
pub struct Dot<'a> {
    pub name: Name<'a>,
    pub x: f64,
    pub y: f64,
    /// The least and the greatest of what `y` is the mean of.
    pub reach: (f64, f64),
}

/// A line.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    pub name: Name<'a>,
    pub points: Vec<(f64, f64)>,
}

/// What runs along an axis.
struct Axis {
    low: f64,
    high: f64,
    is_log: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// Even steps over `values`, with a little air.
    fn even(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = ends(values);
        let room = if high > low {
            0.08 * (high - low)
        } else {
            0.1 * high.abs().max(1e-3)
        };
        let (low, high) = (low - room, high + room);
        let rough = (high - low) / 5.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
        let step = step
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(10.0 * power);
        let ticks =
            ((low / step).ceil() as i64..=(high / step).floor() as i64).map(|n| n as f64 * step);
        Self {
            low,
            high,
            is_log: false,
            ticks: ticks.collect(),
        }
    }

    /// Even steps of the logarithm, with 1, 2 and 5 of each power of ten where there are few powers.
    fn log(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = ends(values.filter(|value| *value > 0.0));
        let room = (high / low).powf(0.06).max(1.08);
        let (low, high) = (low / room, high * room);
        let powers = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let factors: &[f64] = if high / low < 8.0 {
            &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]
        } else if high / low < 30.0 {
            &[1.0, 2.0, 3.0, 5.0]
        } else if high / low < 1000.0 {
            &[1.0, 2.0, 5.0]
        } else {
            &[1.0]
        };
        let ticks = powers.flat_map(|power| {
            let power = 10_f64.powi(power);
            factors.iter().map(move |factor| factor * power)
        });
        let mut ticks: Vec<f64> = ticks.filter(|tick| (low..=high).contains(tick)).collect();
        if ticks.len() < 2 {
            ticks = Self::even([low, high].into_iter()).ticks;
            ticks.retain(|tick| (low..=high).contains(tick));
        }
        Self {
            low,
            high,
            is_log: true,
            ticks,
        }
    }

    fn share(&self, value: f64) -> f64 {
        if self.is_log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    fn label(&self, tick: f64) -> String {
        let step = if self.is_log {
            tick
        } else {
            self.ticks
                .windows(2)
                .map(|pair| pair[1] - pair[0])
                .fold(tick.abs().max(1e-9), f64::min)
        };
        // As many digits as tell neighbours apart; 1.5 of a power of ten needs one more.
        let digits = (0..6).find(|&digits| {
            let shift = 10_f64.powi(digits);
            ((step * shift).round() - step * shift).abs() < 1e-6 * step * shift
        });
        match digits {
            Some(0) if tick >= 0.0 => grouped_digits(tick.round() as usize),
            digits => format!("{tick:.*}", digits.unwrap_or(4) as usize).replace('-', "−"),
        }
    }
}

fn ends(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let ends = values
        .filter(|value| value.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if ends.0.is_finite() { ends } else { (1.0, 1.0) }
}

/// A box in the drawing.
#[derive(Debug, Clone, Copy)]
struct Area {
    left: f64,
    top: f64,
    right: f64,
    bottom: f64,
}

impl Area {
    fn meets(self, other: Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }

    fn within(self, other: Self) -> bool {
        self.left >= other.left
            && self.right <= other.right
            && self.top >= other.top
            && self.bottom <= other.bottom
    }
}

/// Dots over a logarithmic axis of cost; `x` and `y` say what runs along each axis, with units.
pub fn dots(title: &str, [x, y]: [&str; 2], dots: &[Dot]) -> String {
    const RIGHT: f64 = 18.0;
    let x_axis = Axis::log(dots.iter().map(|dot| dot.x));
    let y_axis = Axis::even(
        dots.iter()
            .flat_map(|dot| [dot.reach.0, dot.y, dot.reach.1]),
    );
    let plot = Area {
        left: LEFT,
        top: TOP,
        right: WIDTH - RIGHT,
        bottom: HEIGHT - BOTTOM,
    };
    let mut svg = begin(title, [x, y], plot, [&x_axis, &y_axis]);
    let places: Vec<(f64, f64)> = dots
        .iter()
        .map(|dot| place(plot, [&x_axis, &y_axis], dot.x, dot.y))
        .collect();
    let names: Vec<&str> = dots.iter().map(|dot| &*dot.name.text).collect();
    let reaches: Vec<(f64, f64)> = dots
        .iter()
        .map(|dot| {
            let [low, high] = [dot.reach.0, dot.reach.1];
            let end = |y| place(plot, [&x_axis, &y_axis], dot.x, y).1;
            (end(low), end(high))
        })
        .collect();
    let taken = places.iter().zip(&reaches);
    let taken: Vec<Area> = taken
        .flat_map(|(&(x, y), &reach)| marks(x, y, reach))
        .collect();
    let labels = beside(&places, &names, taken, plot);
    for (((dot, (px, py)), label), (low, high)) in
        dots.iter().zip(&places).zip(labels).zip(&reaches)
    {
        let _ = write!(svg, "<g class=\"who\"{}>", colour(&dot.name));
        let (tx, ty) = (
            f64::midpoint(label.left, label.right),
            f64::midpoint(label.top, label.bottom),
        );
        if (tx - px).hypot(ty - py) > 0.5 * (label.right - label.left) + 22.0 {
            let end = px.clamp(label.left, label.right);
            let _ = write!(
                svg,
                "<path class=\"leader\" d=\"M{px:.1},{py:.1}L{end:.1},{ty:.1}\"/>"
            );
        }
        if (high - low).abs() > 1.0 {
            let _ = write!(
                svg,
                "<path class=\"reach\" d=\"M{px:.1},{low:.1}V{high:.1}\"/>"
            );
        }
        let _ = write!(
            svg,
            "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"5\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text><title>{}: {}</title></g>",
            label.left,
            label.bottom - 3.5,
            escape(&dot.name.text),
            escape(&dot.name.text),
            escape(dot.name.more)
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Lines over two logarithmic axes, with marks along the bottom at every length.
pub fn lines(title: &str, [x, y]: [&str; 2], lines: &[Line]) -> String {
    const RIGHT: f64 = 178.0;
    const TALLER: f64 = 90.0;
    let all = || lines.iter().flat_map(|line| &line.points);
    let mut x_axis = Axis::log(all().map(|point| point.0));
    // Lengths are marked where they were measured.
    x_axis.ticks = lines.first().map_or(Vec::new(), |line| {
        line.points.iter().map(|point| point.0).collect()
    });
    let y_axis = Axis::log(all().map(|point| point.1));
    let plot = Area {
        left: LEFT,
        top: TOP,
        right: WIDTH - RIGHT,
        bottom: HEIGHT + TALLER - BOTTOM,
    };
    let mut svg = begin(title, [x, y], plot, [&x_axis, &y_axis]);
    let end = |line: &Line| {
        let mut points = line.points.iter().rev();
        let last = points.find(|point| point.1 > 0.0);
        last.map_or(plot.bottom, |&(x, y)| {
            place(plot, [&x_axis, &y_axis], x, y).1
        })
    };
    let ends: Vec<f64> = lines.iter().map(end).collect();
    for (line, (end, label)) in
        lines
            .iter()
            .zip(ends.iter().zip(apart(&ends, plot.top + 6.0, plot.bottom)))
    {
        let _ = write!(svg, "<g class=\"who\"{}>", colour(&line.name));
        let points = line.points.iter().filter(|point| point.1 > 0.0);
        let points: Vec<(f64, f64)> = points
            .map(|&(x, y)| place(plot, [&x_axis, &y_axis], x, y))
            .collect();
        let path: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let last = points.last().map_or(plot.right, |point| point.0);
        let _ = write!(
            svg,
            "<polyline points=\"{}\"/><path class=\"leader\" d=\"M{last:.1},{end:.1}L{:.1},{label:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text><title>{}: {}</title></g>",
            path.join(" "),
            plot.right + 16.0,
            plot.right + 19.0,
            label + 4.0,
            escape(&line.name.text),
            escape(&line.name.text),
            escape(line.name.more)
        );
    }
    svg.push_str("</svg>");
    svg
}

fn begin(title: &str, [x, y]: [&str; 2], plot: Area, [x_axis, y_axis]: [&Axis; 2]) -> String {
    let height = plot.bottom + BOTTOM;
    let mut svg = format!(
        "<svg class=\"drawing\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">",
        escape(title)
    );
    for &tick in &y_axis.ticks {
        let at = plot.bottom - y_axis.share(tick) * (plot.bottom - plot.top);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{},{at:.1}H{}\"/><text class=\"tick\" x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            plot.left,
            plot.right,
            plot.left - 8.0,
            at + 4.0,
            y_axis.label(tick)
        );
    }
    for &tick in &x_axis.ticks {
        let at = plot.left + x_axis.share(tick) * (plot.right - plot.left);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1},{}V{}\"/><text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            plot.top,
            plot.bottom,
            plot.bottom + 18.0,
            x_axis.label(tick)
        );
    }
    let middle = f64::midpoint(plot.left, plot.right);
    let _ = write!(
        svg,
        "<text class=\"axis\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        plot.bottom + 40.0,
        escape(x)
    );
    let middle = f64::midpoint(plot.top, plot.bottom);
    let _ = write!(
        svg,
        "<text class=\"axis\" transform=\"translate(14,{middle:.1})rotate(-90)\" text-anchor=\"middle\">{}</text>",
        escape(y)
    );
    svg
}

fn place(plot: Area, [x_axis, y_axis]: [&Axis; 2], x: f64, y: f64) -> (f64, f64) {
    (
        plot.left + x_axis.share(x) * (plot.right - plot.left),
        plot.bottom - y_axis.share(y) * (plot.bottom - plot.top),
    )
}

fn colour(name: &Name) -> String {
    name.hue
        .map_or(" style=\"--own: var(--ink)\"".to_owned(), |hue| {
            format!(" style=\"--own: hsl({hue:.0} 62% var(--light))\"")
        })
}

/// What a dot and its reach take up.
fn marks(x: f64, y: f64, (low, high): (f64, f64)) -> [Area; 2] {
    const DOT: f64 = 6.0;
    let area = |half: f64, top: f64, bottom: f64| Area {
        left: x - half,
        top,
        right: x + half,
        bottom,
    };
    [
        area(DOT, y - DOT, y + DOT),
        area(2.0, high.min(low), high.max(low)),
    ]
}

/// Where names of dots stand: as near as there is room without meeting another name, or what is `taken`.
fn beside(places: &[(f64, f64)], names: &[&str], mut taken: Vec<Area>, plot: Area) -> Vec<Area> {
    let mut found = Vec::new();
    for (&(x, y), name) in places.iter().zip(names) {
        let width = width(name);
        let around = |distance: f64| {
            let turns = (0..16).map(move |turn| f64::from(turn) * std::f64::consts::PI / 8.0);
            turns.map(move |angle| {
                let (dx, dy) = (angle.cos(), angle.sin());
                // The side that looks at the dot is `distance` away.
                let (middle, line) = (
                    x + dx * (distance + 0.5 * width),
                    y - dy * (distance + 0.5 * TEXT),
                );
                Area {
                    left: middle - 0.5 * width,
                    top: line - 0.5 * TEXT,
                    right: middle + 0.5 * width,
                    bottom: line + 0.5 * TEXT,
                }
            })
        };
        let is_free =
            |area: &Area| area.within(plot) && !taken.iter().any(|other| area.meets(*other));
        let places = (0..40).flat_map(|ring| around(8.0 + 7.0 * f64::from(ring)));
        let fallback = around(8.0).next().expect("sixteen places around a dot");
        let place = places.into_iter().find(is_free).unwrap_or(fallback);
        taken.push(place);
        found.push(place);
    }
    found
}

/// About how wide a text is drawn.
fn width(text: &str) -> f64 {
    6.6 * text.chars().count() as f64 + 4.0
}

/// Heights at least a line apart, within `low` and `high`, near those wanted.
fn apart(wanted: &[f64], low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|&a, &b| wanted[a].total_cmp(&wanted[b]));
    let step = TEXT.min((high - low) / wanted.len().saturating_sub(1).max(1) as f64);
    let mut heights = vec![0.0; wanted.len()];
    let mut least = low;
    for &at in &order {
        heights[at] = wanted[at].max(least);
        least = heights[at] + step;
    }
    let mut most = high;
    for &at in order.iter().rev() {
        heights[at] = f64::min(heights[at], most);
        most = heights[at] - step;
    }
    heights
}

/// Text that means nothing to HTML, between tags or in a quoted attribute.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_crowded_dots_do_not_overlap() {
        let plot = Area {
            left: 0.0,
            top: 0.0,
            right: 700.0,
            bottom: 400.0,
        };
        let places: Vec<(f64, f64)> = (0..20)
            .map(|n| {
                (
                    300.0 + 9.0 * f64::from(n % 5),
                    200.0 + 4.0 * f64::from(n / 5),
                )
            })
            .collect();
        let names = vec!["low-rank-recurrent"; places.len()];
        let dots: Vec<Area> = places
            .iter()
            .flat_map(|&(x, y)| marks(x, y, (y - 40.0, y + 40.0)))
            .collect();
        let areas = beside(&places, &names, dots.clone(), plot);
        for (at, area) in areas.iter().enumerate() {
            assert!(area.within(plot), "{area:?}");
            assert!(!dots.iter().any(|dot| area.meets(*dot)), "{area:?}");
            assert!(
                !areas[..at].iter().any(|other| area.meets(*other)),
                "{at}: {area:?}"
            );
        }
    }

    #[test]
    fn names_at_ends_of_lines_stand_apart_and_in_order() {
        let heights = apart(&[100.0, 101.0, 99.0, 400.0, 399.0], 0.0, 400.0);
        let mut sorted = heights.clone();
        sorted.sort_by(f64::total_cmp);
        assert!(
            sorted
                .windows(2)
                .all(|pair| pair[1] - pair[0] >= TEXT - 1e-9),
            "{heights:?}"
        );
        assert!(sorted[4] <= 400.0 && heights[2] < heights[0] && heights[0] < heights[1]);
        assert!(apart(&[], 0.0, 1.0).is_empty());
    }

    #[test]
    fn ticks_are_round_and_their_labels_tell_them_apart() {
        let labels = |axis: Axis| {
            let labels: Vec<String> = axis.ticks.iter().map(|&tick| axis.label(tick)).collect();
            labels
        };
        assert_eq!(
            labels(Axis::even([0.31, 0.62].into_iter())),
            ["0.3", "0.4", "0.5", "0.6"]
        );
        assert_eq!(
            labels(Axis::even([110.0, 890.0].into_iter())),
            ["200", "400", "600", "800"]
        );
        assert_eq!(
            labels(Axis::log([0.02, 2000.0].into_iter())),
            ["0.1", "1", "10", "100", "1,000"]
        );
        assert_eq!(
            labels(Axis::log([30.0, 90.0].into_iter())),
            ["30", "40", "50", "60", "80"]
        );
        assert!(!labels(Axis::even([5.0, 5.0].into_iter())).is_empty());
        assert!(labels(Axis::log([12.0].into_iter())).len() > 1);
    }

    #[test]
    fn nothing_and_no_numbers_are_drawn_without_fault() {
        let name = Name {
            text: "none".to_owned(),
            hue: None,
            more: "",
        };
        let points = vec![(128.0, 0.0), (256.0, 0.0)];
        let svg = dots("a", ["x", "y"], &[])
            + &lines("b", ["x", "y"], &[])
            + &lines("c", ["x", "y"], &[Line { name, points }]);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
