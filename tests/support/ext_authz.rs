//! Envoy's side of `envoy.service.auth.v3.Authorization/Check`.

use doorward::gateway::ext_authz::proto::{
    Address, AttributeContext, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption,
    HttpRequest, HttpResponse, OkHttpResponse, Peer, Request, SocketAddress,
};
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

pub(crate) const CHECK: &str = "/envoy.service.auth.v3.Authorization/Check";

/// Who is connected to the Envoy that asks.
pub(crate) const CLIENT: &str = "203.0.113.7";

/// A question about `GET path` at `host`.
pub(crate) fn question(host: &str, path: &str, headers: &[(&str, &str)]) -> CheckRequest {
    let headers = headers.iter().map(|(name, value)| HeaderValue::new(*name, *value));
    let http = HttpRequest {
        method: "GET".into(),
        path: path.into(),
        host: host.into(),
        scheme: "http".into(),
        headers: headers.collect(),
        ..HttpRequest::default()
    };
    about(Some(http))
}

pub(crate) fn about(http: Option<HttpRequest>) -> CheckRequest {
    let address = Address { socket_address: Some(SocketAddress { address: CLIENT.into() }) };
    let source = Some(Peer { address: Some(address) });
    CheckRequest { attributes: Some(AttributeContext { source, request: Some(Request { http }) }) }
}

/// The HTTP request in a question.
pub(crate) fn http(question: &mut CheckRequest) -> &mut HttpRequest {
    question.attributes.as_mut().unwrap().request.as_mut().unwrap().http.as_mut().unwrap()
}

pub(crate) struct Envoy {
    runtime: Runtime,
    channel: Channel,
}

impl Envoy {
    pub(crate) fn new(port: u16) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let guard = runtime.enter();
        let channel = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap().connect_lazy();
        drop(guard);
        Self { runtime, channel }
    }

    pub(crate) fn call(&self, method: &str, question: CheckRequest) -> Result<CheckResponse, Status> {
        let mut client = Grpc::new(self.channel.clone());
        let codec = ProstCodec::<CheckRequest, CheckResponse>::default();
        self.runtime.block_on(async {
            client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            client
                .unary(tonic::Request::new(question), method.parse().unwrap(), codec)
                .await
                .map(|said| said.into_inner())
        })
    }

    pub(crate) fn check(&self, question: CheckRequest) -> CheckResponse {
        self.call(CHECK, question).unwrap()
    }

    /// Status and answer must agree: Envoy goes by the status.
    pub(crate) fn allowed(&self, question: CheckRequest) -> OkHttpResponse {
        let answer = self.check(question);
        let HttpResponse::Ok(ok) = answer.http_response.unwrap() else { panic!("{:?}", answer.status) };
        assert_eq!(answer.status.unwrap().code, Code::Ok as i32);
        ok
    }

    pub(crate) fn denied(&self, question: CheckRequest) -> Denied {
        let answer = self.check(question);
        let HttpResponse::Denied(denied) = answer.http_response.unwrap() else { panic!("it passed") };
        assert_ne!(answer.status.unwrap().code, Code::Ok as i32);
        Denied(denied)
    }
}

#[derive(Debug)]
pub(crate) struct Denied(pub(crate) DeniedHttpResponse);

impl Denied {
    pub(crate) fn status(&self) -> i32 {
        self.0.status.as_ref().unwrap().code
    }

    pub(crate) fn header(&self, name: &str) -> Option<String> {
        values(&self.0.headers, name).into_iter().next()
    }
}

pub(crate) fn values(headers: &[HeaderValueOption], name: &str) -> Vec<String> {
    let headers = headers.iter().filter_map(|option| option.header.as_ref());
    headers.filter(|header| header.key == name).map(|header| header.value.clone()).collect()
}
