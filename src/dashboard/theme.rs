//! Light or dark: as the system says, or as a cookie of the reader's says.

use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, HeaderValue, header};

use super::here::{Here, cookie};
use crate::admin::problem::Problem;

const COOKIE: &str = "aiops_theme";

/// A year, in seconds.
const LASTS: u32 = 31_536_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub(super) enum Theme {
    #[default]
    Auto,
    Light,
    Dark,
}

impl Theme {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let said = cookie(headers, COOKIE).and_then(|said| said.parse().ok());
        said.unwrap_or_default()
    }

    pub(super) fn next(self) -> Self {
        match self {
            Self::Auto => Self::Dark,
            Self::Dark => Self::Light,
            Self::Light => Self::Auto,
        }
    }
}

/// `/theme?to=dark&back=/runs`: keeps the choice in the reader's browser and goes back.
pub(super) async fn set(here: Here) -> Result<Response, Problem> {
    let theme: Theme = here.read("to")?.unwrap_or_default();
    let back = here.get("back").filter(|back| is_own(back)).unwrap_or("/");
    let name: &'static str = theme.into();
    let cookie = format!("{COOKIE}={name}; Path=/; Max-Age={LASTS}; SameSite=Strict; HttpOnly");
    let cookie = HeaderValue::try_from(cookie)
        .map_err(|error| Problem::internal("the theme was not kept", &error))?;
    let mut response = Redirect::to(back).into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Whether an address is one of this listener's pages and cannot lead away from it.
pub(super) fn is_own(address: &str) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && c != '\\';
    address.starts_with('/') && !address.starts_with("//") && address.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_leads_away_is_not_gone_back_to() {
        for own in ["/", "/runs", "/runs/a%2Fb?range=1h", "/a//b"] {
            assert!(is_own(own), "{own}");
        }
        for foreign in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "/\n/x",
        ] {
            assert!(!is_own(foreign), "{foreign:?}");
        }
    }
}
