use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use cloze_data::text::{Encoding, Long, Shorten, Tokenizer};
use cloze_runtime::Engine;
use cloze_runtime::cpu::{Options, Storage};
use cloze_runtime::model::TextEncoder;
use cloze_runtime::predict::{Answerer, Classifier, FillMask, TokenClassifier};
use tokio::sync::Semaphore;

use crate::cache::Cache;
use crate::input::{Item, Side, Taking};
use crate::queue::{Answer, Bounds, Lost, Queue, Wanted};
use crate::recommend::Recommend;
use crate::task::{Labeller, Task};
use crate::trace::{self, Part};
use crate::watch::{self, Times};
use crate::{Fault, StartError, auth};

/// What a request may ask for, and what may be under way.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most tokens that are computed together.
    pub batch_tokens: usize,
    /// Most tokens waiting or being computed before requests are refused.
    pub waiting_tokens: usize,
    /// Most texts of a request.
    pub client_batch_size: usize,
    /// Whether texts longer than the model takes are cut where a request does not say.
    pub auto_truncate: bool,
    /// Time for a request that does not say.
    pub timeout: Duration,
    /// Most bytes of a body.
    pub payload_bytes: usize,
    /// Texts turned into tokens at the same time.
    pub tokenizers: usize,
    /// Most bytes of answers that each model keeps for texts that come again; 0 keeps none.
    pub cache_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Throughput has its most from about a thousand tokens on; larger batches only make newcomers wait.
            batch_tokens: 2048,
            waiting_tokens: 65_536,
            client_batch_size: 32,
            auto_truncate: true,
            timeout: Duration::from_secs(30),
            payload_bytes: 2_000_000,
            tokenizers: 1,
            cache_bytes: 0,
        }
    }
}

/// A loaded model, its name, and the line before it.
pub struct Model {
    name: String,
    task: Arc<Task>,
    queue: Queue,
    limits: Limits,
    tokenizers: Semaphore,
    cache: Option<Cache>,
    dtype: &'static str,
    runs_on: &'static str,
}

impl Model {
    /// Loads the model of texts of a folder.
    ///
    /// # Errors
    /// If the folder's model cannot be opened, or the system gives no thread.
    pub fn open(
        name: String,
        path: &Path,
        options: Options,
        limits: Limits,
    ) -> Result<Self, StartError> {
        let dtype = match options.storage {
            Storage::F32 => "float32",
            Storage::F16 => "float16",
            Storage::Bf16 => "bfloat16",
            Storage::Int8 => "int8",
        };
        let task = Task::open(path, options)?;
        let started = |engine: &dyn Engine| options.start(engine.encoder());
        let runs_on = match task.engine().and_then(started) {
            None => "cpu",
            Some(_) => "burn",
        };
        Self::new(name, task, dtype, runs_on, limits)
    }

