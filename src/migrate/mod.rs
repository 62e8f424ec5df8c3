//! `doorward migrate`: another program's configuration as one of Doorward.
//!
//! `input` reads what was written, in whatever form, into `options`; `mapping` says what it is here, a file a topic;
//! `output` writes it down. Secrets are never copied: the result says where each has to be. Pure: nothing here opens a file.

mod input;
pub mod keys;
mod mapping;
mod options;
mod output;

pub use input::Input;
pub use options::Note;

use crate::config;

/// What becomes of a configuration.
#[derive(Debug)]
pub struct Migration {
    /// It passes `doorward check` once its secrets are there. None: `refusals` say why not.
    pub config: Option<String>,
    /// What changes its meaning, is insecure, or is not carried over.
    pub warnings: Vec<Note>,
    /// What cannot be carried over so that the result would work, and would keep out whoever was kept out.
    pub refusals: Vec<Note>,
}

/// `public_url`: what browsers type, in place of what the files say. Err: the files are no configuration of oauth2-proxy.
pub fn oauth2_proxy(inputs: &[Input], public_url: Option<&str>) -> Result<Migration, Note> {
    let options = input::read(inputs)?;
    let outcome = mapping::map(options, public_url);
    let mapping::Outcome { mut draft, warnings, mut refusals } = outcome;
    let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
    draft.head = format!(
        "Written by `doorward migrate oauth2-proxy` from {}.\nThe word behind a value says where it is from. docs/migrate.md says what changed its meaning.",
        names.join(", ").replace(char::is_control, " ")
    );
    if refusals.is_empty()
        && let Err(problems) = config::check_text(&draft.checkable())
    {
        refusals.extend(
            problems.iter().map(|problem| Note::new(&problem.key, format!("{}. {}", problem.message, problem.hint))),
        );
    }
    let config = refusals.is_empty().then(|| draft.text());
    Ok(Migration { config, warnings, refusals })
}
