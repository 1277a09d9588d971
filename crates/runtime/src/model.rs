//! A model folder, ready to run.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cloze_data::text::{Encoding, Input, Limit, Long, Part, Prompt, Shorten, Tokenizer};
use cloze_kernels::Isa;
use cloze_kernels::op::encode::pool::{self, Pool, normalize};
use cloze_kernels::op::packed::{PackedLinear, Residual, Storage};
use cloze_spec::encoder::Task;
use cloze_spec::hugging_face::{Folder, Resolved, Source};
use cloze_spec::inventory::Parameter;
use cloze_spec::sentence::{Dense, Embedder, Module, Pooling, PoolingMode};
use cloze_spec::{Encoder, Faults};

use crate::cpu::{CpuEngine, Options, Parameters, activation_of};
use crate::weights::{Table, Weights};
use crate::{Batch, Engine, Error, Rows};

/// Starts an engine of what a checkpoint holds.
pub type Start = fn(&Checkpoint) -> Result<Arc<dyn Engine>, Error>;

/// A folder's encoder and the values of its parameters, for any engine.
pub struct Checkpoint {
    /// What the folder's files say.
    pub folder: Folder,
    /// What is computed.
    pub encoder: Encoder,
    weights: Weights,
    shapes: BTreeMap<String, Vec<usize>>,
    sources: Vec<Source>,
}

impl Checkpoint {
    /// Opens a folder; values are read when they are asked for.
    ///
    /// # Errors
    /// If the folder lacks a file, its settings are not understood, or its weights are not those that the settings need.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let folder = Folder::read(path)?;
        let weights = Weights::open(&folder.weights)?;
        let shapes = weights.shapes();
        let Resolved {
            encoder,
            parameters,
        } = folder.resolve(&shapes)?;
        Ok(Self {
            folder,
            encoder,
            weights,
            shapes,
            sources: parameters,
        })
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Bytes of the values in the weights' files, by their type.
    pub fn stored(&self) -> BTreeMap<String, usize> {
        self.weights.kinds()
    }

    /// The encoder on the CPU engine, and what the folder says.
    ///
    /// # Errors
    /// As [`CpuEngine::new`].
    pub fn into_engine(self, options: Options) -> Result<(Folder, CpuEngine), Error> {
        let engine = CpuEngine::new(self.encoder.clone(), options, &self)?;
        Ok((self.folder, engine))
    }

    /// The encoder on the engine that `options` name, or else the one that runs it, and what the folder says.
    ///
    /// # Errors
    /// As [`CpuEngine::new`] or the other engine, and if weights are to be kept otherwise than an engine that is not the CPU's
    /// keeps them.
    pub fn start(self, options: Options) -> Result<(Folder, Arc<dyn Engine>), Error> {
        let Some(start) = options.start(&self.encoder) else {
            let (folder, engine) = self.into_engine(options)?;
            return Ok((folder, Arc::new(engine)));
        };
        if options.storage != Storage::F32 {
            return Err(Error::Input(format!(
                "{}: expected weights as f32, in which Burn runs this encoder, found another type",
                self.folder.path.display()
            )));
        }
        let engine = start(&self)?;
        Ok((self.folder, engine))
    }

    /// The values of one of the encoder's parameters into `out`.
    ///
    /// # Errors
    /// If they are not floats.
    ///
    /// # Panics
    /// If it is none of the encoder's, or `out` has another length.
    pub fn read(&self, wanted: &Parameter, out: &mut [f32]) -> Result<(), Error> {
        let mut rest = out;
        for piece in &self.source(wanted).pieces {
            let row: usize = self.shapes[&piece.tensor].iter().skip(1).product();
            let (here, after) = rest.split_at_mut(piece.rows.len() * row);
            self.weights.read(&piece.tensor, piece.rows.clone(), here)?;
            rest = after;
        }
        assert!(rest.is_empty(), "{}: its pieces fill it", wanted.name);
        Ok(())
    }

