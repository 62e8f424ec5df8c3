//! A provider without OpenID, of GitHub's shape: a code for a form, a number for a person, errors with 200.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was asked: path, parameters of query and form, and the headers in small letters.
#[derive(Clone, Debug)]
pub struct Asked {
    pub path: String,
    pub parameters: HashMap<String, String>,
    pub headers: HashMap<String, String>,
}

/// Status, content type and body.
type Scripted = (u16, String, String);

#[derive(Clone)]
pub struct Plain {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// By path; `/authorize` answers by itself.
    answers: Arc<Mutex<HashMap<String, Scripted>>>,
}

impl Plain {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let plain = Self { port, asked: Arc::default(), answers: Arc::default() };
        plain.form("/token", "access_token=gho_1&scope=&token_type=bearer");
        plain
            .json("/user", r#"{"id": 583231, "login": "octocat", "name": "The Octocat", "email": "old@example.test"}"#);
        plain.json(
            "/emails",
            r#"[{"email": "other@example.test", "primary": false, "verified": true},
                {"email": "octocat@example.test", "primary": true, "verified": true}]"#,
        );
        let this = plain.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let this = this.clone();
                std::thread::spawn(move || this.serve(stream));
            }
        });
        plain
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn json(&self, path: &str, body: &str) {
        self.answer(path, 200, "application/json; charset=utf-8", body);
    }

    pub fn form(&self, path: &str, body: &str) {
        self.answer(path, 200, "application/x-www-form-urlencoded; charset=utf-8", body);
    }

    pub fn answer(&self, path: &str, status: u16, kind: &str, body: &str) {
        self.answers.lock().unwrap().insert(path.to_owned(), (status, kind.to_owned(), body.to_owned()));
    }

    pub fn asked(&self, path: &str) -> Vec<Asked> {
        self.asked.lock().unwrap().iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// The section of a configuration, as `[provider.NAME]`.
    pub fn section(&self, name: &str, more: &str) -> String {
        format!(
            "[provider.{name}]\nkind = \"oauth2\"\nauthorization_url = \"{}\"\ntoken_url = \"{}\"\nuserinfo_url = \"{}\"\n\
             client_id = \"demo\"\nclient_secret = \"demo-secret\"\n{more}\n",
            self.url("/authorize?tenant=1"),
            self.url("/token"),
            self.url("/user")
        )
    }

    fn serve(&self, stream: TcpStream) -> Option<()> {
        let mut out = stream.try_clone().ok()?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let target = line.split_whitespace().nth(1)?.to_owned();
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let length = headers.get("content-length").and_then(|l| l.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let pairs = |text: &[u8]| url::form_urlencoded::parse(text).into_owned().collect::<Vec<_>>();
        let parameters: HashMap<_, _> = pairs(query.as_bytes()).into_iter().chain(pairs(&body)).collect();
        let asked = Asked { path: path.to_owned(), parameters, headers };
        let answer = if path == "/authorize" {
            let code = [("code", "c0de"), ("state", asked.parameters.get("state")?)];
            let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(code).finish();
            let to = format!("{}?{query}", asked.parameters.get("redirect_uri")?);
            format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        } else {
            let answers = self.answers.lock().unwrap();
            let (status, kind, body) = answers.get(path).cloned().unwrap_or_default();
            let status = if status == 0 { 404 } else { status };
            let length = body.len();
            format!(
                "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            )
        };
        self.asked.lock().unwrap().push(asked);
        out.write_all(answer.as_bytes()).ok()
    }
}
