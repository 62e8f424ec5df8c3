//! Configuration: from files, environment and flags to `Settings`. Never used after start-up except through `Settings`.

pub mod settings;
pub struct Flags {
    pub issuer: Option<String>,
    pub client_id: Option<String>,
    pub client_secret_file: Option<std::path::PathBuf>,
    pub upstream: Option<String>,
    pub listen: Option<String>,
    pub public_url: Option<String>,
}
impl Default for Flags {
    fn default() -> Self {
        todo!()
    }
}
pub struct Sources {
    pub file: Option<std::path::PathBuf>,
    pub env: Vec<(String, String)>,
    pub flags: Flags,
}
pub struct Problems;
impl std::fmt::Display for Problems {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}
pub fn load(_: &Sources) -> Result<settings::Settings, Problems> {
    todo!()
}
pub fn find_file(
    _: Option<std::path::PathBuf>,
    _: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<std::path::PathBuf>, Problems> {
    todo!()
}
impl settings::Settings {
    pub fn identity_names(&self) -> Vec<http::HeaderName> {
        todo!()
    }
}
