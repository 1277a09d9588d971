//! Metrics, confusion matrix, calibration: the page of `cloze score`, and part of that of a run on texts.

use std::fmt::Write;

use super::html::{escape, frame, grouped_digits};
use crate::metric::calibration::Bin;
use crate::metric::classification::Confusion;

/// Classes beyond this make the matrix too wide to look at.
const MAX_MATRIX: usize = 40;

/// Everything the page of `cloze score` shows. What is empty is left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// What was judged.
    pub title: String,
    /// On how many examples.
    pub subtitle: String,
    /// How good it is.
    pub scores: Scores,
    /// Names and values.
    pub facts: Vec<(String, String)>,
}

/// How good predictions are. What is empty is left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// The numbers that matter most, where the page begins with some: name, value, and what to know of it.
    pub headline: Vec<(String, String, String)>,
    /// Numbers.
    pub tables: Vec<Table>,
    /// What must be known to read them.
    pub notes: Vec<String>,
    /// The classes, and how often each was taken for each.
    pub confusion: Option<(Vec<String>, Confusion)>,
    /// Bins of confidence.
    pub reliability: Vec<Bin>,
}

/// A table of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What stands above it.
    pub title: String,
    /// The columns.
    pub header: Vec<String>,
    /// The rows, as they are shown.
    pub rows: Vec<Vec<String>>,
    /// Whether the page is about the first row, and the others are for comparison.
    pub leads: bool,
}

impl Page {
    /// The page: one file, nothing to load, light and dark, wide and narrow.
    pub fn html(&self) -> String {
        let mut html = String::with_capacity(32 * 1024);
        self.scores.write_charts(&mut html);
        self.scores.write_tables(&mut html);
        super::html::facts(&mut html, "Files", &self.facts);
        frame(&self.title, &self.subtitle, &html)
    }
}

impl Scores {
    /// Puts `other` in the place of these, whose tables stay behind its own.
    pub fn replace(&mut self, mut other: Self) {
        other.tables.append(&mut self.tables);
        *self = other;
    }

    pub(super) fn write_charts(&self, html: &mut String) {
        let charts = [self.matrix(), self.calibration()];
        if charts.iter().any(|chart| !chart.is_empty()) {
            let _ = writeln!(html, "<div class=\"pair\">\n{}</div>", charts.concat());
        }
    }

    pub(super) fn write_tables(&self, html: &mut String) {
        for (index, table) in self.tables.iter().enumerate() {
            let notes = if index == 0 { &self.notes[..] } else { &[] };
            table.write_panel(html, notes);
        }
    }

