//! The page of `cloze analyse`: tables, curves by depth, and heat maps between tokens.

use std::fmt::Write;

use super::chart::Chart;
use super::html::{escape, facts, frame};
use super::scores::Table;

/// Everything the page shows, from top to bottom.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// What was looked into.
    pub title: String,
    /// How.
    pub subtitle: String,
    /// What there is to see.
    pub parts: Vec<Part>,
    /// Names and values.
    pub facts: Vec<(String, String)>,
}

/// A part of the page.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// What the parts that follow are about.
    Heading(String),
    /// Numbers, and what must be known to read them.
    Table(Table, Vec<String>),
    /// How something changes along the layers.
    Curves(Vec<Curve>),
    /// Maps between tokens.
    Maps(Maps),
    /// Ways through a plane.
    Plane(Plane),
}

/// A value for each of some layers.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// What is drawn.
    pub title: String,
    /// Unit of the values.
    pub unit: String,
    /// The values, layer 0 first.
    pub values: Vec<f64>,
    /// What stands out: its place, and what is said of it.
    pub mark: Option<(usize, String)>,
    /// Whether more is better, which gives the colour.
    pub is_gain: bool,
}

/// Several maps over the same tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct Maps {
    /// What they are of.
    pub title: String,
    /// What must be known to read them, if anything.
    pub note: String,
    /// What the rows and columns are called, `T`.
    pub tokens: Vec<String>,
    /// The first is drawn large, with names; each has a title and numbers from 0 to 1, `[T, T]`, a row after the other.
    pub maps: Vec<(String, Vec<f32>)>,
}

/// Ways through a plane, in which both directions have one scale.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    /// What they are of.
    pub title: String,
    /// What must be known to read them.
    pub note: String,
    /// The ways.
    pub paths: Vec<Path>,
}

/// A way.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// What stands at its end.
    pub name: String,
    /// Where it goes.
    pub points: Vec<(f64, f64)>,
}

impl Page {
    /// The page: one file, nothing to load, light and dark, wide and narrow.
    pub fn html(&self) -> String {
        let mut html = String::with_capacity(256 * 1024);
        for part in &self.parts {
            part.write(&mut html);
        }
        facts(&mut html, "Made with", &self.facts);
        frame(&self.title, &self.subtitle, &html)
    }
}

impl Part {
    fn write(&self, html: &mut String) {
        match self {
            Self::Heading(text) => {
                let _ = writeln!(html, "<h2 class=\"about\">{}</h2>", escape(text));
            }
            Self::Table(table, notes) => table.write_panel(html, notes),
            Self::Curves(curves) => {
                html.push_str("<div class=\"pair\">\n");
                for curve in curves {
                    let _ = writeln!(html, "<section class=\"panel\">{}</section>", curve.html());
                }
                html.push_str("</div>\n");
            }
            Self::Maps(maps) => maps.write(html),
            Self::Plane(plane) => plane.write(html),
        }
    }
}

impl Curve {
    fn html(&self) -> String {
        let values = self.values.iter().enumerate();
        let points: Vec<_> = values
            .map(|(layer, &value)| (layer as f64, value))
            .collect();
        let mark = self.mark.as_ref();
        let chart = Chart {
            title: &self.title,
            unit: &self.unit,
            along: "layer",
            points: &points,
            dots: true,
            mark: mark.map(|(layer, text)| (points[*layer], text.clone())),
            class: if self.is_gain { "validation" } else { "loss" },
            empty: "no layers",
        };
        chart.html()
    }
}

/// Characters of a name along an axis.
const NAME: usize = 14;
/// Colours, from none to full.
const SHADES: usize = 16;

