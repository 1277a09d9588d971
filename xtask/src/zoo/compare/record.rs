//! The same as Markdown, for bench/records/.

use std::fmt::Write;

use super::cost::{FIT_FROM, Measure};
use super::page::crossing;
use super::results::Results;
use super::shortened;
use super::verdict::grouped_digits;

/// The record.
pub fn record(results: &Results) -> String {
    let mut out = format!(
        "# Every mixer beside every other\n\n{}; commit {}. As many parameters, the same data, batches, steps and rates.\n\n```\n{}\n```\n",
        results.machine,
        results.commits.join(", "),
        command()
    );
    for learned in &results.tasks {
        let quality = &learned.task.quality;
        let _ = write!(
            out,
            "\n## {}\n\n{}\n\n| mixer | {} |",
            learned.task.title, learned.task.about, quality.name
        );
        for name in learned.task.also.keys() {
            let _ = write!(out, " {name} |");
        }
        out.push_str(" seeds | processors, s | memory, MiB | parameters | beside, in layers | feed-forward |\n|---|--:|--:|--:|--:|--:|--:|--:|");
        out.push_str(&"--:|".repeat(learned.task.also.len()));
        out.push('\n');
        for row in learned.best_first() {
            let _ = write!(out, "| {} | {} |", row.mixer.name, shortened(row.quality()));
            for name in learned.task.also.keys() {
                let _ = write!(out, " {} |", shortened(row.also(name)));
            }
            let _ = writeln!(
                out,
                " {} | {:.0} | {} | {} | {:+.1} % | {} |",
                row.qualities().len(),
                row.seconds(),
                row.peak(),
                row.parameters(),
                100.0 * row.matched.off(),
                row.matched.ffn
            );
        }
    }
    costs(&mut out, results);
    out.push_str("\n## What follows\n\n");
    for (about, sentences) in results.said() {
        let _ = writeln!(out, "- **{about}.** {}", sentences.join(" "));
    }
    for line in &results.left {
        let _ = writeln!(out, "- Left out, as the budget was spent: {line}.");
    }
    out
}

/// The command that was given.
fn command() -> String {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words = words
        .iter()
        .map(|word| shlex::try_quote(word).map_or(word.clone(), Into::into));
    format!("cargo x {}", words.collect::<Vec<_>>().join(" "))
}

fn costs(out: &mut String, results: &Results) {
    let Some((_, first)) = results.costs.first() else {
        return;
    };
    let _ = write!(
        out,
        "\n## Cost by length\n\n`bench/mixers/run.sh`: one sequence at a time, {} channels, the mixer alone; milliseconds forward / forward and backward / mebibytes kept between, and the exponent of each from {FIT_FROM} tokens on.\n\n| mixer |",
        first.width
    );
    for &tokens in &first.tokens {
        let _ = write!(out, " {} |", grouped_digits(tokens));
    }
    let _ = writeln!(
        out,
        " exponents |\n|---|{}--:|",
        "--:|".repeat(first.tokens.len())
    );
    for (mixer, cost) in &results.costs {
        let _ = write!(out, "| {} |", mixer.name);
        for at in 0..cost.tokens.len() {
            let numbers =
                Measure::ALL.map(|measure| shortened(measure.unit().1 * cost.of(measure)[at]));
            let _ = write!(out, " {} |", numbers.join(" / "));
        }
        let exponents = Measure::ALL.map(|measure| cost.exponent(measure));
        let _ = writeln!(out, " {} |", exponents.join(" / "));
    }
    let Some(reference) = results.reference_cost() else {
        return;
    };
    let ends = reference.ends();
    let _ = write!(
        out,
        "\n| cheaper than {} from, tokens | forward | training | memory |\n|---|--:|--:|--:|\n",
        results.reference
    );
    for (mixer, cost) in results
        .costs
        .iter()
        .filter(|(mixer, _)| mixer.name != results.reference)
    {
        let cells = Measure::ALL.map(|measure| crossing(cost.cross_over(reference, measure), ends));
        let _ = writeln!(out, "| {} | {} |", mixer.name, cells.join(" | "));
    }
}
