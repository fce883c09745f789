//! Light or dark: as the system says, or as a cookie of the reader's says.

use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderMap, HeaderValue, header};

use super::here::Here;
use crate::admin::problem::Problem;
use crate::admin::{cookies, own_path};

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
        let said = cookies(headers, COOKIE)
            .next()
            .and_then(|said| said.parse().ok());
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
    here.check()?;
    let theme: Theme = here.read("to")?.unwrap_or_default();
    let back = here.get("back").and_then(own_path).unwrap_or("/");
    let name: &'static str = theme.into();
    let cookie = format!("{COOKIE}={name}; Path=/; Max-Age={LASTS}; SameSite=Strict; HttpOnly");
    let cookie = HeaderValue::try_from(cookie)
        .map_err(|error| Problem::internal("the theme was not kept", &error))?;
    let mut response = Redirect::to(back).into_response();
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    Ok(response)
}
