//! What a model is, on paper and on disk.
//!
//! A [`Recipe`] is a TOML file that names the data, the [`Model`] and the stages that train it; the
//! [`inventory`] lists the parameters a model has, by name and shape; [`folder`] keeps both with the weights in
//! one directory. This room computes nothing and never touches a tensor: start at [`Recipe::parse`].

pub mod batch;
pub mod block;
pub mod codebook;
pub mod data;
pub mod embed;
pub mod encoder;
mod error;
pub mod ffn;
pub mod folder;
pub mod head;
pub mod hugging_face;
pub mod init;
pub mod inventory;
pub mod mixer;
pub mod model;
pub mod norm;
pub mod objective;
pub mod optim;
pub mod recipe;
pub mod schedule;
pub mod sentence;
pub mod stage;
pub mod text;

pub use encoder::Encoder;
pub use error::{Error, Faults};
pub use model::Model;
pub use recipe::Recipe;
pub use text::TextRecipe;