    /// How the labels of words follow each other, where the folder says so: `[C + 1, C + 1]`, as of
    /// [`Chain`](cloze_data::text::Chain).
    ///
    /// # Errors
    /// If the file cannot be read, or has other tensors than the labels need.
    pub fn transitions(&self) -> Result<Option<Vec<f32>>, Error> {
        let task = self.encoder.head.as_ref().map(|head| &head.task);
        let (Some(path), Some(Task::Token { labels })) = (&self.folder.transitions, task) else {
            return Ok(None);
        };
        let weights = Weights::open(std::slice::from_ref(path))?;
        let side = labels.len() + 1;
        let (expected, found) = (vec![side, side], weights.shapes());
        let fail = |message| Error::Weights {
            path: path.clone(),
            message,
        };
        if found != [("transitions".to_owned(), expected.clone())].into() {
            return Err(fail(format!(
                "expected one tensor \"transitions\" of shape {expected:?}, as the folder has {} labels, found {found:?}",
                labels.len()
            )));
        }
        let mut learned = vec![0.0; side * side];
        weights.read("transitions", 0..side, &mut learned)?;
        if !learned.iter().all(|score| score.is_finite()) {
            return Err(fail(
                "expected numbers, found some that are none".to_owned(),
            ));
        }
        Ok(Some(learned))
    }

    fn source(&self, wanted: &Parameter) -> &Source {
        let mut sources = self.sources.iter();
        let source = sources.find(|source| source.parameter == *wanted);
        source.unwrap_or_else(|| panic!("{} is a parameter", wanted.name))
    }
}

impl Parameters for Checkpoint {
    fn read(&self, parameter: &Parameter, out: &mut [f32]) -> Result<(), Error> {
        self.read(parameter, out)
    }

    fn table(&self, parameter: &Parameter) -> Option<Table> {
        match &self.source(parameter).pieces[..] {
            [piece] => self.weights.table(&piece.tensor, piece.rows.clone()),
            _ => None,
        }
    }
}

/// Opens the encoder of a folder on the CPU engine, and tells what the folder says.
///
/// # Errors
/// As [`Checkpoint::open`] and [`CpuEngine::new`].
pub fn open(path: &Path, options: Options) -> Result<(Folder, CpuEngine), Error> {
    Checkpoint::open(path)?.into_engine(options)
}

/// A folder's tokenizer and encoder: texts up to token vectors. Copies share both.
#[derive(Clone)]
pub struct TextModel {
    tokenizer: Tokenizer,
    engine: Arc<dyn Engine>,
    max_len: usize,
    isa: Isa,
}

