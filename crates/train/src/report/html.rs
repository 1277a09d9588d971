//! The page.

use std::fmt::Write;
use std::time::Duration;

use cloze_spec::text::lower_is_better;

use super::chart::Chart;
use super::{Evaluated, Report, Row, Sample, State, StepRow, ValidationRow};
use crate::metric::{RankingMetrics, bootstrap};

/// Seconds after which the page of a running training reloads itself.
const REFRESH_SECONDS: u32 = 5;

pub(super) fn page(report: &Report) -> String {
    let mut html = String::with_capacity(64 * 1024);
    html.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    html.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    html.push_str("<meta name=\"color-scheme\" content=\"light dark\">\n");
    let mut tab = escape(&report.title);
    if report.status.state == State::Running {
        let _ = writeln!(
            html,
            "<meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\">"
        );
        tab = format!("{} · {tab}", percent(report));
    }
    let _ = write!(
        html,
        "<title>{tab}</title>\n<style>\n{}</style>\n",
        include_str!("page.css")
    );
    html.push_str("</head>\n<body>\n<main>\n");
    head(&mut html, report);
    cards(&mut html, report);
    curves(&mut html, report);
    comparisons(&mut html, &report.results);
    report.scores.write_tables(&mut html);
    report.scores.write_charts(&mut html);
    samples(&mut html, &report.samples);
    if !(report.dataset.is_empty() && report.environment.is_empty()) {
        html.push_str("<div class=\"pair\">\n");
        facts(&mut html, "Data", &report.dataset);
        facts(&mut html, "Made with", &report.environment);
        html.push_str("</div>\n");
    }
    if !report.recipe.is_empty() {
        let _ = writeln!(
            html,
            "<details class=\"panel\"><summary>Resolved recipe</summary><pre>{}</pre></details>",
            escape(&report.recipe)
        );
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

/// A page of its own around what it shows.
pub(super) fn frame(title: &str, subtitle: &str, main: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{}</style>\n</head>\n<body>\n<main>\n\
         <header>\n<h1>{title}</h1>\n<p class=\"status\">{}</p>\n</header>\n{main}</main>\n</body>\n</html>\n",
        include_str!("page.css"),
        escape(subtitle),
        title = escape(title),
    )
}

fn head(html: &mut String, report: &Report) {
    let status = &report.status;
    let (class, word) = match &status.state {
        State::Running => ("running", "Training"),
        State::Finished => ("finished", "Finished"),
        State::Interrupted => ("interrupted", "Interrupted, can be resumed"),
        State::Failed(_) => ("failed", "Failed"),
    };
    let mut parts = vec![format!("<b>{word}</b>")];
    if status.step > 0 {
        parts.push(format!(
            "epoch {}",
            grouped_digits(&format!("{:.0}", status.epoch.floor()))
        ));
        // A run that stopped early has not fallen short of its plan.
        parts.push(match status.state {
            State::Finished => format!("{} steps", grouped_digits(&status.step.to_string())),
            _ => format!(
                "step {} of {}",
                grouped_digits(&status.step.to_string()),
                grouped_digits(&status.total_steps.to_string())
            ),
        });
    }
    parts.push(format!("{} of training", duration(status.elapsed)));
    if let (State::Running, Some(remaining)) = (&status.state, status.remaining) {
        parts.push(format!("about {} left", duration(remaining)));
    }
    let _ = write!(
        html,
        "<header>\n<h1>{}</h1>\n<p class=\"status {class}\">{}</p>\n",
        escape(&report.title),
        parts.join(" <i>·</i> ")
    );
    if status.state != State::Finished {
        let _ = writeln!(
            html,
            "<div class=\"bar {class}\" role=\"progressbar\" aria-valuemin=\"0\" aria-valuemax=\"100\" aria-valuenow=\"{:.0}\"><div style=\"width:{:.1}%\"></div></div>",
            100.0 * progress(report),
            100.0 * progress(report)
        );
    }
    if let State::Failed(message) = &status.state {
        let _ = writeln!(html, "<p class=\"message\">{}</p>", escape(message));
    }
    html.push_str("</header>\n");
}

fn progress(report: &Report) -> f64 {
    let status = &report.status;
    (status.step as f64 / status.total_steps.max(1) as f64).clamp(0.0, 1.0)
}

fn percent(report: &Report) -> String {
    format!("{:.0} %", (100.0 * progress(report)).floor())
}

fn step_rows(report: &Report) -> impl DoubleEndedIterator<Item = &StepRow> {
    report.rows.iter().filter_map(|row| match row {
        Row::Step(row) => Some(row),
        Row::Validation(_) => None,
    })
}

/// Validations with their value of the metric that decides.
fn validations(report: &Report) -> Vec<(&ValidationRow, f64)> {
    let rows = report.rows.iter().filter_map(|row| match row {
        Row::Validation(row) => Some((row, *row.metrics.get(&report.metric)?)),
        Row::Step(_) => None,
    });
    rows.collect()
}

/// The first of the best.
fn best_validation(report: &Report) -> Option<(&ValidationRow, f64)> {
    let all = validations(report);
    let lower = lower_is_better(&report.metric);
    all.into_iter().reduce(|best, other| {
        if (lower && other.1 < best.1) || (!lower && other.1 > best.1) {
            other
        } else {
            best
        }
    })
}

fn cards(html: &mut String, report: &Report) {
    let mut cards: Vec<(String, String, String)> = Vec::new();
    if let Some(model) = report.results.first()
        && let Some((protocol, metrics)) = model.protocols.first()
    {
        let shown = metrics
            .at
            .iter()
            .find(|at| at.cutoff == 10)
            .or(metrics.at.last());
        if let Some(at) = shown {
            let among = format!("test, among {protocol}");
            cards.push((format!("NDCG@{}", at.cutoff), value(at.ndcg), among));
            let share = format!(
                "of {} test cases hit",
                grouped_digits(&metrics.cases.to_string())
            );
            cards.push((format!("HR@{}", at.cutoff), value(at.hr), share));
        }
        if let Some(rival) = Rival::best(&report.results, 0) {
            let own = mean(&metrics.case_ndcg);
            let text = if rival.mean > 0.0 {
                format!("{:+.0} %", 100.0 * (own / rival.mean - 1.0)).replace('-', "−")
            } else {
                signed(own - rival.mean)
            };
            cards.push((
                format!("Against {}", rival.name),
                text,
                "NDCG@10, the best of the others".to_owned(),
            ));
        }
    }
    cards.extend(
        report
            .scores
            .headline
            .iter()
            .map(|(name, value, note)| (capital(name), value.replace('-', "−"), note.clone())),
    );
    // Of a model that was judged on the validation part alone, the headline has said it.
    let is_said = !report.scores.headline.is_empty() && report.scores.tables.len() == 1;
    if let Some((row, best)) = best_validation(report).filter(|_| !is_said) {
        let epoch = format!("validation, epoch {:.0}", row.epoch);
        cards.push((
            format!("Best {}", metric_name(&report.metric)),
            value(best),
            epoch,
        ));
    }
    if let (Some(first), Some(last)) = (step_rows(report).next(), step_rows(report).next_back()) {
        if report.results.is_empty() && report.scores.headline.is_empty() {
            let from = format!(
                "was {:.3} at step {}",
                first.loss,
                grouped_digits(&first.step.to_string())
            );
            cards.push(("Loss".to_owned(), format!("{:.3}", last.loss), from));
        }
        let mut speeds: Vec<f64> = step_rows(report)
            .map(|row| row.tokens_per_second)
            .filter(|speed| speed.is_finite())
            .collect();
        speeds.sort_unstable_by(f64::total_cmp);
        if let Some(&median) = speeds.get(speeds.len() / 2) {
            cards.push((
                "Speed".to_owned(),
                short(median),
                "tokens a second, median".to_owned(),
            ));
        }
    }
    if cards.is_empty() {
        return;
    }
    html.push_str("<section class=\"cards\">\n");
    for (name, value, note) in cards {
        let _ = writeln!(
            html,
            "<div><h3>{}</h3><strong>{}</strong><p>{}</p></div>",
            escape(&name),
            escape(&value),
            escape(&note)
        );
    }
    html.push_str("</section>\n");
}

fn curves(html: &mut String, report: &Report) {
    let loss: Vec<_> = step_rows(report).map(|row| (row.epoch, row.loss)).collect();
    let validated: Vec<_> = validations(report)
        .into_iter()
        .map(|(row, value)| (row.epoch, value))
        .collect();
    let best = best_validation(report);
    let name = metric_name(&report.metric);
    html.push_str("<div class=\"pair\">\n");
    let charts = [
        Chart {
            title: "Training loss",
            unit: "nats a prediction",
            along: "epochs",
            points: &loss,
            dots: false,
            mark: None,
            class: "loss",
            empty: "after the first steps",
        },
        Chart {
            title: &format!("Validation {name}"),
            unit: if report.metric.contains('@') {
                "all candidates"
            } else {
                "all of the part"
            },
            along: "epochs",
            points: &validated,
            dots: true,
            mark: best.map(|(row, best)| {
                (
                    (row.epoch, best),
                    format!("best {}, epoch {:.0}", value(best), row.epoch),
                )
            }),
            class: "validation",
            empty: "after the first validation",
        },
    ];
    for chart in charts {
        let _ = writeln!(html, "<section class=\"panel\">{}</section>", chart.html());
    }
    html.push_str("</div>\n");
}

/// The best of the models but the first, under one protocol, by mean NDCG@10.
struct Rival<'a> {
    name: &'a str,
    case_ndcg: &'a [f64],
    mean: f64,
}

