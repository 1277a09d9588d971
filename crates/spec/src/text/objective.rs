use serde::{Deserialize, Serialize};

use super::Readout;
use crate::Faults;
use crate::objective::Replace;

pub use crate::encoder::Problem;

/// What an encoder of texts learns, by kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Objective {
    /// Fill blanks from what stands on both sides.
    MaskedToken(MaskedToken),
    /// Find the tokens that a smaller encoder, which fills blanks, has put in the place of others.
    ReplacedToken(ReplacedToken),
    /// Say of each token where it stands.
    Position(Position),
    /// Labels, or a number, of a text or pair.
    Sequence(Sequence),
    /// A label of each word.
    Token(Token),
    /// A sequence of labels of a text.
    Transcript(Transcript),
    /// Where a question's answer stands in a text.
    Span(Span),
}

/// Tokens are hidden at random, others each time, and named again.
///
/// # Source
/// Devlin et al., BERT, NAACL 2019, arXiv:1810.04805, §3.1; drawn anew each epoch as in Liu et al., `RoBERTa`, 2019,
/// arXiv:1907.11692, §4.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedToken {
    /// Share of a sequence's tokens to predict; at least one is.
    pub mask_prob: f64,
    /// What stands in the place of a token to predict.
    pub replace: Replace,
    /// What is hidden together.
    #[serde(default = "token")]
    pub unit: Unit,
    /// Whether the two segments of a text belong together, learned beside the tokens; absent: texts have one segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair: Option<Pair>,
    /// Layers between the encoder and its head, which are not written; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<Decoder>,
}

fn token() -> Unit {
    Unit::Token
}

/// What is learned of two segments, each some lines of a document, that stand in one text.
///
/// A text is filled with lines up to `model.max_len`, and cut in two after one of them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Pair {
    /// Half of the second segments come from another document.
    ///
    /// # Source
    /// Devlin et al., BERT, NAACL 2019, arXiv:1810.04805, §3.1 and its public code, `create_pretraining_data`.
    /// # Departures
    /// A line that fills a text alone is cut in two, where the code has nothing follow it; nothing of a pair is cut off.
    NextSentence(Segments),
    /// Half of the pairs have their segments swapped.
    ///
    /// # Source
    /// Lan et al., ALBERT, ICLR 2020, arXiv:1909.11942, §3.1.
    /// # Departures
    /// As [`Self::NextSentence`].
    SentenceOrder(Segments),
}

/// How long pairs are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Segments {
    /// Share of the texts that are shorter than they might be, by a length drawn at random.
    #[serde(default = "tenth")]
    pub short_prob: f64,
}

fn tenth() -> f64 {
    0.1
}

impl Pair {
    /// How long pairs are.
    pub fn segments(&self) -> Segments {
        match self {
            Self::NextSentence(segments) | Self::SentenceOrder(segments) => *segments,
        }
    }
}

/// What is hidden together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Unit {
    /// Single tokens.
    #[serde(deserialize_with = "crate::objective::no_settings")]
    Token,
    /// All tokens of a word (whole-word masking, of the later releases of BERT).
    #[serde(deserialize_with = "crate::objective::no_settings")]
    Word,
    /// Whole words that stand in a row.
    ///
    /// # Source
    /// Joshi et al., `SpanBERT`, TACL 2020, arXiv:1907.10529, §3.1.
    Span(SpanLength),
}

/// How many words stand in a row: a geometric distribution, cut off.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpanLength {
    /// Chance that a run ends after each word.
    pub end_prob: f64,
    /// Most words of a run; longer ones are drawn again.
    pub max_words: usize,
}

/// Layers of the encoder's kind that stand between it and its head while it learns. Keys of tokens to predict come into sight
/// layer by layer, in an order drawn at random for each text, and the head is given what either side makes of them.
///
/// # Source
/// Liang and Liang, `BPDec`, 2024, arXiv:2401.15861.
/// # Departures
/// Where the text leaves it open: a token to predict does not see itself either until it is in sight, and layers of the encoder
/// itself hide nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoder {
    /// Share of a text's tokens to predict that is in sight in each layer, falling nowhere; as many layers as there are shares.
    pub visible: Vec<f64>,
    /// What the head is given.
    pub mix: DecoderMix,
}

/// What the head is given of a token to predict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DecoderMix {
    /// What the last layer makes of it, or the encoder, drawn for each token.
    Token(MixShare),
    /// The same, drawn for each text.
    Sequence(MixShare),
    /// The mean of both.
    #[serde(deserialize_with = "crate::objective::no_settings")]
    Mean,
}

