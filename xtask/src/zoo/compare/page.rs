//! The page: one file, light and dark, without anything from elsewhere.

use std::fmt::Write;

use super::chart::{Dot, Line, Name, dots, escape, lines};
use super::cost::{FIT_FROM, Measure};
use super::judge::{CrossOver, Verdict};
use super::results::{Learned, Results};
use super::shortened;
use super::verdict::{about, grouped_digits, time};

/// The style of training's reports, which this page shares, and what it has besides.
const STYLES: [&str; 2] = [
    include_str!("../../../../crates/train/src/report/page.css"),
    include_str!("page.css"),
];

/// The whole page.
pub fn page(results: &Results) -> String {
    let mut html = String::from(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n<title>Every mixer beside every other</title>\n",
    );
    let _ = writeln!(
        html,
        "<style>\n{}</style>\n</head>\n<body>\n<main>",
        STYLES.concat()
    );
    let _ = writeln!(
        html,
        "<header><h1>Every mixer beside every other</h1><p class=\"status\">as many parameters, the same data, batches, steps and rates · {} · Cloze {}</p></header>",
        escape(&results.machine),
        escape(&results.commits.join(", "))
    );
    said(&mut html, results);
    overview(&mut html, results);
    for learned in &results.tasks {
        task(&mut html, results, learned);
    }
    cost(&mut html, results);
    method(&mut html, results);
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn said(html: &mut String, results: &Results) {
    html.push_str("<section class=\"panel\"><h2>What wins where</h2>\n");
    for (about, sentences) in results.said() {
        let _ = write!(html, "<h3>{}</h3><ul class=\"said\">", escape(&about));
        for sentence in sentences {
            let _ = write!(html, "<li>{}</li>", escape(&sentence));
        }
        html.push_str("</ul>\n");
    }
    if !results.left.is_empty() {
        html.push_str("<h3>Left out, as the budget was spent</h3><ul class=\"said\">");
        for line in &results.left {
            let _ = write!(html, "<li>{}</li>", escape(line));
        }
        html.push_str("</ul>\n");
    }
    html.push_str("</section>\n");
}

/// A row a mixer, a column a task.
fn overview(html: &mut String, results: &Results) {
    if results.tasks.len() < 2 {
        return;
    }
    html.push_str("<section class=\"panel\"><h2>All tasks</h2>\n<div class=\"scroll\"><table><thead><tr><th scope=\"col\">Mixer</th>");
    for learned in &results.tasks {
        let quality = &learned.task.quality;
        let _ = write!(
            html,
            "<th scope=\"col\">{}<br><small>{}, {} is better</small></th>",
            escape(&learned.task.title),
            escape(&quality.name),
            if quality.lower_is_better {
                "less"
            } else {
                "more"
            }
        );
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for mixer in results.mixers() {
        if results
            .tasks
            .iter()
            .all(|learned| learned.reference(mixer).is_none())
        {
            continue;
        }
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape(mixer));
        for learned in &results.tasks {
            html.push_str(&cell(results, learned, mixer));
        }
        html.push_str("</tr>\n");
    }
    let _ = writeln!(
        html,
        "</tbody></table></div><p class=\"note\">Bold: the best, and its ties. <span class=\"better\">▲</span> better and <span class=\"worse\">▼</span> worse than {}; without a mark, a tie or not known.</p></section>",
        escape(&results.reference)
    );
}

fn cell(results: &Results, learned: &Learned, mixer: &str) -> String {
    let Some(row) = learned.reference(mixer) else {
        return "<td>–</td>".to_owned();
    };
    let is_best = row.mixer.name == learned.best().mixer.name
        || learned.verdict(row, learned.best()) == Some(Verdict::Tie);
    let number = shortened(row.quality());
    let number = if is_best {
        format!("<b>{number}</b>")
    } else {
        number
    };
    let reference = learned.reference(&results.reference);
    let mark = match reference.and_then(|reference| learned.verdict(row, reference)) {
        Some(Verdict::Better) => " <span class=\"better\">▲</span>",
        Some(Verdict::Worse) => " <span class=\"worse\">▼</span>",
        Some(Verdict::Tie) | None => "",
    };
    format!("<td>{number}{mark}</td>")
}

/// The colour of a mixer: the same everywhere, neighbours far apart.
fn hue(results: &Results, mixer: &str) -> Option<f64> {
    /// The golden angle in degrees.
    const TURN: f64 = 137.508;
    let place = results.mixers().iter().position(|name| *name == mixer)?;
    (mixer != results.reference).then_some((TURN * place as f64) % 360.0)
}

fn task(html: &mut String, results: &Results, learned: &Learned) {
    let quality = &learned.task.quality;
    let lower = quality.lower_is_better;
    let rows = learned.best_first();
    let more: Vec<String> = rows
        .iter()
        .map(|row| {
            format!(
                "{} {}, {} to train and judge",
                quality.name,
                shortened(row.quality()),
                time(row.seconds())
            )
        })
        .collect();
    let points: Vec<Dot> = rows
        .iter()
        .zip(&more)
        .map(|(row, more)| {
            let ends = row.qualities();
            Dot {
                name: Name {
                    text: row.mixer.name.clone(),
                    hue: hue(results, &row.mixer.name),
                    more,
                },
                x: row.seconds(),
                y: row.quality(),
                reach: (
                    ends.iter().copied().fold(f64::INFINITY, f64::min),
                    ends.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                ),
            }
        })
        .collect();
    let shape = learned.shape;
    let _ = writeln!(
        html,
        "<section class=\"panel\"><h2>{}</h2><p class=\"about\">{} {} layers, {} channels, at most {} tokens.</p>",
        escape(&learned.task.title),
        escape(&learned.task.about),
        shape.layers,
        shape.width,
        shape.max_len
    );
    let (best, word) = if lower {
        ("below", "less")
    } else {
        ("above", "more")
    };
    let axis = format!("{}, {word} is better", quality.name);
    let _ = writeln!(
        html,
        "<figure class=\"chart\"><figcaption>Quality against cost <span>best on the left and {best}; bars from the least to the greatest seed</span></figcaption>{}</figure>",
        dots(
            &learned.task.title,
            ["seconds of processors, training and judging", &axis],
            &points
        )
    );
    html.push_str(
        "<div class=\"scroll\"><table class=\"scores\"><thead><tr><th scope=\"col\">Mixer</th>",
    );
    let _ = write!(html, "<th scope=\"col\">{}</th>", escape(&quality.name));
    for name in learned.task.also.keys() {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escape(name));
    }
    html.push_str("<th scope=\"col\">seeds</th><th scope=\"col\">processors, s</th><th scope=\"col\">memory, MiB</th><th scope=\"col\">parameters</th><th scope=\"col\">in layers, beside</th><th scope=\"col\">feed-forward</th></tr></thead>\n<tbody>\n");
    for row in rows {
        let _ = write!(
            html,
            "<tr><th scope=\"row\">{}</th>{}",
            escape(&row.mixer.name),
            cell(results, learned, &row.mixer.name)
        );
        for name in learned.task.also.keys() {
            let _ = write!(html, "<td>{}</td>", shortened(row.also(name)));
        }
        let _ = writeln!(
            html,
            "<td>{}</td><td>{:.0}</td><td>{}</td><td>{}</td><td>{} %</td><td>{}</td></tr>",
            row.qualities().len(),
            row.seconds(),
            row.peak(),
            grouped_digits(row.parameters() as usize),
            signed(100.0 * row.matched.off()),
            row.matched.ffn
        );
    }
    html.push_str("</tbody></table></div></section>\n");
}