impl<'a> Rival<'a> {
    fn best(results: &'a [Evaluated], protocol: usize) -> Option<Self> {
        let own = cases_of(results.first()?, protocol)?;
        let rivals = results.iter().skip(1).filter_map(|result| {
            let case_ndcg = cases_of(result, protocol)?;
            (case_ndcg.len() == own.len()).then(|| Self {
                name: &result.model,
                case_ndcg,
                mean: mean(case_ndcg),
            })
        });
        rivals.reduce(|best, other| if other.mean > best.mean { other } else { best })
    }
}

/// NDCG@10 of each case, where it is known.
fn cases_of(result: &Evaluated, protocol: usize) -> Option<&[f64]> {
    let cases = &result.protocols.get(protocol)?.1.case_ndcg;
    (!cases.is_empty()).then_some(cases)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn comparisons(html: &mut String, results: &[Evaluated]) {
    let Some(model) = results.first() else { return };
    html.push_str("<section class=\"panel\">\n<h2>Test</h2>\n");
    for (protocol, (name, metrics)) in model.protocols.iter().enumerate() {
        let _ = writeln!(
            html,
            "<h3>Ranked among {} <span>{} cases</span></h3>",
            escape(name),
            grouped_digits(&metrics.cases.to_string())
        );
        table(html, results, protocol);
        if let (Some(own), Some(rival)) =
            (cases_of(model, protocol), Rival::best(results, protocol))
        {
            verdict(html, &model.model, own, &rival);
        }
    }
    html.push_str("<p class=\"note\">Equal scores count against the target: it is ranked behind all that score the same. ");
    html.push_str("Bold is the best of a column, and whatever equals it at four digits.");
    if results.iter().any(|result| result.protocols.len() > 1) {
        html.push_str(" Ranks among few sampled items are for comparison with publications; the full ranking decides.");
    }
    html.push_str("</p>\n</section>\n");
}

fn table(html: &mut String, results: &[Evaluated], protocol: usize) {
    let rows: Vec<(&str, &RankingMetrics)> = results
        .iter()
        .filter_map(|result| Some((result.model.as_str(), &result.protocols.get(protocol)?.1)))
        .collect();
    let columns = columns(&rows);
    html.push_str("<div class=\"scroll\"><table>\n<thead><tr><th scope=\"col\">Model</th>");
    for column in &columns {
        let _ = write!(html, "<th scope=\"col\">{}</th>", metric_name(column));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (model, metrics) in &rows {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape(model));
        for column in &columns {
            let Some(own) = metrics.named(column).map(value) else {
                html.push_str("<td>–</td>");
                continue;
            };
            let is_best = rows
                .iter()
                .filter_map(|(_, other)| other.named(column).map(value))
                .all(|other| other <= own);
            // To cover more items is no merit by itself.
            if is_best && rows.len() > 1 && !column.starts_with("coverage") {
                let _ = write!(html, "<td><b>{own}</b></td>");
            } else {
                let _ = write!(html, "<td>{own}</td>");
            }
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody>\n</table></div>\n");
}

/// The metrics worth a column: without those that repeat another for every model, and coverage for the longest list only.
fn columns(rows: &[(&str, &RankingMetrics)]) -> Vec<String> {
    let Some((_, first)) = rows.first() else {
        return Vec::new();
    };
    let longest = first.at.iter().map(|at| at.cutoff).max();
    let repeats = |name: &str, other: String| {
        rows.iter()
            .all(|(_, metrics)| metrics.named(name).map(value) == metrics.named(&other).map(value))
    };
    let names = first.values().into_iter().map(|(name, _)| name);
    names
        .filter(|name| match name.split_once('@') {
            Some(("recall", cutoff)) => !repeats(name, format!("hr@{cutoff}")),
            Some(("ndcg", "1")) => !repeats(name, "hr@1".to_owned()),
            Some(("coverage", cutoff)) => {
                longest.is_some_and(|longest| cutoff == longest.to_string())
            }
            _ => true,
        })
        .collect()
}

fn verdict(html: &mut String, model: &str, own: &[f64], rival: &Rival) {
    /// Of the bootstrap; any would do, but the page is to be the same each time.
    const SEED: u64 = 1;
    let interval = bootstrap::paired(own, rival.case_ndcg, SEED);
    let sure = if interval.excludes_zero() {
        ""
    } else {
        ", which may be chance"
    };
    let _ = writeln!(
        html,
        "<p class=\"verdict\">{} against {}: <b>{}</b> NDCG@10{sure} <span>(95 % interval {} to {}, paired bootstrap over cases)</span></p>",
        escape(model),
        escape(rival.name),
        signed(interval.mean),
        signed(interval.low),
        signed(interval.high)
    );
}

fn samples(html: &mut String, samples: &[Sample]) {
    if samples.is_empty() {
        return;
    }
    html.push_str("<section class=\"panel\">\n<h2>Recommendations</h2>\n<div class=\"scroll\"><table class=\"samples\">\n<thead><tr>");
    for name in ["User", "Last items", "Recommended", "Taken next"] {
        let _ = write!(html, "<th scope=\"col\">{name}</th>");
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for sample in samples {
        let list = |kind: &str, items: &[String], others: &[String]| {
            let mut list = format!("<{kind}>");
            for item in items {
                let class = if others.contains(item) {
                    " class=\"hit\""
                } else {
                    ""
                };
                let _ = write!(list, "<li{class}>{}</li>", escape(item));
            }
            list + "</" + kind + ">"
        };
        let _ = writeln!(
            html,
            "<tr><th scope=\"row\">{}</th><td data-name=\"Last items\">{}</td><td data-name=\"Recommended\">{}</td><td data-name=\"Taken next\">{}</td></tr>",
            escape(&sample.user),
            list("ul", &sample.history, &[]),
            list("ol", &sample.recommended, &sample.next),
            list("ul", &sample.next, &sample.recommended)
        );
    }
    html.push_str("</tbody>\n</table></div>\n</section>\n");
}

pub(super) fn facts(html: &mut String, title: &str, facts: &[(String, String)]) {
    if facts.is_empty() {
        return;
    }
    let _ = writeln!(html, "<section class=\"panel\">\n<h2>{title}</h2>\n<dl>");
    for (name, value) in facts {
        let _ = writeln!(
            html,
            "<div><dt>{}</dt><dd>{}</dd></div>",
            escape(name),
            escape(value)
        );
    }
    html.push_str("</dl>\n</section>\n");
}

/// Text that means nothing to HTML, between tags or in a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Has no place in HTML, not even escaped.
            '\0' => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

/// `ndcg@10` as people write it.
fn metric_name(name: &str) -> String {
    let (metric, cutoff) = name.split_once('@').unwrap_or((name, ""));
    let metric = match metric {
        "recall" | "coverage" => capital(metric),
        "mrr" | "ndcg" | "hr" | "mcc" | "mse" | "f1" => metric.to_uppercase(),
        other => other.to_owned(),
    };
    if cutoff.is_empty() {
        escape(&metric)
    } else {
        escape(&format!("{metric}@{cutoff}"))
    }
}

fn capital(word: &str) -> String {
    let mut characters = word.chars();
    let first = characters.next().map(char::to_uppercase);
    first.into_iter().flatten().chain(characters).collect()
}

fn value(value: f64) -> String {
    format!("{value:.4}")
}

fn signed(value: f64) -> String {
    format!("{value:+.4}").replace('-', "−")
}

/// Whole digits in groups of three.
pub(super) fn grouped_digits(number: &str) -> String {
    let (sign, digits) = match number.strip_prefix('-') {
        Some(digits) => ("−", digits),
        None => ("", number),
    };
    let mut grouped = sign.to_owned();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count with three digits and its unit.
fn short(count: f64) -> String {
    if count < 1e4 {
        grouped_digits(&format!("{count:.0}"))
    } else if count < 1e6 {
        format!("{:.1} k", count / 1e3)
    } else {
        format!("{:.2} M", count / 1e6)
    }
}

fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::metric::RankingAccumulator;

    fn metrics(ranks: &[u32]) -> RankingMetrics {
        let mut sums = RankingAccumulator::new(&[1, 10], 40);
        for &rank in ranks {
            sums.add(&[rank], &[rank % 40]);
        }
        sums.finish()
    }

    fn result(model: &str, ranks: &[u32]) -> Evaluated {
        Evaluated {
            model: model.to_owned(),
            protocols: vec![("all items".to_owned(), metrics(ranks))],
        }
    }

    fn step(step: u64, loss: f64) -> Row {
        Row::Step(StepRow {
            step,
            epoch: step as f64 / 10.0,
            seconds: 1.0,
            loss,
            gradient_norm: 1.0,
            lr: 1e-3,
            tokens_per_second: 123_456.0,
        })
    }

    fn validation(epoch: u32, ndcg: f64) -> Row {
        Row::Validation(ValidationRow {
            step: u64::from(epoch) * 10,
            epoch: f64::from(epoch),
            seconds: 1.0,
            metrics: [("ndcg@10".to_owned(), ndcg)].into(),
        })
    }

    fn report() -> Report {
        Report {
            title: "BERT4Rec on shop".to_owned(),
            status: Status {
                state: State::Running,
                step: 1234,
                total_steps: 5000,
                epoch: 12.34,
                elapsed: Duration::from_secs(3723),
                remaining: Some(Duration::from_secs(61)),
            },
            metric: "ndcg@10".to_owned(),
            rows: vec![
                step(10, 8.0),
                validation(1, 0.1),
                step(20, 6.5),
                validation(2, 0.15),
                validation(3, 0.12),
            ],
            results: Vec::new(),
            scores: super::super::Scores::default(),
            samples: Vec::new(),
            dataset: vec![("users".to_owned(), "17".to_owned())],
            environment: Vec::new(),
            recipe: "seed = 1\n".to_owned(),
        }
    }

    /// Tags that are opened and never closed, or the other way round.
    fn unbalanced(html: &str) -> Vec<String> {
        const VOID: [&str; 2] = ["meta", "!doctype"];
        let mut open: Vec<String> = Vec::new();
        let mut wrong = Vec::new();
        for tag in html.split('<').skip(1) {
            let inside = tag.split('>').next().unwrap();
            let name = inside
                .trim_start_matches('/')
                .split([' ', '/'])
                .next()
                .unwrap()
                .to_owned();
            if inside.starts_with('/') {
                if open.pop().as_ref() != Some(&name) {
                    wrong.push(name);
                }
            } else if !VOID.contains(&name.as_str()) && !inside.ends_with('/') {
                open.push(name);
            }
        }
        wrong.extend(open);
        wrong
    }

    #[test]
    fn only_a_running_page_reloads_itself() {
        let mut report = report();
        let html = report.html();
        assert!(html.contains("http-equiv=\"refresh\" content=\"5\""));
        assert!(html.contains("<title>24 % · BERT4Rec on shop</title>"));
        assert!(
            html.contains("epoch 12 <i>·</i> step 1,234 of 5,000 <i>·</i> 1 h 02 min of training")
        );
        assert!(html.contains("about 1 min 01 s left"));
        for state in [
            State::Finished,
            State::Interrupted,
            State::Failed("out of luck".to_owned()),
        ] {
            report.status.state = state;
            let html = report.html();
            assert!(
                !html.contains("http-equiv") && html.contains("<title>BERT4Rec on shop</title>")
            );
        }
        assert!(report.html().contains("out of luck"));
    }

    #[test]
    fn a_page_is_whole_and_loads_nothing_at_every_stage_of_a_run() {
        let mut reports = vec![report(); 3];
        reports[0].rows.clear();
        reports[0].status.step = 0;
        reports[0].status.total_steps = 0;
        reports[2].results = vec![
            result("BERT4Rec", &[1, 2, 3, 30]),
            result("bigram", &[4, 2, 30, 30]),
        ];
        reports[2].samples = vec![Sample {
            user: "u".to_owned(),
            history: vec!["a".to_owned()],
            recommended: vec!["b".to_owned(), "c".to_owned()],
            next: vec!["c".to_owned()],
        }];
        for report in reports {
            let html = report.html();
            assert_eq!(unbalanced(&html), [""; 0]);
            for outside in ["http:", "https:", "src=", "href=", "<script", "url(", "NaN"] {
                assert!(!html.contains(outside), "{outside}");
            }
        }
    }

    #[test]
    fn nothing_that_comes_from_outside_is_taken_for_html() {
        let evil = "<script>\"'&\0</script>".to_owned();
        let mut report = report();
        report.title.clone_from(&evil);
        report.status.state = State::Failed(evil.clone());
        report.metric.clone_from(&evil);
        report.rows.push(Row::Validation(ValidationRow {
            step: 1,
            epoch: 1.0,
            seconds: 0.0,
            metrics: [(evil.clone(), 0.5)].into(),
        }));
        report.results = vec![result(&evil, &[1, 2]), result(&evil, &[3, 2])];
        report.results[0].protocols[0].0.clone_from(&evil);
        report.samples = vec![Sample {
            user: evil.clone(),
            history: vec![evil.clone()],
            recommended: vec![evil.clone()],
            next: vec![evil.clone()],
        }];
        report.dataset = vec![(evil.clone(), evil.clone())];
        report.environment = vec![(evil.clone(), evil.clone())];
        report.recipe.clone_from(&evil);
        let html = report.html();
        assert!(!html.to_lowercase().contains("<script") && !html.contains('\0'));
        assert_eq!(unbalanced(&html), [""; 0]);
        assert_eq!(
            escape(&evil),
            "&lt;script&gt;&quot;&#39;&amp;\u{fffd}&lt;/script&gt;"
        );
    }

    #[test]
    fn the_best_of_a_column_is_bold_and_so_is_its_equal() {
        let mut report = report();
        report.results = vec![
            result("ours", &[1, 30]),
            result("equal", &[30, 1]),
            result("worse", &[30, 20]),
        ];
        let html = report.html();
        // hr@1, hr@10, ndcg@10 and mrr of two models; ndcg@1 and recall repeat others and are left out.
        assert_eq!(html.matches("<td><b>").count(), 8);
        assert!(!html.contains("Recall@") && !html.contains("NDCG@1<"));
        assert!(html.contains("<h3>Against equal</h3><strong>+0 %</strong>"));
        assert!(html.contains("which may be chance"));
    }

    #[test]
    fn a_clear_gain_is_said_with_its_interval() {
        let mut report = report();
        let (ours, theirs) = ([1; 50], [2; 50]);
        report.results = vec![
            result("ours", &ours),
            result("weak", &[40; 50]),
            result("strong", &theirs),
        ];
        let html = report.html();
        assert!(html.contains(
            "ours against strong: <b>+0.3691</b> NDCG@10 <span>(95 % interval +0.3691 to"
        ));
        assert!(html.contains("<h3>Against strong</h3><strong>+58 %</strong>"));
    }

    #[test]
    fn headlines_are_of_the_best_validation_and_the_latest_loss() {
        let html = report().html();
        assert!(html.contains("<strong>0.1500</strong><p>validation, epoch 2</p>"));
        assert!(html.contains("<strong>6.500</strong><p>was 8.000 at step 10</p>"));
        assert!(html.contains("<strong>123.5 k</strong>"));
    }

    #[test]
    fn a_new_page_takes_the_place_of_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        let mut report = report();
        report.write(&path).unwrap();
        report.status.state = State::Finished;
        report.write(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), report.html());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(
            report
                .write(&folder.path().join("none/report.html"))
                .is_err()
        );
    }

    #[test]
    fn digits_are_grouped_and_times_rounded_down() {
        for (number, grouped) in [
            ("7", "7"),
            ("123", "123"),
            ("1234", "1,234"),
            ("-1234567", "−1,234,567"),
        ] {
            assert_eq!(grouped_digits(number), grouped);
        }
        assert_eq!(duration(Duration::from_millis(59_900)), "59 s");
        assert_eq!(duration(Duration::from_secs(605)), "10 min 05 s");
        assert_eq!(duration(Duration::from_secs(90_061)), "25 h 01 min");
    }
}