impl Maps {
    fn write(&self, html: &mut String) {
        let _ = write!(
            html,
            "<section class=\"panel\">\n<h2>{}</h2>\n<div class=\"maps\">\n",
            escape(&self.title)
        );
        for (index, (title, values)) in self.maps.iter().enumerate() {
            let (names, class) = match index {
                0 => (&self.tokens[..], "map large"),
                _ => (&[][..], "map"),
            };
            if index == 1 {
                html.push_str("<div class=\"heads\">\n");
            }
            let _ = writeln!(
                html,
                "<figure class=\"{class}\"><figcaption>{}</figcaption>{}</figure>",
                escape(title),
                drawing(title, names, values)
            );
        }
        if self.maps.len() > 1 {
            html.push_str("</div>\n");
        }
        html.push_str("</div>\n");
        if !self.note.is_empty() {
            let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(&self.note));
        }
        html.push_str("</section>\n");
    }
}

/// Sides of the drawing of a plane, in which a letter is 12 high.
const PLANE: (f64, f64) = (720.0, 440.0);
/// Room around the ways, more of it at the right for names.
const ROOM: (f64, f64) = (12.0, 108.0);
/// Ways that have names; more would lie over each other.
const NAMED: usize = 40;

impl Plane {
    fn write(&self, html: &mut String) {
        let points = || self.paths.iter().flat_map(|path| &path.points);
        let ends = |of: fn(&(f64, f64)) -> f64| {
            let values = points().map(of);
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| {
                (low.min(x), high.max(x))
            })
        };
        let (x, y) = (ends(|point| point.0), ends(|point| point.1));
        let width = PLANE.0 - ROOM.0 - ROOM.1;
        let height = PLANE.1 - 2.0 * ROOM.0;
        let scale = (width / (x.1 - x.0).max(f64::MIN_POSITIVE))
            .min(height / (y.1 - y.0).max(f64::MIN_POSITIVE));
        let place = |point: &(f64, f64)| {
            let right = (width - scale * (x.1 - x.0)) / 2.0;
            let down = (height - scale * (y.1 - y.0)) / 2.0;
            (
                ROOM.0 + right + scale * (point.0 - x.0),
                ROOM.0 + down + scale * (y.1 - point.1),
            )
        };
        let _ = write!(
            html,
            "<section class=\"panel\">\n<h2>{0}</h2>\n<svg class=\"plane\" viewBox=\"0 0 {1} {2}\" role=\"img\" aria-label=\"{0}\">",
            escape(&self.title),
            PLANE.0,
            PLANE.1
        );
        for path in &self.paths {
            let places: Vec<(f64, f64)> = path.points.iter().map(place).collect();
            let steps = places.len().saturating_sub(1).max(1) as f64;
            for (at, pair) in places.windows(2).enumerate() {
                let thick = 0.6 + 2.0 * (at + 1) as f64 / steps;
                let _ = write!(
                    html,
                    "<path stroke-width=\"{thick:.2}\" d=\"M{:.1} {:.1}L{:.1} {:.1}\"/>",
                    pair[0].0, pair[0].1, pair[1].0, pair[1].1
                );
            }
        }
        // Names above all lines.
        for path in self.paths.iter().take(NAMED) {
            if let Some((x, y)) = path.points.last().map(place) {
                let _ = write!(
                    html,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    x + 6.0,
                    y + 4.0,
                    escape(&shortened(&path.name))
                );
            }
        }
        let _ = writeln!(
            html,
            "</svg>\n<p class=\"note\">{}</p>\n</section>",
            escape(&self.note)
        );
    }
}