impl TextModel {
    /// Puts a folder's encoder behind its tokenizer, and tells what the folder says.
    ///
    /// # Errors
    /// As [`CpuEngine::new`] or the other engine that `options` name, and if there is no tokenizer.
    pub fn new(checkpoint: Checkpoint, options: Options) -> Result<(Folder, Self), Error> {
        let folder = &checkpoint.folder;
        let home = folder.tokenizer.first().and_then(|file| file.parent());
        let tokenizer = Tokenizer::open(home.unwrap_or(&folder.path))?;
        let (folder, engine) = checkpoint.start(options)?;
        let limits = [folder.tokenizer_max_len, tokenizer.max_len()];
        let longest = engine.encoder().max_len;
        let model = Self {
            max_len: limits.into_iter().flatten().fold(longest, usize::min),
            isa: options.isa.unwrap_or_else(Isa::detect),
            tokenizer,
            engine,
        };
        Ok((folder, model))
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// What runs.
    pub fn engine(&self) -> &dyn Engine {
        &*self.engine
    }

    /// Longest input in tokens, special ones included.
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// The instruction set.
    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    /// The tokens of a text or pair, in as many windows as `long` makes of it, as [`Tokenizer::windows`] has them.
    ///
    /// # Errors
    /// If it is too long and may not be cut, or the tokenizer cannot take it.
    pub fn windows(&self, input: Input<'_>, long: Long) -> Result<Vec<Encoding>, Error> {
        let max_len = self.max_len;
        Ok(self.tokenizer.windows(input, Limit { max_len, long })?)
    }

    /// Tokenised texts as a batch, with segments if the encoder has them.
    pub fn batch(&self, texts: &[&Encoding]) -> Batch {
        let has_segments = self.engine.encoder().embed.segments.is_some();
        let mut batch = Batch::new();
        for text in texts {
            let segments: &[u32] = if has_segments { &text.segments } else { &[] };
            batch.push(&text.ids, segments);
        }
        batch
    }
}

/// Makes embeddings of texts: tokenizer, encoder, and what a sentence-transformers folder puts behind it.
pub struct TextEncoder {
    model: TextModel,
    embedder: Embedder,
    dense: Vec<PackedLinear>,
}

impl TextEncoder {
    /// Opens a folder; one without settings for embeddings takes the mean of the token vectors.
    ///
    /// # Errors
    /// As [`open`], and if there is no tokenizer or the folder is made for sparse vectors.
    pub fn open(path: &Path, options: Options) -> Result<Self, Error> {
        let (folder, mut model) = TextModel::new(Checkpoint::open(path)?, options)?;
        if folder.is_sparse {
            return Err(Error::Input(format!(
                "{}: expected a model whose embeddings are dense, found one of sparse vectors; serve answers them at /embed_sparse",
                path.display()
            )));
        }
        let Some(embedder) = folder.embedder else {
            return Ok(Self::mean_of(model));
        };
        let isa = model.isa;
        let dense = embedder.modules.iter().filter_map(|module| match module {
            Module::Dense(dense) => Some(read_dense(isa, path, dense)),
            Module::Pooling(_) | Module::Normalize => None,
        });
        let dense = dense.collect::<Result<_, _>>()?;
        model.tokenizer = model.tokenizer.with_strip(true);
        if embedder.lowercase {
            model.tokenizer = model.tokenizer.with_lowercase(true);
        }
        model.max_len = embedder.max_len.unwrap_or(usize::MAX).min(model.max_len);
        Ok(Self {
            model,
            embedder,
            dense,
        })
    }

    /// Takes the mean of a model's token vectors.
    pub fn mean_of(mut model: TextModel) -> Self {
        model.tokenizer = model.tokenizer.with_strip(true);
        let mean = Pooling {
            modes: vec![PoolingMode::Mean],
            include_prompt: true,
        };
        Self {
            model,
            embedder: Embedder {
                modules: vec![Module::Pooling(mean)],
                ..Embedder::default()
            },
            dense: Vec::new(),
        }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.model.tokenizer
    }

    /// What runs.
    pub fn engine(&self) -> &dyn Engine {
        &*self.model.engine
    }

    /// What follows the encoder.
    pub fn embedder(&self) -> &Embedder {
        &self.embedder
    }

    /// Longest input in tokens, special ones included.
    pub fn max_len(&self) -> usize {
        self.model.max_len
    }

    /// Dimensions of an embedding.
    pub fn dimensions(&self) -> usize {
        let all = self.all_dimensions();
        self.embedder.truncate_dim.map_or(all, |kept| kept.min(all))
    }

    /// Dimensions before the folder's `truncate_dim`.
    fn all_dimensions(&self) -> usize {
        let mut width = self.engine().encoder().width;
        for module in &self.embedder.modules {
            match module {
                Module::Pooling(pooling) => width *= pooling.modes.len(),
                Module::Dense(dense) => width = dense.outputs,
                Module::Normalize => {}
            }
        }
        width
    }

    /// A text's tokens, after the prompt of that name, or the folder's default one; cut to what the model takes.
    ///
    /// # Errors
    /// If there is no such prompt, or the tokenizer cannot take the text.
    pub fn encode(&self, text: &str, prompt: Option<&str>) -> Result<Encoding, Error> {
        let long = Long::Truncate(Shorten::LongestFirst);
        let windows = self.windows(text, prompt, long)?;
        Ok(windows.into_iter().next().expect("a text has a window"))
    }

    /// A text's tokens in as many windows as `long` makes of it.
    ///
    /// # Errors
    /// As [`Self::encode`], and if the text is too long and may not be cut.
    pub fn windows(
        &self,
        text: &str,
        prompt: Option<&str>,
        long: Long,
    ) -> Result<Vec<Encoding>, Error> {
        let prompt = self.prompt(prompt)?;
        self.cut(text, prompt.as_ref(), self.model.max_len, long)
    }

