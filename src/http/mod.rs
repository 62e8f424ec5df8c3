//! HTTP as bytes and names: origins, canonical targets, header hygiene, cookies, forwarded trust, our own replies.
//! Nothing here knows a session, a provider or a policy.

pub mod agent;
pub mod cookie;
pub mod forwarded;
pub mod headers;
pub mod origin;
pub mod parameter;
pub mod refusal;
pub mod reply;
pub mod uri;
pub mod websocket;