fn signed(percent: f64) -> String {
    format!("{percent:+.1}").replace('-', "−")
}

fn cost(html: &mut String, results: &Results) {
    let Some((_, first)) = results.costs.first() else {
        return;
    };
    let _ = writeln!(
        html,
        "<section class=\"panel\"><h2>Cost by length</h2><p class=\"about\">One sequence at a time, {} channels, the mixer alone with the settings of <code>bench/mixers/run.sh</code>; medians of {}. Exponents are fitted from {} tokens on.</p>",
        first.width,
        first.rounds,
        grouped_digits(FIT_FROM)
    );
    for measure in Measure::ALL {
        let (unit, factor) = measure.unit();
        let texts: Vec<(String, String)> = results
            .costs
            .iter()
            .map(|(mixer, cost)| {
                let exponent = cost.exponent(measure);
                let numbers = cost.tokens.iter().zip(cost.of(measure));
                let numbers = numbers.map(|(tokens, cost)| {
                    format!(
                        "{} {unit} at {}",
                        shortened(factor * cost),
                        grouped_digits(*tokens)
                    )
                });
                (
                    format!("{} {exponent}", mixer.name),
                    numbers.collect::<Vec<_>>().join(", "),
                )
            })
            .collect();
        let mut all: Vec<Line> = results
            .costs
            .iter()
            .zip(&texts)
            .map(|((mixer, cost), (text, more))| Line {
                name: Name {
                    text: text.clone(),
                    hue: hue(results, &mixer.name),
                    more,
                },
                points: cost
                    .tokens
                    .iter()
                    .zip(cost.of(measure))
                    .map(|(&tokens, cost)| (tokens as f64, factor * cost))
                    .collect(),
            })
            .collect();
        // What all are compared with is drawn over the others.
        all.sort_by_key(|line| line.name.hue.is_none());
        let (title, axis) = match measure {
            Measure::Forward => ("Forward", "milliseconds"),
            Measure::Training => ("Training, forward and backward", "milliseconds"),
            Measure::Memory => ("Memory kept for the way back", "mebibytes"),
        };
        let _ = writeln!(
            html,
            "<figure class=\"chart\"><figcaption>{title} <span>behind each name its exponent</span></figcaption>{}</figure>",
            lines(title, ["tokens", axis], &all)
        );
    }
    crossings(html, results);
    html.push_str("</section>\n");
}