    /// A text's tokens in windows of at most `size` of them, special ones and the prompt's not counted; of as many as fit
    /// if none. Windows begin and end between words, each up to `overlap` tokens before the end of the one before.
    ///
    /// # Errors
    /// As [`Self::encode`], and if windows of that size do not fit, or are not larger than the overlap.
    pub fn chunks(
        &self,
        text: &str,
        prompt: Option<&str>,
        size: Option<usize>,
        overlap: usize,
    ) -> Result<Vec<Encoding>, Error> {
        let prompt = self.prompt(prompt)?;
        let around =
            self.model.tokenizer.specials(false)? + prompt.as_ref().map_or(0, Prompt::tokens);
        let max_len = size.map_or(self.model.max_len, |size| size.saturating_add(around));
        if max_len > self.model.max_len {
            return Err(Error::Batch(format!(
                "expected chunks of at most {} tokens (the model takes {}, {around} of them for special tokens and prompt), \
                 found {}",
                self.model.max_len.saturating_sub(around),
                self.model.max_len,
                max_len - around
            )));
        }
        let long = Long::Chunk {
            overlap,
            whole_words: true,
        };
        self.cut(text, prompt.as_ref(), max_len, long)
    }

    fn cut(
        &self,
        text: &str,
        prompt: Option<&Prompt>,
        max_len: usize,
        long: Long,
    ) -> Result<Vec<Encoding>, Error> {
        let input = Input {
            prompt,
            first: text,
            second: None,
        };
        Ok(self
            .model
            .tokenizer
            .encode(input, Limit { max_len, long })?)
    }

    fn prompt(&self, name: Option<&str>) -> Result<Option<Prompt>, Error> {
        let Some(name) = name.or(self.embedder.default_prompt.as_deref()) else {
            return Ok(None);
        };
        let known = &self.embedder.prompts;
        let Some(text) = known.get(name) else {
            let known: Vec<_> = known.keys().map(String::as_str).collect();
            return Err(Error::Batch(format!(
                "expected a prompt that the model has ({}), found {name:?}",
                known.join(", ")
            )));
        };
        Ok(Some(self.model.tokenizer.prompt(text)?))
    }

    /// The embeddings of tokenised texts, one after the other: `[B, E]`.
    ///
    /// # Errors
    /// If a text is longer than the model takes.
    pub fn embed(&self, texts: &[&Encoding]) -> Result<Vec<f32>, Error> {
        Ok(self.finish(self.pooled(texts)?))
    }

    /// As [`Self::embed`], before the normalisation that [`Self::normalizes`] tells of, and with all dimensions.
    ///
    /// # Errors
    /// If a text is longer than the model takes.
    pub fn pooled(&self, texts: &[&Encoding]) -> Result<Vec<f32>, Error> {
        let batch = self.model.batch(texts);
        let firsts = &batch.offsets[..batch.len()];
        let mut vectors = Vec::new();
        if self.pooling().modes == [PoolingMode::First] {
            self.engine()
                .run(&batch, Rows::Some(firsts), &mut vectors)?;
        } else {
            self.engine().run(&batch, Rows::All, &mut vectors)?;
            let skip: Vec<u32> = if self.pooling().include_prompt {
                Vec::new()
            } else {
                texts.iter().map(|text| text.prompt as u32).collect()
            };
            vectors = self.pool(&batch.offsets, &skip, &vectors);
        }
        Ok(self.transformed(vectors))
    }

    /// Whether the last thing that is done to an embedding, but for leaving out dimensions, is to normalise it.
    pub fn normalizes(&self) -> bool {
        self.embedder.modules.last() == Some(&Module::Normalize)
    }

    /// Divides each vector by its Euclidean norm, as [`Self::embed`] does.
    ///
    /// # Panics
    /// If there are no whole vectors of `width`.
    pub fn normalize(&self, width: usize, vectors: &mut [f32]) {
        normalize(self.model.isa, width, vectors);
    }

