pub struct Policy;
pub struct Facts<'a> {
    pub user: &'a str,
    pub email: Option<&'a str>,
    pub email_verified: bool,
    pub groups: &'a [String],
    pub provider: &'a str,
}
pub enum Decision {
    Allow,
    Deny { rule: String },
}
impl Policy {
    pub fn new(_: &crate::config::settings::Policy) -> Self {
        Self
    }
    pub fn decide(&self, _: &Facts<'_>) -> Decision {
        todo!()
    }
}
