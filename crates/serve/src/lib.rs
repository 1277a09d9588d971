//! An HTTP server for pretrained encoders: what comes in is checked, queued, batched by tokens and answered.
//!
//! ```text
//! connection → limits, keys → route → tokenizer → Queue (admission, fair order) → batch → encoder → answer
//! ```
//! Routes answer in the shapes of text-embeddings-inference, of the OpenAI embeddings API and of Cohere's and Jina's rerankers. Start at [`Server`]; then
//! [`queue`], where requests meet. The crate reads no environment and installs no logger or recorder: the program does.

mod auth;
mod cache;
mod error;
mod input;
mod model;
pub mod queue;
mod recommend;
mod registry;
mod route;
mod server;
mod task;
mod tls;
pub mod trace;
mod watch;

pub use auth::{Key, Keys};
pub use error::{Fault, StartError};
pub use model::{Limits, Model};
pub use recommend::{Choice, Recommend};
pub use registry::{Admin, Open};
pub use server::{Listener, Server, Settings};
pub use tls::Tls;
