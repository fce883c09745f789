//! Reading the wire: bytes in, facts out, no sockets.

pub mod decode;
pub mod edge;
mod fields;
pub mod include_usage;
pub mod marks;
pub mod message;
pub mod output_limit;
pub mod parameters;
pub mod readable;
pub mod refusal;
pub mod response;
pub mod route;
pub mod scan;
pub mod sse;