/// A square of cells, the larger a number the stronger its colour; with names, rows at the left and columns below.
fn drawing(title: &str, names: &[String], values: &[f32]) -> String {
    let side = values.len().isqrt();
    // Names take room as wide as the longest, in cells, a letter about half as wide as a line is high.
    let longest = names
        .iter()
        .map(|name| name.chars().count().min(NAME))
        .max();
    let room = longest.map_or(0.0, |longest| 0.42 * longest as f64 + 0.6);
    let all = side as f64 + room;
    let mut svg = format!(
        "<svg viewBox=\"{:.2} 0 {all:.2} {all:.2}\" role=\"img\" aria-label=\"{}\"{}>",
        -room,
        escape(title),
        if names.is_empty() {
            String::new()
        } else {
            format!(" style=\"max-width:{:.0}px\"", 24.0 * all)
        }
    );
    let _ = write!(
        svg,
        "<rect class=\"ground\" width=\"{side}\" height=\"{side}\"/>"
    );
    for shade in 1..=SHADES {
        let mut path = String::new();
        for (row, cells) in values.chunks(side.max(1)).enumerate() {
            let mut column = 0;
            while column < side {
                let run = cells[column..]
                    .iter()
                    .take_while(|x| shade_of(**x) == shade);
                let run = run.count();
                if run > 0 {
                    let _ = write!(path, "M{column} {row}h{run}v1h-{run}z");
                }
                column += run.max(1);
            }
        }
        if !path.is_empty() {
            let opacity = shade as f64 / SHADES as f64;
            let _ = write!(svg, "<path fill-opacity=\"{opacity:.3}\" d=\"{path}\"/>");
        }
    }
    for (at, name) in names.iter().enumerate() {
        let place = at as f64 + 0.72;
        let name = escape(&shortened(name));
        let below = side as f64 + 0.35;
        let _ = write!(
            svg,
            "<text x=\"-0.35\" y=\"{place:.2}\" text-anchor=\"end\">{name}</text>\
             <text transform=\"translate({place:.2} {below:.2}) rotate(-90)\" text-anchor=\"end\">{name}</text>"
        );
    }
    svg + "</svg>"
}

/// By the root, so that small shares can be told from none.
fn shade_of(value: f32) -> usize {
    let share = f64::from(value).clamp(0.0, 1.0).sqrt();
    (share * SHADES as f64).round() as usize
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= NAME {
        return name.to_owned();
    }
    name.chars().take(NAME - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_has_a_cell_for_each_pair_and_no_name_becomes_html() {
        let tokens = ["<i>", "a & b", "an item of a very long name"].map(str::to_owned);
        let mut values = vec![0.0; 9];
        values[..6].copy_from_slice(&[1.0, 0.25, 0.25, 0.0, 0.0, 1.0]);
        let page = Page {
            title: "mixing".to_owned(),
            subtitle: String::new(),
            parts: vec![
                Part::Heading("text".to_owned()),
                Part::Maps(Maps {
                    title: "Layer 0".to_owned(),
                    note: "note".to_owned(),
                    tokens: tokens.to_vec(),
                    maps: vec![
                        ("mean".to_owned(), values.clone()),
                        ("0".to_owned(), values),
                    ],
                }),
                Part::Curves(vec![Curve {
                    title: "accuracy".to_owned(),
                    unit: String::new(),
                    values: vec![0.5, f64::NAN, 0.75],
                    mark: Some((2, "best".to_owned())),
                    is_gain: true,
                }]),
                Part::Plane(Plane {
                    title: "ways".to_owned(),
                    note: String::new(),
                    paths: vec![Path {
                        name: "a < b".to_owned(),
                        points: vec![(0.0, 0.0), (300.0, 0.0), (300.0, 150.0)],
                    }],
                }),
            ],
            facts: Vec::new(),
        };
        let html = page.html();
        // Two of the whole share, and two of a quarter that lie side by side, in each map.
        assert_eq!(html.matches("M0 0h1v1h-1zM2 1h1v1h-1z").count(), 2);
        assert_eq!(html.matches("M1 0h2v1h-2z").count(), 2);
        assert_eq!(html.matches("<text").count(), 7);
        // As wide as there is room, half as high, in the middle, and upwards.
        assert!(
            html.contains("d=\"M12.0 370.0L612.0 370.0\"")
                && html.contains("d=\"M612.0 370.0L612.0 70.0\"")
        );
        assert!(html.contains("a &lt; b</text>"));
        assert!(
            html.contains("&lt;i&gt;") && !html.contains("<i>") && html.contains("an item of a …")
        );
        for outside in ["http", "src=", "href=", "<script", "url(", "NaN"] {
            assert!(!html.contains(outside), "{outside}");
        }
    }
}
