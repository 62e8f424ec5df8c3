//! Where sessions live when they do not live in the browser: the memory store. (The cookie store needs no room of its
//! own: there the sealed cookie is the store.) Nothing here knows what a session is.

pub mod memory;