    /// The confusion matrix; the larger a share of its row, the stronger a cell's colour.
    fn matrix(&self) -> String {
        let Some((classes, confusion)) = &self.confusion else {
            return String::new();
        };
        if classes.len() > MAX_MATRIX {
            return String::new();
        }
        let mut html = String::from(
            "<section class=\"panel\">\n<h2>Confusion</h2>\n<div class=\"scroll\"><table class=\"matrix\">\n\
             <thead><tr><th scope=\"col\">true \\ predicted</th>",
        );
        for class in classes {
            let _ = write!(html, "<th scope=\"col\">{}</th>", escape(class));
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for (label, class) in classes.iter().enumerate() {
            let count = |other| confusion.count(label, other);
            let support: u64 = (0..classes.len()).map(count).sum();
            let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape(class));
            for other in 0..classes.len() {
                let share = 100.0 * count(other) as f64 / support.max(1) as f64;
                let _ = write!(
                    html,
                    "<td{} style=\"--share:{share:.0}%\" title=\"{share:.1} % of {}\">{}</td>",
                    if share > 55.0 {
                        " class=\"strong\""
                    } else {
                        ""
                    },
                    escape(class),
                    grouped_digits(&count(other).to_string())
                );
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n<p class=\"note\">The stronger the colour, the larger a share of its row.</p>\n</section>\n");
        html
    }

    /// Accuracy against confidence, a bar for each bin that has examples.
    fn calibration(&self) -> String {
        const SIDE: f64 = 1000.0;
        if self.reliability.is_empty() {
            return String::new();
        }
        let mut html = String::from(
            "<section class=\"panel\"><figure class=\"chart bar-chart\"><figcaption>Calibration <span>accuracy of examples by \
             confidence</span></figcaption><div class=\"plot\">\
             <svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"accuracy by confidence\">",
        );
        for tick in 0..=5 {
            let y = SIDE - f64::from(tick) * SIDE / 5.0;
            let _ = write!(html, "<path class=\"grid\" d=\"M0,{y:.1}H{SIDE}\"/>");
        }
        for bin in self.reliability.iter().filter(|bin| bin.count > 0) {
            let (x, width) = (SIDE * bin.low + 4.0, SIDE * (bin.high - bin.low) - 8.0);
            let (low, high) = (
                bin.accuracy.min(bin.confidence),
                bin.accuracy.max(bin.confidence),
            );
            for (class, from, to) in [("", 0.0, bin.accuracy), (" class=\"gap\"", low, high)] {
                let _ = write!(
                    html,
                    "<rect{class} x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{:.1}\"><title>{} examples, \
                     confidence {:.4}, accuracy {:.4}</title></rect>",
                    SIDE * (1.0 - to),
                    SIDE * (to - from),
                    grouped_digits(&bin.count.to_string()),
                    bin.confidence,
                    bin.accuracy
                );
            }
        }
        html.push_str("<path class=\"ideal\" d=\"M0,1000L1000,0\"/></svg>");
        for tick in 0..=5 {
            let (place, label) = (20 * tick, f64::from(tick) / 5.0);
            let _ = write!(
                html,
                "<span class=\"y\" style=\"bottom:{place}%\">{label:.1}</span>\
                 <span class=\"x\" style=\"left:{place}%\">{label:.1}</span>"
            );
        }
        html.push_str(
            "</div><p class=\"along\">confidence; red is the gap to accuracy, the dashed line has none</p></figure></section>\n",
        );
        html
    }
}

impl Table {
    /// The table, and what must be known to read it.
    pub(super) fn write_panel(&self, html: &mut String, notes: &[String]) {
        let _ = write!(
            html,
            "<section class=\"panel\">\n<h2>{}</h2>\n",
            escape(&self.title)
        );
        self.write(html);
        for note in notes {
            let _ = writeln!(html, "<p class=\"note\">{}</p>", escape(note));
        }
        html.push_str("</section>\n");
    }

    fn write(&self, html: &mut String) {
        let class = if self.leads { "" } else { " class=\"scores\"" };
        let _ = write!(html, "<div class=\"scroll\"><table{class}>\n<thead><tr>");
        for name in &self.header {
            let _ = write!(html, "<th scope=\"col\">{}</th>", escape(name));
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            html.push_str("<tr>");
            for (column, cell) in row.iter().enumerate() {
                let _ = match column {
                    0 => write!(html, "<th scope=\"row\">{}</th>", escape(cell)),
                    _ => write!(html, "<td>{}</td>", escape(&cell.replace('-', "−"))),
                };
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</tbody></table></div>\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::calibration::bins;

    #[test]
    fn names_of_classes_mean_nothing_to_html() {
        let mut confusion = Confusion::new(2);
        confusion.add(0, 1);
        let page = Page {
            title: "a & b".to_owned(),
            subtitle: "1 example".to_owned(),
            scores: Scores {
                headline: Vec::new(),
                tables: vec![Table {
                    title: "Metrics".to_owned(),
                    header: vec!["metric".to_owned(), "value".to_owned()],
                    rows: vec![vec!["<f1>".to_owned(), "-0.5".to_owned()]],
                    leads: false,
                }],
                notes: vec!["note".to_owned()],
                confusion: Some((vec!["<script>".to_owned(), "b".to_owned()], confusion)),
                reliability: bins(&[0.7], &[true], 10),
            },
            facts: vec![("file".to_owned(), "x".to_owned())],
        };
        let html = page.html();
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script"));
        assert!(html.contains("−0.5") && html.contains("100.0 % of"));
        assert_eq!(html.matches("<rect").count(), 2);
        assert!(!html.contains("NaN"));
    }
}
