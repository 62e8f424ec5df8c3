//! The provider's pages. They escape everything, run no script and load nothing.

use askama::Template;
use http::StatusCode;

use super::{Options, User};
use crate::demo::web::{self, Page};

pub(super) fn sign_in(options: &Options, request: &str, username: Option<&str>, failed: bool) -> Page {
    let page = SignIn {
        client: &options.client_id,
        users: &options.users,
        request,
        username: username.unwrap_or_default(),
        failed,
    };
    web::html(if failed { StatusCode::FORBIDDEN } else { StatusCode::OK }, &page)
}

pub(super) fn message(status: StatusCode, title: &str, text: &str) -> Page {
    web::html(status, &Message { title, text })
}

#[derive(Template)]
#[template(path = "demo/templates/sign_in.html")]
struct SignIn<'a> {
    client: &'a str,
    users: &'a [User],
    request: &'a str,
    username: &'a str,
    failed: bool,
}

#[derive(Template)]
#[template(path = "demo/templates/message.html")]
struct Message<'a> {
    title: &'a str,
    text: &'a str,
}