/// How often the head is given what the decoder makes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixShare {
    /// Chance of the decoder.
    pub decoder: f64,
}

/// Tokens are hidden and named again by a generator, which is smaller and shares the embedding; the encoder then says of every
/// token whether it is the one that stood there. What the generator puts is drawn by its probabilities; nothing is learned
/// through the draw.
///
/// # Source
/// Clark et al., ELECTRA, ICLR 2020, arXiv:2003.10555, §2 and §3.2.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplacedToken {
    /// Share of a sequence's tokens that the generator names; at least one is.
    pub mask_prob: f64,
    /// What stands in their place.
    pub replace: Replace,
    /// What is hidden together.
    #[serde(default = "token")]
    pub unit: Unit,
    /// Heads and feed-forward width of the generator's layers, as a share of the encoder's; heads are as wide.
    pub generator_share: f64,
    /// What the encoder's loss counts beside the generator's.
    pub weight: f32,
}

/// Texts are sets: no token has a position, each says which it had, and sees only some of the others.
///
/// # Source
/// Zhai et al., Position Prediction as an Effective Pretraining Strategy, ICML 2022, arXiv:2207.07611, §3.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Share of a text's tokens that no token sees, drawn for each text; at least one is seen.
    pub hidden_share: f64,
}

/// Labels, or a number, of a text or pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// One label, several, or a number.
    pub problem: Problem,
    /// How labels are judged; without meaning for numbers, whose squared error counts.
    #[serde(default)]
    pub loss: LabelLoss,
    /// Long texts become windows, whose vectors are made one; none: they are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<Chunks>,
    /// What makes one vector of a text's states; none: what is usual for the encoder's family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readout: Option<Readout>,
}

/// Windows of a long text, and what makes one vector of theirs, before the head.
///
/// # Source
/// Mao et al., `AD-BERT`, Journal of Biomedical Informatics 144, 2023, arXiv:2212.06042.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunks {
    /// What is made of the windows' vectors.
    pub pool: ChunkPool,
    /// Tokens that a window shares with the one before.
    pub overlap: usize,
    /// Windows of a text at most; what comes after them is cut. All of a text's windows are in one batch.
    pub most: usize,
}

/// What is made of the vectors of a text's windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChunkPool {
    /// The largest of each channel: what one window shows is shown.
    Max,
    /// The mean.
    Mean,
    /// A mean whose weights are learned: each vector's share is the power of a score that a map, tanh and a second map give it.
    ///
    /// # Source
    /// Ilse et al., Attention-based Deep Multiple Instance Learning, ICML 2018, arXiv:1802.04712, §2.4, without gates.
    Attention,
}

/// How a trained model takes long texts, as its folder says it: the value of [`Self::KEY`] in `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunked {
    /// Longest window in tokens, special ones included.
    pub max_len: usize,
    /// The windows.
    pub chunks: Chunks,
}

impl Chunked {
    /// Name of the setting; of this project alone.
    pub const KEY: &str = "cloze_chunks";

    /// What does not fit, if anything: windows may share half of their tokens.
    pub fn fault(&self) -> Option<String> {
        let Self { max_len, chunks } = self;
        let fits = chunks.most > 0 && chunks.overlap <= (max_len / 2).saturating_sub(4);
        (!fits).then(|| {
            format!(
                "expected at least one window, and an overlap of up to {}, half of the longest less 4, found {} and {}",
                (max_len / 2).saturating_sub(4),
                chunks.most,
                chunks.overlap
            )
        })
    }
}

/// A label of each word, taken at the word's first token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What the labels of words say; none: told from the training files. Where the metric of validation is none of what is
    /// told, it is the first of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<Tags>,
    /// How labels are judged.
    #[serde(default)]
    pub loss: LabelLoss,
    /// How the labels of a sentence are chosen.
    #[serde(default, skip_serializing_if = "is_greedy")]
    pub decode: Decode,
}

/// How the labels of a sentence are chosen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Decode {
    /// Each word's likeliest, whatever stands beside it.
    #[default]
    #[serde(deserialize_with = "crate::objective::no_settings")]
    Greedy,
    /// The likeliest sequence among those that the scheme of the labels allows; nothing more is learned.
    #[serde(deserialize_with = "crate::objective::no_settings")]
    Constrained,
    /// The same, with a learned score of each label after each other.
    Crf(Crf),
}

