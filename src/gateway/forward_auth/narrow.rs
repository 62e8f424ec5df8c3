//! `?allowed_groups=`, `?allowed_emails=`, `?allowed_email_domains=`: what the proxy wants besides the route's rules. It can
//! only ever take away.

use http::request::Parts;

use crate::audit;
use crate::config::fold_case;
use crate::gateway::Gateway;
use crate::gateway::admit::Admitted;
use crate::gateway::challenge::login_url;
use crate::gateway::exchange::Exchange;
use crate::gateway::respond::Asker;
use crate::gateway::rules::Rules;
use crate::gateway::who::Who;
use crate::gateway::{returns, www_authenticate};
use crate::http::parameter::values;
use crate::http::reply::Reply;
use crate::session::identity::Identity;
use crate::telemetry::Safe;
use crate::telemetry::metrics::Outcome;

/// Each list that is there must hold; any of its members does.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Narrow {
    groups: Option<Vec<String>>,
    emails: Option<Vec<String>>,
    /// `example.com`, or `.example.com` for every name below it.
    domains: Option<Vec<String>>,
}

impl Narrow {
    /// None: nothing is wanted. A list that is there and empty lets nobody in: whatever was to fill it did not.
    pub fn read(query: &str) -> Option<Self> {
        // PERF: nearly every question has no query.
        if query.is_empty() {
            return None;
        }
        let list = |name: &str, folded: bool| {
            let mut texts = values(query.as_bytes(), name).peekable();
            texts.peek()?;
            let split = |text: String| {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                items.map(|item| if folded { fold_case(item) } else { item.to_owned() }).collect::<Vec<_>>()
            };
            Some(texts.flat_map(split).collect())
        };
        let narrow = Self {
            groups: list("allowed_groups", false),
            emails: list("allowed_emails", true),
            domains: list("allowed_email_domains", true),
        };
        (narrow != Self::default()).then_some(narrow)
    }

    /// What somebody gets who is not whom the proxy wants.
    pub fn refuse(
        &self,
        gateway: &Gateway,
        exchange: &Exchange,
        admitted: &Admitted<'_>,
        rules: &Rules,
        parts: &Parts,
    ) -> Option<Reply> {
        let asker = Asker::new(gateway, exchange, &parts.method, &parts.headers);
        let Some(who) = exchange.who().filter(|who| rules.vouched(*who)) else {
            exchange.decided(Outcome::SignIn);
            let url = login_url(gateway, &admitted.site, &returns::own(gateway, admitted, parts.uri.query()));
            return Some(asker.unauthorized(false, &url, www_authenticate::challenges(rules, &admitted.site)));
        };
        if self.holds(who.identity()) {
            return None;
        }
        exchange.decided(Outcome::Deny);
        audit!(
            event = "refused",
            user = %Safe(who.name()),
            route = rules.name(),
            rule = "what the proxy allows (allowed_groups, allowed_emails, allowed_email_domains)",
            client = %exchange.client,
            request_id = exchange.id(),
        );
        let signed_in = match who {
            Who::Person(session) => Some((session, admitted.site.origin.host())),
            Who::Machine(_) => None,
        };
        Some(asker.forbidden(signed_in, None))
    }

    fn holds(&self, identity: &Identity) -> bool {
        // SECURITY: an address that nobody has verified is anybody's.
        let email = identity.email.as_deref().filter(|_| identity.email_verified).map(fold_case);
        let domain = email.as_deref().and_then(|email| email.split_once('@')).map(|(_, domain)| domain);
        let domain = domain.filter(|domain| !domain.contains('@'));
        let among = |list: &Option<Vec<String>>, is_it: &dyn Fn(&String) -> bool| {
            list.as_ref().is_none_or(|list| list.iter().any(is_it))
        };
        among(&self.groups, &|group| identity.groups.contains(group))
            && among(&self.emails, &|wanted| domain.is_some() && email.as_ref() == Some(wanted))
            && among(&self.domains, &|wanted| {
                let below = wanted.strip_prefix('*').unwrap_or(wanted);
                domain.is_some_and(|domain| domain == wanted || below.starts_with('.') && domain.ends_with(below))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(query: &str, email: &str, verified: bool) -> bool {
        let identity = Identity {
            email: Some(email.to_owned()),
            email_verified: verified,
            groups: vec!["staff".to_owned(), "a,b".to_owned()],
            ..Identity::default()
        };
        Narrow::read(query).is_none_or(|narrow| narrow.holds(&identity))
    }

    #[test]
    fn each_list_must_hold_and_any_of_its_members_does() {
        for (query, expected) in [
            ("", true),
            ("other=x", true),
            ("allowed_groups=staff", true),
            ("allowed_groups=x,staff", true),
            ("allowed_groups=x&allowed_groups=staff", true),
            ("allowed_groups=Staff", false),
            ("allowed_groups=a,b", false),
            ("allowed_groups=", false),
            ("allowed_groups", false),
            ("allowed_emails=Alice@Example.com", true),
            ("allowed_emails=bob@example.com", false),
            ("allowed_email_domains=example.com", true),
            ("allowed_email_domains=EXAMPLE.com,other.org", true),
            ("allowed_email_domains=.example.com", false),
            ("allowed_email_domains=.com", true),
            ("allowed_email_domains=*.com", true),
            ("allowed_email_domains=ample.com", false),
            ("allowed_groups=staff&allowed_email_domains=other.org", false),
            ("allowed_groups=staff&allowed_emails=alice@example.com", true),
        ] {
            assert_eq!(holds(query, "alice@EXAMPLE.com", true), expected, "{query}");
        }
    }

    #[test]
    fn b_16_an_address_that_nobody_verified_is_nobodys() {
        assert!(!holds("allowed_emails=alice@example.com", "alice@example.com", false));
        assert!(!holds("allowed_email_domains=example.com", "alice@example.com", false));
        assert!(!holds("allowed_email_domains=example.com", "alice@evil.test@example.com", true));
        assert!(!holds("allowed_emails=", "", true));
    }
}
