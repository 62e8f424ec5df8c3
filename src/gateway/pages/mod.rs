//! The pages that a person sees. One template, no script, nothing fetched; every value is escaped by it.

use std::borrow::Cow;

use askama::Template;
use http::StatusCode;

use crate::http::reply::{self, Reply};

/// What one page says.
#[derive(Clone, Debug, Default)]
pub struct Page<'a> {
    pub title: &'a str,
    pub lines: Vec<String>,
    /// Name and value, as a list of definitions.
    pub facts: Vec<(&'a str, String)>,
    pub actions: Vec<Action>,
    pub list: Option<List>,
    pub request_id: &'a str,
    /// Where the browser goes on to by itself.
    pub onward: Option<String>,
}

/// A link, or a button that posts. The first one of a page is its main one.
#[derive(Clone, Debug, Default)]
pub struct Action {
    pub label: Cow<'static, str>,
    pub href: String,
    pub post: bool,
    pub fields: Vec<(&'static str, String)>,
}

/// Things of one kind, below everything else.
#[derive(Clone, Debug, Default)]
pub struct List {
    pub title: &'static str,
    pub note: Option<&'static str>,
    pub items: Vec<Item>,
    /// How many more there are than are shown.
    pub more: usize,
}

#[derive(Clone, Debug, Default)]
pub struct Item {
    pub name: String,
    pub lines: Vec<String>,
    pub action: Action,
}

impl Action {
    pub fn link(label: impl Into<Cow<'static, str>>, href: impl Into<String>) -> Self {
        Self { label: label.into(), href: href.into(), ..Self::default() }
    }

    pub fn post(
        label: impl Into<Cow<'static, str>>,
        href: impl Into<String>,
        fields: Vec<(&'static str, String)>,
    ) -> Self {
        Self { label: label.into(), href: href.into(), post: true, fields }
    }
}

impl Page<'_> {
    pub fn reply(&self, status: StatusCode) -> Reply {
        #[derive(Template)]
        #[template(path = "gateway/pages/page.html")]
        struct Html<'a> {
            page: &'a Page<'a>,
        }
        match (Html { page: self }).render() {
            Ok(body) => reply::html(status, body),
            Err(_) => reply::text(status, self.title.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xx_02_xx_03_what_others_say_is_escaped_everywhere() {
        let evil = "\"><script>alert(1)</script>'`{{7*7}}</title>";
        let page = Page {
            title: evil,
            lines: vec![evil.into()],
            facts: vec![("Name", evil.into())],
            actions: vec![Action::link(evil, evil), Action::post("Send", evil, vec![("rd", evil.into())])],
            list: Some(List {
                items: vec![Item {
                    name: evil.into(),
                    lines: vec![evil.into()],
                    action: Action::post("End", evil, vec![("end", evil.into())]),
                }],
                ..List::default()
            }),
            request_id: evil,
            onward: Some(evil.into()),
        };
        let html = String::from_utf8(page.reply(StatusCode::OK).into_body().to_vec()).unwrap();
        assert!(!html.contains("<script") && !html.contains("\"><"), "{html}");
    }
}