    /// The vectors of every token of tokenised texts, one after the other: `[N, D]`.
    ///
    /// # Errors
    /// If a text is longer than the model takes.
    pub fn token_vectors(&self, texts: &[&Encoding]) -> Result<Vec<f32>, Error> {
        let batch = self.model.batch(texts);
        let mut vectors = Vec::new();
        self.engine().run(&batch, Rows::All, &mut vectors)?;
        Ok(vectors)
    }

    /// The embeddings of parts of texts, as [`Encoding::parts`] gives them, one after the other: each text is run once, so
    /// that a part knows its surroundings, and the token vectors of each part are pooled. A part without tokens, as an empty
    /// text has it, is pooled over the special ones.
    ///
    /// # Errors
    /// As [`Self::embed`], and if this is no model for it, see [`Self::check_parts`].
    /// # Source
    /// Günther et al., Late Chunking, arXiv:2409.04701.
    pub fn embed_parts(&self, texts: &[(&Encoding, &[Part])]) -> Result<Vec<f32>, Error> {
        self.check_parts()?;
        let encodings: Vec<&Encoding> = texts.iter().map(|(text, _)| *text).collect();
        let vectors = self.token_vectors(&encodings)?;
        let width = self.engine().encoder().width;
        let mut rest = vectors.as_slice();
        let each = texts.iter().flat_map(|(text, parts)| {
            let (here, after) = rest.split_at(text.len() * width);
            rest = after;
            self.pool_parts(parts, here)
        });
        Ok(each.collect())
    }

    /// The embeddings of parts of a text from the vectors of its tokens, as [`Self::token_vectors`] gives them.
    ///
    /// # Shapes
    /// `vectors: [N, D]` → `[parts, E]`
    pub fn pool_parts(&self, parts: &[Part], vectors: &[f32]) -> Vec<f32> {
        let width = self.engine().encoder().width;
        let (mut gathered, mut offsets) = (Vec::new(), vec![0]);
        for part in parts {
            let tokens = if part.tokens.is_empty() {
                0..vectors.len() / width
            } else {
                part.tokens.clone()
            };
            gathered.extend_from_slice(&vectors[tokens.start * width..tokens.end * width]);
            offsets.push((gathered.len() / width) as u32);
        }
        self.finish(self.transformed(self.pool(&offsets, &[], &gathered)))
    }

    /// Whether parts of a text can be pooled by themselves: where a text's embedding is the mean of its token vectors.
    ///
    /// # Errors
    /// If it is something else, which one token or the whole text decides.
    pub fn check_parts(&self) -> Result<(), Error> {
        let modes = &self.pooling().modes;
        if *modes == [PoolingMode::Mean] {
            return Ok(());
        }
        Err(Error::Batch(format!(
            "parts of a text can be embedded in one pass where token vectors are pooled by their mean, this model takes \
             {modes:?}; embed chunks one by one"
        )))
    }

    /// One embedding for a text of those of its chunks, `vectors: [chunks, E]`, each weighing as many tokens as it has; of
    /// length 1 where the model's are. That of a single chunk is left as it is.
    pub fn mean(&self, vectors: &[f32], tokens: &[usize]) -> Vec<f32> {
        let width = self.dimensions();
        if tokens.len() == 1 {
            return vectors.to_vec();
        }
        let total: usize = tokens.iter().sum();
        let mut mean = vec![0.0; width];
        for (vector, &tokens) in vectors.chunks_exact(width).zip(tokens) {
            let share = tokens as f32 / total as f32;
            for (sum, value) in mean.iter_mut().zip(vector) {
                *sum += share * value;
            }
        }
        if self.normalizes() && self.embedder.truncate_dim.is_none() {
            normalize(self.model.isa, width, &mut mean);
        }
        mean
    }

    fn pooling(&self) -> &Pooling {
        match self.embedder.modules.first() {
            Some(Module::Pooling(pooling)) => pooling,
            other => unreachable!("the first step is a pooling, not {other:?}"),
        }
    }