/// A linear chain: a sequence of labels has for its score the sum of what the encoder gives each, and of what each gives the
/// next; learning makes the true sequence likely among all that could be.
///
/// # Source
/// Lafferty et al., Conditional Random Fields, ICML 2001; over an encoder as in Lample et al., NAACL 2016,
/// arXiv:1603.01360, §2.2.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crf {
    /// The scores between labels learn this many times as fast as the rest: a rate that is right for a pretrained encoder
    /// hardly moves what begins at 0.
    #[serde(default = "hundred")]
    pub rate: f64,
}

fn hundred() -> f64 {
    100.0
}

/// What the labels of words say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tags {
    /// Where labelled stretches of words begin and go on, as `B-PER`, `I-PER` and `O` do; judged by whole stretches.
    Stretches,
    /// What each word is, such as its part of speech; judged word by word.
    Words,
}

impl Tags {
    fn metrics(self) -> &'static [&'static str] {
        match self {
            Self::Stretches => &["f1", "precision", "recall", "accuracy"],
            Self::Words => &["accuracy", "macro-f1"],
        }
    }
}

/// A sequence of labels of a text, in an order of its own: what is spoken, or what is meant by it, such as an intent and its slots.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcript {
    /// What makes labels of the states of tokens.
    pub decode: Transcriber,
    /// How labels are judged.
    #[serde(default)]
    pub loss: LabelLoss,
}

/// What makes a sequence of labels of the states of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Transcriber {
    /// Each token gives a label or none, and the same label several times in a row counts once: labels come in the order of the
    /// text, and there are no more of them than tokens. Each label's share of all ways to give the sequence is learned.
    ///
    /// # Source
    /// Graves et al., Connectionist Temporal Classification, ICML 2006, §3.
    #[serde(deserialize_with = "crate::objective::no_settings")]
    Ctc,
    /// Label after label, each seeing those before it and all tokens.
    Attention(LabelDecoder),
}

/// Layers that write a sequence of labels: attention to the labels before, attention to the tokens, and a feed-forward part, each
/// with its norm behind it.
///
/// # Source
/// Vaswani et al., Attention Is All You Need, `NeurIPS` 2017, arXiv:1706.03762, §3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelDecoder {
    /// Layers, each as wide as the encoder.
    pub layers: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Longest sequence of labels.
    pub most: usize,
    /// Sequences that are gone on with at a time, the likeliest ones; 1: the likeliest label each time.
    pub beam: usize,
}

/// How a trained model makes sequences of labels, as its folder says it: the value of [`Self::KEY`] in `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transcribed {
    /// Names of the labels.
    pub labels: Vec<String>,
    /// What parts them where they are written as one.
    pub separator: char,
    /// What makes them.
    pub decode: Transcriber,
}

impl Transcribed {
    /// Name of the setting; of this project alone.
    pub const KEY: &str = "cloze_transcript";
    /// What a head of tokens calls no label.
    pub const BLANK: &str = "<blank>";
}

/// Where a question's answer stands in a text; long texts become windows.
///
/// A window without the answer has its first token for one, and so have questions that the text does not answer.
///
/// # Source
/// Devlin et al., BERT, NAACL 2019, arXiv:1810.04805, §4.2 and §4.3.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// Tokens that a window shares with the one before.
    pub overlap: usize,
    /// Longest answer in tokens.
    pub max_answer_len: usize,
}

/// Cross-entropy, and what may be changed about it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LabelLoss {
    /// Share of the truth that is spread evenly over all labels (Szegedy et al., arXiv:1512.00567, §7).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub label_smoothing: f32,
    /// How much less is learned from what is known already; 0: as much (Lin et al., Focal Loss, arXiv:1708.02002, §3.2).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub focal_gamma: f32,
    /// What each class weighs.
    #[serde(default, skip_serializing_if = "is_even")]
    pub class_weights: ClassWeights,
}

/// What each class weighs in the loss.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClassWeights {
    /// All the same.
    #[default]
    Even,
    /// Rare ones more: `examples / (classes · examples of the class)` (King and Zeng, 2001, as in scikit-learn).
    Balanced,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_zero(value: &f32) -> bool {
    *value == 0.0
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde calls"
)]
fn is_even(value: &ClassWeights) -> bool {
    *value == ClassWeights::Even
}

fn is_greedy(value: &Decode) -> bool {
    *value == Decode::Greedy
}