    /// A model that recommends items.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn recommender(
        name: String,
        model: Box<dyn Recommend>,
        limits: Limits,
    ) -> Result<Self, StartError> {
        Self::new(name, Task::Recommend(model), "float32", "burn", limits)
    }

    /// A model that has computed something already.
    fn new(
        name: String,
        task: Task,
        dtype: &'static str,
        runs_on: &'static str,
        limits: Limits,
    ) -> Result<Self, StartError> {
        task.try_out(1, 1)?;
        let task = Arc::new(task);
        let bounds = Bounds {
            batch_tokens: limits.batch_tokens,
            waiting_tokens: limits.waiting_tokens,
        };
        let compute = {
            let task = task.clone();
            move |wanted, texts: &[&Encoding]| task.run(&wanted, texts).map_err(|e| e.to_string())
        };
        let queue = Queue::new(bounds, Arc::new(compute)).map_err(|source| StartError::Io {
            what: format!("a thread for model {name:?}"),
            source,
        })?;
        Ok(Self {
            name,
            task,
            queue,
            limits,
            tokenizers: Semaphore::new(limits.tokenizers.max(1)),
            cache: Cache::new(limits.cache_bytes),
            dtype,
            runs_on,
        })
    }

    /// Computes texts of each power of two of tokens, one and as many as a batch takes: a device for which kernels are compiled,
    /// and chosen by size, has those of most requests then, and no request waits for them.
    ///
    /// # Errors
    /// If it cannot.
    pub fn warm_up(&self) -> Result<(), StartError> {
        let (batch_tokens, max_len) = (self.limits.batch_tokens, self.task.max_len());
        let lens = (3..).map(|power| 1 << power);
        for len in lens.take_while(|&len| len < 2 * max_len) {
            let tokens = max_len.min(len);
            tracing::info!(model = self.name, tokens, "warming up");
            self.task.try_out(1, tokens)?;
            self.task.try_out((batch_tokens / tokens).max(1), tokens)?;
        }
        Ok(())
    }

    /// What clients call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its weights are kept.
    pub fn dtype(&self) -> &'static str {
        self.dtype
    }

    /// What runs it: `cpu`, the CPU engine, or `burn`.
    pub fn runs_on(&self) -> &'static str {
        self.runs_on
    }

    /// What it does.
    pub(crate) fn task(&self) -> &Task {
        &self.task
    }

    /// The encoder, of a model for embeddings.
    pub(crate) fn encoder(&self) -> Result<&TextEncoder, Fault> {
        match &*self.task {
            Task::Embed(encoder) | Task::Fill(_, encoder) => Ok(encoder),
            _ => Err(self.is_not("an embedding model")),
        }
    }

    /// The classifier, of a model that labels texts.
    pub(crate) fn classifier(&self) -> Result<&Classifier, Fault> {
        match &*self.task {
            Task::Label(classifier) => Ok(classifier),
            _ => Err(self.is_not("a classifier or re-ranker")),
        }
    }

    /// The labeller, of a model that labels texts by their windows or features.
    pub(crate) fn by_windows(&self) -> Option<&Labeller> {
        match &*self.task {
            Task::Windows(_, labeller) => Some(labeller),
            _ => None,
        }
    }

    /// The filler, of a model that fills masks.
    pub(crate) fn filler(&self) -> Result<&FillMask, Fault> {
        match &*self.task {
            Task::Fill(filler, _) | Task::Sparse(filler, _) => Ok(filler),
            _ => Err(self.is_not("one that fills masks")),
        }
    }

    /// The labeller, of a model that labels stretches of texts.
    pub(crate) fn labeller(&self) -> Result<&TokenClassifier, Fault> {
        match &*self.task {
            Task::Entities(labeller) => Ok(labeller),
            _ => Err(self.is_not("one that labels tokens")),
        }
    }

    /// The answerer, of a model that answers questions.
    pub(crate) fn answerer(&self) -> Result<&Answerer, Fault> {
        match &*self.task {
            Task::Answer(answerer) => Ok(answerer),
            _ => Err(self.is_not("one that answers questions")),
        }
    }

    /// The recommender, of a model of items.
    pub(crate) fn items(&self) -> Result<&dyn Recommend, Fault> {
        match &*self.task {
            Task::Recommend(recommender) => Ok(&**recommender),
            _ => Err(self.is_not("a recommender")),
        }
    }

    /// The tokenizer, of a model of texts.
    pub(crate) fn tokenizer(&self) -> Result<&Tokenizer, Fault> {
        self.task
            .tokenizer()
            .ok_or_else(|| self.is_not("a model of texts"))
    }

    fn is_not(&self, kind: &str) -> Fault {
        Fault::Backend(format!("model is not {kind}; ask {}", self.task.routes()))
    }

    /// What requests may ask of it.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The line before it.
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The moment by which a request wants its answer: `x-request-timeout` in milliseconds, at most the server's own.
    pub(crate) fn deadline(&self, headers: &HeaderMap) -> Result<Instant, Fault> {
        let own = self.limits.timeout;
        let Some(header) = headers.get("x-request-timeout") else {
            return Ok(Instant::now() + own);
        };
        let asked = header.to_str().ok().and_then(|text| text.parse().ok());
        let Some(asked) = asked else {
            return Err(Fault::Validation(format!(
                "header x-request-timeout: expected milliseconds, found {header:?}"
            )));
        };
        Ok(Instant::now() + own.min(Duration::from_millis(asked)))
    }

    /// Checks how many texts there are; `what` names the field.
    pub(crate) fn check_count(&self, what: &'static str, count: usize) -> Result<(), Fault> {
        let most = self.limits.client_batch_size;
        match count {
            0 => Err(Fault::Empty(what)),
            count if count > most => Err(Fault::Validation(format!(
                "batch size {count} > maximum allowed batch size {most}"
            ))),
            _ => Ok(()),
        }
    }

    /// Texts into tokens, on a thread that may be busy with it; adds the time and sizes to `times`.
    pub(crate) async fn tokenize(
        self: &Arc<Self>,
        items: Vec<Item>,
        taking: Taking,
        times: &mut Times,
    ) -> Result<Vec<Encoding>, Fault> {
        let start = Instant::now();
        let characters = |item: &Item| match item {
            Item::Text(text) => text.chars().count(),
            Item::Pair(first, second) => first.chars().count() + second.chars().count(),
            Item::Ids(_) => 0,
        };
        times.characters += items.iter().map(characters).sum::<usize>();
        let work = move |model: &Self| {
            let encode = |item| model.encode(item, &taking);
            items.into_iter().map(encode).collect::<Result<_, _>>()
        };
        let encodings: Vec<Encoding> = self.apart(work).await?;
        let tokens = encodings.iter().map(Encoding::len).sum();
        tokenized(start, encodings.len(), tokens, times);
        Ok(encodings)
    }

    /// Work with texts, on a thread that may be busy with it.
    pub(crate) async fn apart<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let _permit = self.tokenizers.acquire().await;
        let model = self.clone();
        tokio::task::spawn_blocking(move || work(&model))
            .await
            .map_err(|_| Fault::Tokenizer("it gave up on this text".to_owned()))?
    }

    /// As [`Self::tokenize`] of texts that `cut` cuts into windows.
    pub(crate) async fn windows(
        self: &Arc<Self>,
        cut: impl FnOnce(&Self) -> Result<Vec<Vec<Encoding>>, Fault> + Send + 'static,
        times: &mut Times,
    ) -> Result<Vec<Vec<Encoding>>, Fault> {
        let start = Instant::now();
        let windows = self.apart(cut).await?;
        let tokens = windows.iter().flatten().map(Encoding::len).sum::<usize>();
        let most = self.limits.waiting_tokens;
        if tokens > most {
            return Err(Fault::Validation(format!(
                "the request has {tokens} tokens, the server takes at most {most} at once; send less at once"
            )));
        }
        tokenized(start, windows.iter().map(Vec::len).sum(), tokens, times);
        Ok(windows)
    }

    /// What becomes of texts that are too long.
    pub(crate) fn long(&self, taking: &Taking) -> Long {
        let cuts = taking.truncate.unwrap_or(self.limits.auto_truncate);
        match (cuts, taking.truncation_direction) {
            (false, _) => Long::Error,
            (true, Side::Right) => Long::Truncate(Shorten::LongestFirst),
            (true, Side::Left) => Long::TruncateStart(Shorten::LongestFirst),
        }
    }

    fn encode(&self, item: Item, taking: &Taking) -> Result<Encoding, Fault> {
        let max_len = self.task.max_len();
        let long = self.long(taking);
        let cuts = long != Long::Error;
        let prompt = taking.prompt_name.as_deref();
        let encoding = match item {
            Item::Text(text) => {
                let encoded = self.task.encode(text.as_str().into(), prompt, long);
                encoded.map_err(of_text)?
            }
            Item::Pair(first, second) => {
                let pair = (first.as_str(), second.as_str());
                let encoded = self.task.encode(pair.into(), prompt, long);
                encoded.map_err(of_text)?
            }
            Item::Ids(mut ids) => {
                if prompt.is_some() {
                    return Err(Fault::Validation(
                        "`prompt_name` goes before texts, not before token ids".to_owned(),
                    ));
                }
                let tokenizer = self.tokenizer()?;
                let specials = tokenizer.specials(false).map_err(|e| of_text(e.into()))?;
                let room = max_len.saturating_sub(specials);
                if cuts && ids.len() > room {
                    match taking.truncation_direction {
                        Side::Right => ids.truncate(room),
                        Side::Left => drop(ids.drain(..ids.len() - room)),
                    }
                }
                let vocabulary = self.task.vocabulary();
                if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
                    return Err(Fault::Validation(format!(
                        "`inputs`: expected token ids below {vocabulary}, found {id}"
                    )));
                }
                let encoded = tokenizer.encode_ids(&ids, max_len);
                encoded.map_err(|e| of_text(e.into()))?
            }
        };
        if encoding.is_empty() {
            return Err(Fault::Validation(
                "`inputs`: expected texts with at least one token, found one without".to_owned(),
            ));
        }
        Ok(encoding)
    }

    /// The answers to texts, in order, kept ones first of all; adds the times to `times`.
    pub(crate) async fn run(
        &self,
        encodings: Vec<Encoding>,
        wanted: Wanted,
        deadline: Instant,
        times: &mut Times,
    ) -> Result<Vec<Answer>, Fault> {
        let Some(cache) = &self.cache else {
            return self.compute(encodings, wanted, deadline, times).await;
        };
        let found: Vec<_> = encodings
            .iter()
            .map(|text| cache.find(wanted.clone(), text))
            .collect();
        let texts = encodings.into_iter().zip(&found);
        let missing: Vec<_> = texts
            .filter(|(_, found)| found.is_err())
            .map(|(text, _)| text)
            .collect();
        watch::cache(&self.name, found.len() - missing.len(), missing.len());
        let computed = if missing.is_empty() {
            Vec::new()
        } else {
            self.compute(missing, wanted, deadline, times).await?
        };
        let mut computed = computed.into_iter();
        let answers = found.into_iter().map(|found| match found {
            Ok(values) => Answer {
                values,
                queued: Duration::ZERO,
                computed: Duration::ZERO,
            },
            Err(key) => {
                let answer = computed.next().expect("each text has an answer");
                watch::cached(&self.name, cache.keep(key, answer.values.clone()));
                answer
            }
        });
        Ok(answers.collect())
    }

    async fn compute(
        &self,
        encodings: Vec<Encoding>,
        wanted: Wanted,
        deadline: Instant,
        times: &mut Times,
    ) -> Result<Vec<Answer>, Fault> {
        let start = Instant::now();
        let places = self.queue.submit(encodings, wanted, deadline)?;
        let mut answers = Vec::with_capacity(places.len());
        for place in places {
            let answer = tokio::time::timeout_at(deadline.into(), place).await;
            let answer = answer.map_err(|_| Lost::Late)?;
            answers.push(answer.map_err(|_| Lost::Closed)??);
        }
        let most = |time: fn(&Answer) -> Duration| answers.iter().map(time).max();
        times.queue += most(|answer| answer.queued).unwrap_or_default();
        times.inference += most(|answer| answer.computed).unwrap_or_default();
        // Until its last text was done: texts of one request may be in several batches.
        if let Some(last) = answers.iter().max_by_key(|a| a.queued + a.computed) {
            let (taken, texts) = (start + last.queued, answers.len());
            for (name, start, end) in [
                ("queue", start, taken),
                ("batch", taken, taken + last.computed),
            ] {
                trace::note(Part {
                    name,
                    start,
                    end,
                    texts,
                });
            }
        }
        Ok(answers)
    }
}

