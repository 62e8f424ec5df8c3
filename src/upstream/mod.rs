pub struct Upstream;
pub struct RequestBody;
pub struct ResponseBody;
use crate::error::*;
use std::sync::Arc;
impl Upstream {
    pub fn new(_: &crate::config::settings::Upstream, _: usize) -> Result<Arc<Self>> {
        todo!()
    }
    pub async fn send(
        self: &Arc<Self>,
        _: usize,
        _: http::Request<RequestBody>,
    ) -> Result<http::Response<ResponseBody>> {
        todo!()
    }
    pub async fn probe(&self) -> Result<()> {
        todo!()
    }
}
impl RequestBody {
    pub fn new(_: hyper::body::Incoming, _: Arc<crate::http::headers::Managed>) -> Self {
        Self
    }
}
impl http_body::Body for ResponseBody {
    type Data = bytes::Bytes;
    type Error = hyper::Error;
    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<std::result::Result<http_body::Frame<bytes::Bytes>, hyper::Error>>> {
        todo!()
    }
}
pub mod tunnel {
    pub async fn run(
        _: hyper::upgrade::OnUpgrade,
        _: hyper::upgrade::OnUpgrade,
        _: impl Future<Output = ()>,
    ) -> (u64, u64) {
        todo!()
    }
}