impl Objective {
    /// The metrics that validation may go by, the usual one first.
    pub fn metrics(&self) -> &'static [&'static str] {
        match self {
            Self::MaskedToken(masked) if masked.pair.is_some() => {
                &["perplexity", "accuracy", "pair-accuracy"]
            }
            Self::MaskedToken(_) => &["perplexity", "accuracy"],
            Self::ReplacedToken(_) => &["loss", "f1", "accuracy", "perplexity"],
            Self::Position(_) => &["accuracy", "mean-distance"],
            Self::Sequence(sequence) => match sequence.problem {
                Problem::SingleLabel => &["accuracy", "f1", "macro-f1", "mcc"],
                Problem::MultiLabel => &["micro-f1", "macro-f1", "subset-accuracy"],
                Problem::Regression => &["spearman", "pearson", "mse"],
            },
            Self::Token(token) => token.tags.map_or(
                &["f1", "precision", "recall", "accuracy", "macro-f1"],
                Tags::metrics,
            ),
            Self::Transcript(_) => &["exact-match", "error-rate"],
            Self::Span(_) => &["f1", "exact-match"],
        }
    }

    /// What is learned of two segments beside their tokens.
    pub fn pair(&self) -> Option<Pair> {
        match self {
            Self::MaskedToken(masked) => masked.pair,
            Self::ReplacedToken(_)
            | Self::Position(_)
            | Self::Sequence(_)
            | Self::Token(_)
            | Self::Transcript(_)
            | Self::Span(_) => None,
        }
    }

    /// How tokens are hidden, where they are what is to be named.
    pub fn blanks(&self) -> Option<MaskedToken> {
        match self {
            Self::MaskedToken(masked) => Some(masked.clone()),
            Self::ReplacedToken(replaced) => Some(MaskedToken {
                mask_prob: replaced.mask_prob,
                replace: replaced.replace,
                unit: replaced.unit,
                pair: None,
                decoder: None,
            }),
            Self::Position(_)
            | Self::Sequence(_)
            | Self::Token(_)
            | Self::Transcript(_)
            | Self::Span(_) => None,
        }
    }

    /// How labels are judged, where there are labels.
    pub fn label_loss(&self) -> LabelLoss {
        match self {
            Self::Sequence(sequence) => sequence.loss,
            Self::Token(token) => token.loss,
            Self::Transcript(transcript) => transcript.loss,
            Self::MaskedToken(_) | Self::ReplacedToken(_) | Self::Position(_) | Self::Span(_) => {
                LabelLoss::default()
            }
        }
    }

    /// What becomes of long texts, where texts have labels or numbers.
    pub fn chunks(&self) -> Option<Chunks> {
        match self {
            Self::Sequence(sequence) => sequence.chunks,
            Self::MaskedToken(_)
            | Self::ReplacedToken(_)
            | Self::Position(_)
            | Self::Token(_)
            | Self::Transcript(_)
            | Self::Span(_) => None,
        }
    }

    /// What makes one vector of a text's states, where that is not the family's own way.
    pub fn readout(&self) -> Option<Readout> {
        match self {
            Self::Sequence(sequence) => sequence.readout,
            Self::MaskedToken(_)
            | Self::ReplacedToken(_)
            | Self::Position(_)
            | Self::Token(_)
            | Self::Transcript(_)
            | Self::Span(_) => None,
        }
    }

    /// How the labels of a sentence are chosen, where words have labels.
    pub fn decode(&self) -> Decode {
        match self {
            Self::Token(token) => token.decode,
            Self::MaskedToken(_)
            | Self::ReplacedToken(_)
            | Self::Position(_)
            | Self::Sequence(_)
            | Self::Transcript(_)
            | Self::Span(_) => Decode::Greedy,
        }
    }

    pub(super) fn check(&self, path: &str, faults: &mut Faults) {
        if let Some(blanks) = self.blanks() {
            blanks.check(path, faults);
        }
        match self {
            Self::ReplacedToken(replaced) => {
                let share = replaced.generator_share;
                faults.check(
                    share > 0.0 && share <= 1.0,
                    &format!("{path}.generator_share"),
                    || format!("expected a share above 0, up to 1, found {share}"),
                );
                let weight = replaced.weight;
                faults.check(
                    weight > 0.0 && weight.is_finite(),
                    &format!("{path}.weight"),
                    || format!("expected a number above 0, found {weight}"),
                );
            }
            Self::Position(position) => {
                let share = position.hidden_share;
                faults.check(
                    (0.0..1.0).contains(&share),
                    &format!("{path}.hidden_share"),
                    || format!("expected a share from 0 up to, not including, 1, found {share}"),
                );
            }
            Self::Span(span) => {
                faults.check_positive(&format!("{path}.max_answer_len"), span.max_answer_len);
            }
            Self::Transcript(transcript) => transcript.check(path, faults),
            Self::MaskedToken(_) | Self::Sequence(_) | Self::Token(_) => {}
        }
        let loss = self.label_loss();
        if let Decode::Crf(crf) = self.decode() {
            faults.check(
                crf.rate > 0.0 && crf.rate.is_finite(),
                &format!("{path}.decode.rate"),
                || format!("expected a number above 0, found {}", crf.rate),
            );
            faults.check(
                loss == LabelLoss::default(),
                &format!("{path}.loss"),
                || "a crf judges whole sequences of labels, not each; leave it out".to_owned(),
            );
        }
        faults.check(
            (0.0..1.0).contains(&loss.label_smoothing),
            &format!("{path}.loss.label_smoothing"),
            || {
                format!(
                    "expected a share from 0 up to, not including, 1, found {}",
                    loss.label_smoothing
                )
            },
        );
        faults.check(
            loss.focal_gamma >= 0.0 && loss.focal_gamma.is_finite(),
            &format!("{path}.loss.focal_gamma"),
            || format!("expected 0 or more, found {}", loss.focal_gamma),
        );
    }
}