fn crossings(html: &mut String, results: &Results) {
    let Some(reference) = results.reference_cost() else {
        return;
    };
    let ends = reference.ends();
    let _ = write!(
        html,
        "<h3>From which length on each is cheaper than {}</h3><div class=\"scroll\"><table class=\"scores\"><thead><tr><th scope=\"col\">Mixer</th><th scope=\"col\">forward from</th><th scope=\"col\">training from</th><th scope=\"col\">memory from</th>",
        escape(&results.reference)
    );
    for tokens in ends {
        let _ = write!(
            html,
            "<th scope=\"col\">training, ms<br><small>{} tokens</small></th>",
            grouped_digits(tokens)
        );
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    for (mixer, cost) in &results.costs {
        let _ = write!(html, "<tr><th scope=\"row\">{}</th>", escape(&mixer.name));
        for measure in Measure::ALL {
            let text = if mixer.name == results.reference {
                "–".to_owned()
            } else {
                crossing(cost.cross_over(reference, measure), ends)
            };
            let _ = write!(html, "<td>{}</td>", escape(&text));
        }
        let training = cost.of(Measure::Training);
        for seconds in [training.first(), training.last()].into_iter().flatten() {
            let _ = write!(html, "<td>{}</td>", shortened(1e3 * seconds));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div><p class=\"note\">Tokens. Between lengths on a straight line of the logarithms; ≈ beyond the longest, where the fitted lines meet.</p>\n");
}

/// Where a mixer becomes cheaper, in a few characters; `ends` are the shortest and the longest length.
pub fn crossing(found: Option<CrossOver>, ends: [usize; 2]) -> String {
    match found {
        Some(CrossOver::Always) => format!("≤ {}", grouped_digits(ends[0])),
        Some(CrossOver::From(length)) => about(length),
        // Farther than anybody would go.
        Some(CrossOver::Beyond(length)) if length < 1e7 => format!("≈ {}", about(length)),
        Some(CrossOver::Beyond(_) | CrossOver::Never) => {
            format!("> {}", grouped_digits(ends[1]))
        }
        None => "–".to_owned(),
    }
}

fn method(html: &mut String, results: &Results) {
    let _ = writeln!(
        html,
        "<section class=\"panel\"><h2>How</h2><ul class=\"said\"><li>Every mixer takes the place of {0} in the same recipe; what it lacks of {0}'s parameters, or has more, its feed-forward part makes up for.</li><li>Seeds change how weights begin, what is dropped and what is hidden. How far they lie apart is pooled over all mixers with two or more; means differ if Student's test says so at 95 %.</li><li>Rates and steps are not tuned for any mixer. At this size an outcome speaks of these tasks and this code.</li><li>Seconds of processors, as other programs may run beside.</li></ul></section>",
        escape(&results.reference)
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Trained;
    use super::super::cost::Cost;
    use super::super::judge::Spread;
    use super::super::record::record;
    use super::super::results::Row;
    use super::super::settings::Settings;
    use super::*;
    use crate::workspace::root;

    /// Numbers of every mixer on every task, close together, as if all had been run.
    fn results(settings: &Settings) -> Results<'_> {
        let folder = root().join("bench/mixers");
        let reference = settings.reference().unwrap().mixer().unwrap();
        let tasks = settings.task.iter().map(|task| {
            let (_, shape) = task.resolved(root(), &folder).unwrap();
            let rows = settings.mixer.iter().enumerate().map(|(place, mixer)| {
                let seeds = if place == 0 { 3 } else { 1 };
                let run = |seed: u64| {
                    let off = ((place * 7 + seed as usize * 3) % 11) as f64;
                    let run = Trained {
                        of: String::new(),
                        commit: "abc".to_owned(),
                        quality: 0.3 + 0.03 * off + 0.001 * place as f64,
                        also: BTreeMap::from([("accuracy".to_owned(), 0.25)]),
                        parameters: 123_456,
                        seconds: 40.0,
                        processor_seconds: Some(30.0 + 4.0 * off),
                        peak_bytes: Some(123 << 20),
                    };
                    (seed, run)
                };
                Row {
                    mixer,
                    matched: shape.matched(&mixer.mixer().unwrap(), &reference).unwrap(),
                    runs: (0..seeds).map(run).collect(),
                }
            });
            let rows: Vec<Row> = rows.collect();
            let qualities: Vec<Vec<f64>> = rows.iter().map(Row::qualities).collect();
            Learned {
                task,
                shape,
                spread: Spread::of(qualities.iter().map(Vec::as_slice)),
                rows,
            }
        });
        let costs = settings.mixer.iter().enumerate().map(|(place, mixer)| {
            let tokens = [128.0_f64, 1024.0, 4096.0, 16384.0];
            let power = 1.0 + 0.0625 * ((16 - place) % 17) as f64;
            let seconds = tokens.map(|n| 1e-6 * n.powf(power) * (place + 2) as f64);
            let cost: Cost = serde_json::from_value(serde_json::json!({
                "kind": mixer.cost(), "width": 32, "rounds": 3, "tokens": [128, 1024, 4096, 16384],
                "forward_seconds": seconds, "training_seconds": seconds.map(|one| 2.0 * one),
                "kept_bytes": tokens.map(|n| 700.0 * n),
            }))
            .unwrap();
            (mixer, cost)
        });
        Results {
            reference: settings.reference.clone(),
            machine: "a machine <of> 2 cores".to_owned(),
            commits: vec!["abc".to_owned()],
            tasks: tasks.collect(),
            costs: costs.collect(),
            left: vec!["words, seed 2: pool".to_owned()],
        }
    }

    #[test]
    fn page_and_record_have_every_mixer_and_task_and_nothing_from_elsewhere() {
        let settings = Settings::read(&root().join("bench/mixers")).unwrap();
        let results = results(&settings);
        let (page, record) = (page(&results), record(&results));
        for text in [&page, &record] {
            for name in settings.mixer.iter().map(|mixer| &mixer.name) {
                assert!(text.contains(name), "{name}");
            }
            for title in settings.task.iter().map(|task| &task.title) {
                assert!(text.contains(title.as_str()), "{title}");
            }
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
            assert!(text.contains("words, seed 2: pool"));
        }
        for outside in ["http", "src=", "url(", "<script", "<of>"] {
            assert!(!page.contains(outside), "{outside}");
        }
        let drawings = settings.task.len() + Measure::ALL.len();
        assert_eq!(page.matches("<svg class=\"drawing\"").count(), drawings);
    }

    #[test]
    fn where_a_mixer_becomes_cheaper_is_said_in_a_few_characters() {
        let of = |found| crossing(Some(found), [128, 16384]);
        assert_eq!(of(CrossOver::Always), "≤ 128");
        assert_eq!(of(CrossOver::From(2743.0)), "2,700");
        assert_eq!(of(CrossOver::Beyond(23_456.0)), "≈ 23,000");
        assert_eq!(of(CrossOver::Beyond(1e9)), "> 16,384");
        assert_eq!(of(CrossOver::Never), "> 16,384");
        assert_eq!(crossing(None, [128, 16384]), "–");
    }
}
