//! HTTP as bytes and names: origins, canonical targets, header hygiene, cookies, forwarded trust, our own replies.
//! Nothing here knows a session, a provider or a policy.

pub mod cookie;
pub mod origin;
pub mod reply;
