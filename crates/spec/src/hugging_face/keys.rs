//! JSON objects read key by key, with every fault noted and none fatal until the end.

use std::cell::RefCell;
use std::fmt::Display;
use std::fs::File;
use std::io::Read;
use std::ops::RangeInclusive;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::{POINTER, ScoreActivation, is_pointer};
use crate::encoder::Activation;
use crate::recipe::hint;
use crate::{Error, Faults};

/// Largest file of settings that is read.
const MAX_BYTES: u64 = 16 << 20;

/// Channels of a token, of a table or of a layer.
pub(super) const WIDTH: RangeInclusive<usize> = 1..=1 << 15;
/// Channels inside a feed-forward part.
pub(super) const FFN_WIDTH: RangeInclusive<usize> = 1..=1 << 18;
/// Attention heads.
pub(super) const HEADS: RangeInclusive<usize> = 1..=1 << 12;
/// Layers that run, and parts of them.
pub(super) const LAYERS: RangeInclusive<usize> = 1..=1 << 10;
/// Rows of a table of tokens, and labels.
pub(super) const ROWS: RangeInclusive<usize> = 1..=1 << 26;
/// Tokens of a sequence, and distances between them.
pub(super) const LENGTH: RangeInclusive<usize> = 1..=1 << 24;

/// Names of elementwise functions as the `transformers` package has them, in its `activations.ACT2CLS`.
const ACTIVATIONS: [(&str, Activation); 16] = [
    ("gelu", Activation::Gelu),
    ("gelu_python", Activation::Gelu),
    ("gelu_new", Activation::GeluTanh),
    ("gelu_fast", Activation::GeluTanh),
    ("gelu_accurate", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_python_tanh", Activation::GeluTanh),
    ("quick_gelu", Activation::QuickGelu),
    ("relu", Activation::Relu),
    ("silu", Activation::Silu),
    ("swish", Activation::Silu),
    ("tanh", Activation::Tanh),
    ("sigmoid", Activation::Sigmoid),
    ("linear", Activation::Identity),
    ("identity", Activation::Identity),
    ("none", Activation::Identity),
];

/// Modules of PyTorch, by the last part of their path.
const TORCH_ACTIVATIONS: [(&str, Activation); 6] = [
    ("Identity", Activation::Identity),
    ("Tanh", Activation::Tanh),
    ("Sigmoid", Activation::Sigmoid),
    ("ReLU", Activation::Relu),
    ("GELU", Activation::Gelu),
    ("SiLU", Activation::Silu),
];

/// What a file of settings holds, if there is such a file.
///
/// # Errors
/// If it cannot be read, or is no JSON of a sane size.
pub(super) fn read(path: &Path) -> Result<Option<Value>, Error> {
    let io = |source| Error::Io {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(io)?;
    let fail = |message| Error::Config {
        path: path.to_owned(),
        message,
    };
    if bytes.len() as u64 > MAX_BYTES {
        return Err(fail(format!(
            "expected at most {MAX_BYTES} bytes of settings, found more"
        )));
    }
    if is_pointer(&bytes) {
        return Err(fail(POINTER.to_owned()));
    }
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    match serde_json::from_slice(text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => Err(fail(format!("is no JSON: {error}"))),
    }
}

/// What a file of settings holds, which must be an object, if there is such a file.
///
/// # Errors
/// As [`read`], and if it is another kind of value.
pub(super) fn read_object(path: &Path) -> Result<Option<Map<String, Value>>, Error> {
    match read(path)? {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(other) => Err(Error::Config {
            path: path.to_owned(),
            message: format!("expected an object, found {}", shown(&other)),
        }),
    }
}

/// A value as it is quoted in a fault.
pub(super) fn shown(value: &impl Display) -> String {
    const MOST: usize = 80;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The largest whole number in a component's settings, but for seeds, which may be any.
fn largest(value: &Value) -> u64 {
    match value {
        Value::Number(number) => number.as_u64().unwrap_or(0),
        Value::Array(list) => list.iter().map(largest).max().unwrap_or(0),
        Value::Object(map) => {
            let others = map.iter().filter(|(key, _)| *key != "seed");
            others.map(|(_, value)| largest(value)).max().unwrap_or(0)
        }
        Value::Null | Value::Bool(_) | Value::String(_) => 0,
    }
}

/// One object; a key that is `null` counts as absent.
pub(super) struct Keys<'a> {
    /// File and keys that lead here, and what stands between them and a key, for faults.
    prefix: String,
    map: &'a Map<String, Value>,
    faults: &'a RefCell<Faults>,
}

impl<'a> Keys<'a> {
    pub(super) fn new(
        place: impl Display,
        map: &'a Map<String, Value>,
        faults: &'a RefCell<Faults>,
    ) -> Self {
        Self::under(format!("{place}: "), map, faults)
    }

    /// The same, keys being told of with `prefix` before them.
    pub(super) fn under(
        prefix: impl Into<String>,
        map: &'a Map<String, Value>,
        faults: &'a RefCell<Faults>,
    ) -> Self {
        Self {
            prefix: prefix.into(),
            map,
            faults,
        }
    }

    /// Notes a fault of a key.
    pub(super) fn fault(&self, key: &str, message: impl Display) {
        let fault = format!("{}{key}: {message}", self.prefix);
        self.faults.borrow_mut().extend([fault]);
    }

    fn unexpected(&self, key: &str, expected: impl Display, found: &Value) {
        self.fault(
            key,
            format_args!("expected {expected}, found {}", shown(found)),
        );
    }

    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub(super) fn is_null(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_null)
    }

    /// A whole number within bounds, if it is there.
    pub(super) fn optional_count(&self, key: &str, range: &RangeInclusive<usize>) -> Option<usize> {
        let found = self.get(key)?;
        let count = found.as_u64().and_then(|count| usize::try_from(count).ok());
        let count = count.filter(|count| range.contains(count));
        if count.is_none() {
            let (low, high) = (range.start(), range.end());
            self.unexpected(
                key,
                format_args!("a whole number from {low} to {high}"),
                found,
            );
        }
        Some(count.unwrap_or(*range.start()))
    }

    /// A whole number within bounds, which must be there.
    pub(super) fn count(&self, key: &str, range: &RangeInclusive<usize>) -> usize {
        self.optional_count(key, range).unwrap_or_else(|| {
            self.fault(key, "expected a whole number, found nothing");
            *range.start()
        })
    }

    /// A whole number, perhaps negative.
    pub(super) fn integer(&self, key: &str, default: i64) -> i64 {
        let Some(found) = self.get(key) else {
            return default;
        };
        let most = *LENGTH.end() as i64;
        let value = found.as_i64();
        value
            .filter(|value| (-most..=most).contains(value))
            .unwrap_or_else(|| {
                self.unexpected(key, "a whole number of a sane size", found);
                default
            })
    }

    /// A share that training drops, if it is there.
    pub(super) fn optional_share(&self, key: &str) -> Option<f32> {
        let found = self.get(key)?;
        let share = found.as_f64().filter(|share| (0.0..1.0).contains(share));
        if share.is_none() {
            self.unexpected(key, "a share from 0 up to, not including, 1", found);
        }
        Some(share.unwrap_or(0.0) as f32)
    }

    /// A component in the settings that recipes have for it, if it is there and `check`, told its path, finds no fault.
    pub(super) fn component<T: DeserializeOwned>(
        &self,
        key: &str,
        check: impl FnOnce(&T, &str, &mut Faults),
    ) -> Option<T> {
        let found = self.get(key)?;
        let (most, largest) = (*FFN_WIDTH.end() as u64, largest(found));
        if largest > most {
            self.fault(
                key,
                format_args!("expected whole numbers of at most {most}, found {largest}"),
            );
            return None;
        }
        match T::deserialize(found) {
            Ok(component) => {
                let mut faults = Faults::default();
                check(&component, &format!("{}{key}", self.prefix), &mut faults);
                let stands = faults == Faults::default();
                self.faults.borrow_mut().append(faults);
                stands.then_some(component)
            }
            Err(error) => {
                let message = error.to_string();
                let hint = hint(&message);
                self.fault(key, format_args!("{message}{hint}"));
                None
            }
        }
    }

    /// A finite number above 0, if it is there.
    pub(super) fn optional_positive(&self, key: &str) -> Option<f32> {
        let found = self.get(key)?;
        let value = found.as_f64().map(|value| value as f32);
        let value = value.filter(|value| *value > 0.0 && value.is_finite());
        if value.is_none() {
            self.unexpected(key, "a number above 0", found);
        }
        Some(value.unwrap_or(1.0))
    }

    pub(super) fn positive(&self, key: &str, default: f32) -> f32 {
        self.optional_positive(key).unwrap_or(default)
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        let Some(found) = self.get(key) else {
            return default;
        };
        found.as_bool().unwrap_or_else(|| {
            self.unexpected(key, "true or false", found);
            default
        })
    }

    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        let found = self.get(key)?;
        if !found.is_string() {
            self.unexpected(key, "a text", found);
        }
        found.as_str()
    }

    pub(super) fn list(&self, key: &str) -> Option<&'a [Value]> {
        let found = self.get(key)?;
        if !found.is_array() {
            self.unexpected(key, "a list", found);
        }
        found.as_array().map(Vec::as_slice)
    }

    /// The object under a key.
    pub(super) fn object(&self, key: &str) -> Option<Keys<'a>> {
        let found = self.get(key)?;
        if !found.is_object() {
            self.unexpected(key, "an object", found);
        }
        let map = found.as_object()?;
        Some(Self::new(format!("{}{key}", self.prefix), map, self.faults))
    }

    /// Keys and values, in the order of the keys.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.map.iter()
    }

    /// One of the elementwise functions that `transformers` names.
    pub(super) fn activation(&self, key: &str, default: Activation) -> Activation {
        let named = self.text(key);
        self.named(key, named, &ACTIVATIONS).unwrap_or(default)
    }

    /// A module of `PyTorch` that turns outputs into scores.
    pub(super) fn score_activation(&self, key: &str) -> Option<ScoreActivation> {
        let path = self.text(key)?;
        if path.trim_end_matches("()").ends_with(".Softmax") {
            return Some(ScoreActivation::Softmax);
        }
        self.torch_activation(key).map(ScoreActivation::Each)
    }

    /// A module of `PyTorch`, as `torch.nn.modules.activation.Tanh` or `Tanh`.
    pub(super) fn torch_activation(&self, key: &str) -> Option<Activation> {
        let path = self.text(key)?;
        let class = path.trim_end_matches("()");
        let class = class.rsplit('.').next().unwrap_or(class);
        self.named(key, Some(class), &TORCH_ACTIVATIONS)
    }

    /// The value of a key that must be one of a few names.
    pub(super) fn one_of<T: Copy>(&self, key: &str, names: &[(&str, T)]) -> Option<T> {
        self.named(key, self.text(key), names)
    }

    fn named<T: Copy>(&self, key: &str, name: Option<&str>, names: &[(&str, T)]) -> Option<T> {
        let name = name?;
        let found = names.iter().find(|(known, _)| *known == name);
        if found.is_none() {
            let known: Vec<_> = names.iter().map(|(known, _)| *known).collect();
            let found = shown(&format_args!("{name:?}"));
            self.fault(
                key,
                format_args!("expected one of {}, found {found}", known.join(", ")),
            );
        }
        found.map(|(_, value)| *value)
    }

    /// Notes a fault if a key has a value that asks for something this project does not do.
    pub(super) fn unsupported(&self, key: &str, is_supported: impl Fn(&Value) -> bool) {
        if let Some(found) = self.get(key).filter(|value| !is_supported(value)) {
            self.fault(key, format_args!("{} is not supported", shown(found)));
        }
    }
}
