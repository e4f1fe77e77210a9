//! Requests and answers, the same over HTTP/1 and HTTP/2. `http` has types for them too; those hold their fields in a
//! map, and much that nothing here asks for.

use http::{Method, StatusCode, uri::PathAndQuery};

use crate::headers::Headers;

#[derive(Debug)]
pub(crate) struct Request<B> {
    pub(crate) head: Head,
    pub(crate) body: B,
}

/// What a request says before its body.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) path: PathAndQuery,
    pub(crate) headers: Headers,
}

#[derive(Debug)]
pub(crate) struct Response<B> {
    pub(crate) status: StatusCode,
    pub(crate) headers: Headers,
    pub(crate) body: B,
}

impl<B> Request<B> {
    pub(crate) fn map<C>(self, map: impl FnOnce(B) -> C) -> Request<C> {
        Request { head: self.head, body: map(self.body) }
    }
}

impl<B> From<http::Request<B>> for Request<B> {
    fn from(request: http::Request<B>) -> Self {
        let (parts, body) = request.into_parts();
        Self { head: Head { method: parts.method, path: path(parts.uri), headers: parts.headers.into() }, body }
    }
}

/// What a request is for. One that names only a host is for all of it.
pub(crate) fn path(uri: http::Uri) -> PathAndQuery {
    uri.into_parts().path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"))
}

impl<B> Response<B> {
    pub(crate) fn new(status: StatusCode, body: B) -> Self {
        Self { status, headers: Headers::default(), body }
    }

    pub(crate) fn map<C>(self, map: impl FnOnce(B) -> C) -> Response<C> {
        Response { status: self.status, headers: self.headers, body: map(self.body) }
    }
}

impl<B> From<http::Response<B>> for Response<B> {
    fn from(response: http::Response<B>) -> Self {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers.into(), body }
    }
}

impl<B> From<Response<B>> for http::Response<B> {
    fn from(response: Response<B>) -> Self {
        let mut converted = Self::new(response.body);
        *converted.status_mut() = response.status;
        *converted.headers_mut() = response.headers.into();
        converted
    }
}
