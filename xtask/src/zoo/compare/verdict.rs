//! What wins where, in sentences made of the numbers.

use super::cost::{FIT_FROM, Measure};
use super::judge::{CrossOver, Verdict};
use super::results::{Learned, Results, Row};
use super::shortened;

impl Results<'_> {
    /// All sentences, each under what it is about.
    pub fn said(&self) -> Vec<(String, Vec<String>)> {
        let tasks = self.tasks.iter().map(|learned| {
            let sentences = self.of_task(learned);
            (learned.task.title.clone(), sentences)
        });
        let lengths =
            (!self.costs.is_empty()).then(|| ("Cost by length".to_owned(), self.of_cost()));
        tasks.chain(lengths).collect()
    }

    /// The same as lines.
    pub fn verdicts(&self) -> Vec<String> {
        let lines = self.said().into_iter().flat_map(|(about, sentences)| {
            let sentences = sentences
                .into_iter()
                .map(|sentence| format!("  {sentence}"));
            std::iter::once(about).chain(sentences)
        });
        lines.collect()
    }

    fn of_task(&self, learned: &Learned) -> Vec<String> {
        let quality = &learned.task.quality.name;
        let best = learned.best();
        if learned.rows.len() == 1 {
            return vec![format!(
                "{}: {quality} {}; nothing stands beside it.",
                best.mixer.name,
                shortened(best.quality())
            )];
        }
        let Some(spread) = learned.spread else {
            return vec![format!(
                "{} has the best {quality}, {}; no mixer was run with two seeds, so whether any differ is not known.",
                best.mixer.name,
                shortened(best.quality())
            )];
        };
        let level: Vec<&Row> = learned
            .rows
            .iter()
            .filter(|row| learned.verdict(row, best) == Some(Verdict::Tie))
            .collect();
        let others = names(level.iter().filter(|row| row.mixer.name != best.mixer.name));
        let mut said = vec![if others.is_empty() {
            format!(
                "{} is best alone: {quality} {}.",
                best.mixer.name,
                shortened(best.quality())
            )
        } else {
            format!(
                "{} has the best {quality}, {}; ties with it: {others}.",
                best.mixer.name,
                shortened(best.quality())
            )
        }];
        if let Some(reference) = learned.reference(&self.reference) {
            let beside = |wanted: Verdict| {
                let rows: Vec<&Row> = learned
                    .best_first()
                    .into_iter()
                    .filter(|row| row.mixer.name != self.reference)
                    .filter(|row| learned.verdict(row, reference) == Some(wanted))
                    .collect();
                names(rows.iter())
            };
            let parts = [
                ("better", Verdict::Better),
                ("ties", Verdict::Tie),
                ("worse", Verdict::Worse),
            ];
            let parts = parts
                .map(|(word, wanted)| (word, beside(wanted)))
                .into_iter()
                .filter(|(_, names)| !names.is_empty())
                .map(|(word, names)| format!("{word}: {names}"));
            said.push(format!(
                "Beside {}, {}: {}.",
                self.reference,
                shortened(reference.quality()),
                parts.collect::<Vec<_>>().join("; ")
            ));
            let cheapest = level.iter().filter(|row| row.mixer.mixes);
            if let Some(cheapest) = cheapest.min_by(|a, b| a.seconds().total_cmp(&b.seconds())) {
                let (own, other) = (cheapest.seconds(), reference.seconds());
                said.push(if cheapest.mixer.name == self.reference {
                    format!(
                        "Of the best and its ties {} takes the least time to train, {}.",
                        self.reference,
                        time(own)
                    )
                } else {
                    format!(
                        "Of the best and its ties {} takes the least time to train, {} of processors, {:.2} times what {} takes.",
                        cheapest.mixer.name,
                        time(own),
                        own / other,
                        self.reference
                    )
                });
            }
        }
        said.push(format!(
            "Seeds lie {} apart (one standard deviation, {} degrees of freedom); single runs closer than {} are ties.",
            shortened(spread.deviation),
            spread.freedom,
            shortened(spread.least(1, 1))
        ));
        said
    }

    fn of_cost(&self) -> Vec<String> {
        let mut said = Vec::new();
        let mixing = || self.costs.iter().filter(|(mixer, _)| mixer.mixes);
        let Some((_, first)) = self.costs.first() else {
            return said;
        };
        for at in [0, first.tokens.len() - 1] {
            let cheapest = |measure: Measure| {
                let all =
                    mixing().filter_map(|(mixer, cost)| Some((mixer, *cost.of(measure).get(at)?)));
                all.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(mixer, cost)| {
                    let (unit, factor) = measure.unit();
                    format!(
                        "{} {} ({} {unit})",
                        measure.name(),
                        mixer.name,
                        shortened(factor * cost)
                    )
                })
            };
            let parts: Vec<String> = Measure::ALL.into_iter().filter_map(cheapest).collect();
            said.push(format!(
                "The cheapest over {} tokens: {}.",
                grouped_digits(first.tokens[at]),
                parts.join(", ")
            ));
        }
        if let Some(reference) = self.reference_cost() {
            for measure in [Measure::Forward, Measure::Training] {
                let mut found: Vec<(f64, String)> = Vec::new();
                let (mut always, mut never) = (Vec::new(), Vec::new());
                for (mixer, cost) in mixing().filter(|(mixer, _)| mixer.name != self.reference) {
                    match cost.cross_over(reference, measure) {
                        Some(CrossOver::Always) => always.push(&*mixer.name),
                        Some(CrossOver::From(length)) => {
                            found.push((length, format!("{} from {}", mixer.name, about(length))));
                        }
                        Some(CrossOver::Beyond(_) | CrossOver::Never) => never.push(&*mixer.name),
                        None => {}
                    }
                }
                found.sort_by(|a, b| a.0.total_cmp(&b.0));
                let mut parts = Vec::new();
                if !always.is_empty() {
                    parts.push(format!("At every length: {}.", always.join("; ")));
                }
                if !found.is_empty() {
                    let found: Vec<String> = found.into_iter().map(|(_, text)| text).collect();
                    parts.push(format!("From a length on: {}.", found.join("; ")));
                }
                if !never.is_empty() {
                    parts.push(format!("At none measured: {}.", never.join("; ")));
                }
                if !parts.is_empty() {
                    said.push(format!(
                        "Cheaper than {}, {}. {}",
                        self.reference,
                        measure.name(),
                        parts.join(" ")
                    ));
                }
            }
        }
        let mut slow: Vec<(&str, f64)> = mixing()
            .filter_map(|(mixer, cost)| Some((&*mixer.name, cost.fit(Measure::Training)?.exponent)))
            .collect();
        slow.sort_by(|a, b| a.1.total_cmp(&b.1));
        if let (Some(least), Some(most)) = (slow.first(), slow.last()) {
            said.push(format!(
                "From {} tokens on training grows by the power {:.2} of the length ({}) to {:.2} ({}).",
                grouped_digits(FIT_FROM),
                least.1,
                least.0,
                most.1,
                most.0
            ));
        }
        said
    }
}

fn names<'a>(rows: impl Iterator<Item = &'a &'a Row<'a>>) -> String {
    rows.map(|row| &*row.mixer.name)
        .collect::<Vec<_>>()
        .join("; ")
}

/// A length that follows from others: two digits.
pub fn about(length: f64) -> String {
    let unit = 10_f64.powf(length.log10().floor() - 1.0).max(1.0);
    grouped_digits(((length / unit).round() * unit) as usize)
}

/// Seconds in words.
pub fn time(seconds: f64) -> String {
    if seconds < 99.5 {
        format!("{seconds:.0} s")
    } else {
        format!("{:.1} min", seconds / 60.0)
    }
}

/// Digits in groups of three.
pub fn grouped_digits(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_the_digits_that_count() {
        assert_eq!(about(2743.2), "2,700");
        assert_eq!(about(128.0), "130");
        assert_eq!(about(45_678.0), "46,000");
        assert_eq!(grouped_digits(16384), "16,384");
        assert_eq!([time(41.2), time(150.0)], ["41 s", "2.5 min"]);
    }
}
