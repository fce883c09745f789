//! The one style sheet, the one script and the icon. Their addresses hold a hash of their content,
//! so that a browser may keep them for ever.

use std::sync::LazyLock;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, header};

use super::desk::Desk;

/// Something a page refers to.
pub(super) struct Asset {
    pub(super) path: String,
    content: &'static str,
    media_type: &'static str,
}

impl Asset {
    fn new(name: &str, suffix: &str, media_type: &'static str, content: &'static str) -> Self {
        let hash = blake3::hash(content.as_bytes()).to_hex();
        let hash = hash.get(..16).unwrap_or_default();
        Self {
            path: format!("/assets/{name}-{hash}.{suffix}"),
            content,
            media_type,
        }
    }

    fn plain(&self) -> Response {
        let mut response = self.content.into_response();
        let media_type = HeaderValue::from_static(self.media_type);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, media_type);
        response
    }

    fn answer(&self) -> Response {
        let mut response = self.plain();
        let for_ever = HeaderValue::from_static("public, max-age=31536000, immutable");
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, for_ever);
        response
    }
}

pub(super) static STYLE: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("style.css");
    Asset::new("style", "css", "text/css; charset=utf-8", content)
});

pub(super) static SCRIPT: LazyLock<Asset> = LazyLock::new(|| {
    let content = include_str!("page.js");
    Asset::new("page", "js", "text/javascript; charset=utf-8", content)
});

pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("icon.svg")));

pub(super) fn routes() -> Router<Desk> {
    let route = |router: Router<Desk>, asset: &'static Asset| {
        router.route(&asset.path, get(move || async { asset.answer() }))
    };
    let assets: [&'static Asset; 3] = [&STYLE, &SCRIPT, &ICON];
    let routes = assets.into_iter().fold(Router::new(), route);
    // For the login, which does not know their hashes: kept by nobody.
    routes
        .route("/assets/style.css", get(|| async { STYLE.plain() }))
        .route("/assets/icon.svg", get(|| async { ICON.plain() }))
}