/// Charges the request's key for the tokens of its texts, and tells the time and sizes since `start`.
fn tokenized(start: Instant, texts: usize, tokens: usize, times: &mut Times) {
    auth::charge(tokens);
    times.tokens += tokens;
    times.tokenization += start.elapsed();
    trace::note(Part {
        name: "tokenize",
        start,
        end: Instant::now(),
        texts,
    });
}

/// Why a text cannot be taken.
pub(crate) fn of_text(error: cloze_runtime::Error) -> Fault {
    match error {
        cloze_runtime::Error::Batch(message) | cloze_runtime::Error::Input(message) => {
            Fault::Validation(message)
        }
        cloze_runtime::Error::Text(cloze_data::Error::TooLong { tokens, max_len }) => {
            Fault::Validation(format!(
                "`inputs` must have at most {max_len} tokens, found {tokens}; shorten it or send \"truncate\": true"
            ))
        }
        other => Fault::Tokenizer(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use cloze_data::ItemVocabulary;

    use super::*;
    use crate::recommend::Choice;

    /// Notes how many histories it is asked for at once, and their length.
    struct Noting {
        asked: Arc<Mutex<Vec<(usize, usize)>>>,
        items: ItemVocabulary,
    }

    impl Recommend for Noting {
        fn vocabulary(&self) -> &ItemVocabulary {
            &self.items
        }

        fn max_len(&self) -> usize {
            50
        }

        fn excludes_seen(&self) -> bool {
            true
        }

        fn recommend(&self, histories: &[&[u32]], _: &Choice) -> Vec<Vec<(u32, f32)>> {
            let len = histories[0].len();
            assert!(histories.iter().all(|history| history.len() == len));
            self.asked.lock().unwrap().push((histories.len(), len));
            vec![Vec::new(); histories.len()]
        }
    }

    #[test]
    fn every_magnitude_of_length_and_number_is_warmed_up() {
        let asked = Arc::default();
        let model = Noting {
            asked: Arc::clone(&asked),
            items: ItemVocabulary::new(vec!["only".into()], vec![None], vec![1]),
        };
        let limits = Limits {
            batch_tokens: 40,
            ..Limits::default()
        };
        let model = Model::recommender("noting".into(), Box::new(model), limits).unwrap();
        assert_eq!(
            *asked.lock().unwrap(),
            [(1, 1)],
            "it is tried out as it is made"
        );
        model.warm_up().unwrap();
        let each = [8, 16, 32, 50].map(|len| [(1, len), ((40 / len).max(1), len)]);
        assert_eq!(asked.lock().unwrap()[1..], each.concat());
    }
}