impl Transcript {
    fn check(&self, path: &str, faults: &mut Faults) {
        let even = self.loss.class_weights == ClassWeights::Even;
        let message = match self.decode {
            Transcriber::Ctc => "ctc judges whole sequences of labels, not each; leave it out",
            Transcriber::Attention(_) => {
                "labels of a sequence weigh the same; leave class_weights out"
            }
        };
        let fits = match self.decode {
            Transcriber::Ctc => self.loss == LabelLoss::default(),
            Transcriber::Attention(_) => even,
        };
        faults.check(fits, &format!("{path}.loss"), || message.to_owned());
        if let Transcriber::Attention(decoder) = self.decode {
            for (name, count) in [
                ("layers", decoder.layers),
                ("heads", decoder.heads),
                ("most", decoder.most),
                ("beam", decoder.beam),
            ] {
                faults.check_positive(&format!("{path}.decode.{name}"), count);
            }
        }
    }
}

impl MaskedToken {
    fn check(&self, path: &str, faults: &mut Faults) {
        let share = self.mask_prob;
        faults.check(
            share > 0.0 && share <= 1.0,
            &format!("{path}.mask_prob"),
            || format!("expected a share above 0, up to 1, found {share}"),
        );
        faults.extend(self.replace.faults(&format!("{path}.replace")));
        if let Unit::Span(span) = self.unit {
            let end = span.end_prob;
            faults.check(
                end > 0.0 && end <= 1.0,
                &format!("{path}.unit.end_prob"),
                || format!("expected a chance above 0, up to 1, found {end}"),
            );
            faults.check_positive(&format!("{path}.unit.max_words"), span.max_words);
        }
        if let Some(pair) = self.pair {
            let share = pair.segments().short_prob;
            faults.check(
                (0.0..=1.0).contains(&share),
                &format!("{path}.pair.short_prob"),
                || format!("expected a share from 0 to 1, found {share}"),
            );
        }
        if let Some(decoder) = &self.decoder {
            let shares = &decoder.visible;
            faults.check(
                shares.is_sorted() && shares.iter().all(|share| (0.0..=1.0).contains(share)),
                &format!("{path}.decoder.visible"),
                || format!("expected shares from 0 to 1, falling nowhere, found {shares:?}"),
            );
            if let DecoderMix::Token(MixShare { decoder: share })
            | DecoderMix::Sequence(MixShare { decoder: share }) = decoder.mix
            {
                faults.check(
                    share > 0.0 && share < 1.0,
                    &format!("{path}.decoder.mix.decoder"),
                    || {
                        format!(
                            "expected a chance above 0 and below 1, so that the encoder itself learns to name tokens too, found {share}"
                        )
                    },
                );
            }
        }
    }
}

/// Whether less of a metric is better.
pub fn lower_is_better(metric: &str) -> bool {
    matches!(
        metric,
        "perplexity" | "mse" | "loss" | "mean-distance" | "error-rate"
    )
}