    /// What follows the pooling, but for a normalisation at the end.
    fn transformed(&self, mut vectors: Vec<f32>) -> Vec<f32> {
        let mut width = self.engine().encoder().width * self.pooling().modes.len();
        let modules = &self.embedder.modules;
        let modules = &modules[..modules.len() - usize::from(self.normalizes())];
        let mut dense = self.dense.iter();
        for module in modules {
            match module {
                Module::Pooling(_) => {}
                Module::Dense(settings) => {
                    let map = dense.next().expect("opened with the folder");
                    let mut out = vec![0.0; vectors.len() / width * map.outputs()];
                    let residual = if settings.residual {
                        Residual::Add(&vectors)
                    } else {
                        Residual::None
                    };
                    map.forward(&vectors, residual, &mut out);
                    (vectors, width) = (out, settings.outputs);
                }
                Module::Normalize => normalize(self.model.isa, width, &mut vectors),
            }
        }
        vectors
    }

    /// That normalisation, and fewer dimensions where the folder wants fewer.
    fn finish(&self, mut vectors: Vec<f32>) -> Vec<f32> {
        let width = self.all_dimensions();
        if self.normalizes() {
            normalize(self.model.isa, width, &mut vectors);
        }
        let kept = self.dimensions();
        if kept < width {
            let rows = vectors.chunks_exact(width);
            vectors = rows.flat_map(|row| &row[..kept]).copied().collect();
        }
        vectors
    }

    /// Token vectors into one for each sequence.
    fn pool(&self, offsets: &[u32], skip: &[u32], vectors: &[f32]) -> Vec<f32> {
        let width = self.engine().encoder().width;
        let modes = &self.pooling().modes;
        let stride = width * modes.len();
        let mut out = vec![0.0; (offsets.len() - 1) * stride];
        for (index, mode) in modes.iter().enumerate() {
            let how = match mode {
                PoolingMode::First => Pool::First,
                PoolingMode::Max => Pool::Max,
                PoolingMode::Mean => Pool::Mean,
                PoolingMode::MeanSqrtLen => Pool::MeanSqrtLen,
                PoolingMode::WeightedMean => Pool::WeightedMean,
                PoolingMode::Last => Pool::Last,
            };
            let column = index * width;
            pool::pool(
                self.model.isa,
                how,
                width,
                vectors,
                offsets,
                skip,
                &mut out,
                stride,
                column,
            );
        }
        out
    }
}

fn read_dense(isa: Isa, home: &Path, dense: &Dense) -> Result<PackedLinear, Error> {
    let folder = home.join(&dense.folder);
    let files = ["model.safetensors", "pytorch_model.bin"].map(|name| folder.join(name));
    let Some(file) = files.iter().find(|file| file.is_file()) else {
        return Err(Error::Weights {
            path: folder,
            message: "expected model.safetensors or pytorch_model.bin, found neither".to_owned(),
        });
    };
    let weights = Weights::open(std::slice::from_ref(file))?;
    let shapes = weights.shapes();
    let mut wanted = vec![("linear.weight", vec![dense.outputs, dense.inputs])];
    if dense.bias {
        wanted.push(("linear.bias", vec![dense.outputs]));
    }
    let mut faults = Faults::default();
    for (name, shape) in &wanted {
        let found = shapes.get(*name);
        faults.check(found == Some(shape), &format!("tensor {name:?}"), || {
            let found = found.map_or("nothing".to_owned(), |found| format!("{found:?}"));
            format!("expected {shape:?}, found {found}")
        });
    }
    for (name, shape) in &shapes {
        let is_wanted = wanted.iter().any(|(wanted, _)| wanted == name);
        faults.check(is_wanted, &format!("tensor {name:?}"), || {
            format!("not expected, found {shape:?}")
        });
    }
    faults.into_result(&file.display().to_string())?;
    let read = |(name, shape): (&str, Vec<usize>)| {
        let mut values = vec![0.0; shape.iter().product()];
        weights.read(name, 0..shape[0], &mut values)?;
        Ok::<_, Error>(values)
    };
    let mut values = wanted.into_iter().map(read);
    let weight = values.next().expect("it is the first wanted")?;
    let bias = values.next().transpose()?;
    let activation = activation_of(dense.activation);
    let (inputs, storage) = (dense.inputs, Storage::F32);
    Ok(PackedLinear::new(
        isa,
        inputs,
        &weight,
        bias.as_deref(),
        activation,
        false,
        storage,
    ))
}
