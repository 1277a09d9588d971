//! Model folders of other tools: what their files say, as this project's settings.
