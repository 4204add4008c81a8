//! The library's own texts for failures of a connection, chosen by kind.
//!
//! Texts that other libraries format from a peer's bytes are never passed on: h2 prints the debug
//! data of a GOAWAY, which may quote the path, and the path holds the token.

use std::io;

use rustls::AlertDescription;

use crate::process;

/// Why reading or writing failed.
pub fn describe(error: &io::Error) -> String {
    if error.raw_os_error().is_some() {
        return process::describe(error);
    }
    let inner = error.get_ref();
    if let Some(rustls::Error::AlertReceived(alert)) = inner.and_then(|e| e.downcast_ref()) {
        return format!("TLS alert {}", alert_name(*alert));
    }
    if inner.is_some_and(|error| error.is::<rustls::Error>()) {
        return "the server broke the rules of TLS".into();
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => "closed by the server",
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
            "the server broke the rules of HTTP"
        }
        io::ErrorKind::ConnectionReset => "connection reset by peer",
        io::ErrorKind::TimedOut => "timed out",
        io::ErrorKind::ConnectionAborted => "given up, as the server sent frames without end",
        io::ErrorKind::NotFound => "the name has no address",
        io::ErrorKind::OutOfMemory => "no memory",
        _ => "it broke",
    }
    .into()
}

/// A host as messages show it: they have room for 223 bytes.
pub fn shorten(host: &impl std::fmt::Display) -> String {
    const LIMIT: usize = 60;
    let text = host.to_string();
    match text.get(..LIMIT) {
        Some(start) if text.len() > LIMIT => format!("{start}…"),
        _ => text,
    }
}

/// Why an HTTP/2 connection or stream failed.
pub fn describe_http2(error: &h2::Error) -> String {
    if let Some(io) = error.get_io() {
        return describe(io);
    }
    let name = error.reason().map_or("no reason", http2_name);
    if error.is_remote() && error.is_go_away() {
        format!("HTTP/2 GOAWAY, {name}")
    } else if error.is_remote() {
        format!("HTTP/2 RST_STREAM, {name}")
    } else if error.is_library() {
        format!("the server broke the rules of HTTP/2, {name}")
    } else {
        "the connection takes no more requests".into()
    }
}

/// As RFC 9113, 7, spells it.
fn http2_name(reason: h2::Reason) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let number = u32::from(reason) as usize;
    NAMES.get(number).copied().unwrap_or("an unknown reason")
}

/// As RFC 8446, 6, spells it.
pub fn alert_name(alert: AlertDescription) -> &'static str {
    use AlertDescription as A;
    match alert {
        A::CloseNotify => "close_notify",
        A::UnexpectedMessage => "unexpected_message",
        A::BadRecordMac => "bad_record_mac",
        A::RecordOverflow => "record_overflow",
        A::HandshakeFailure => "handshake_failure",
        A::BadCertificate => "bad_certificate",
        A::UnsupportedCertificate => "unsupported_certificate",
        A::CertificateRevoked => "certificate_revoked",
        A::CertificateExpired => "certificate_expired",
        A::CertificateUnknown => "certificate_unknown",
        A::IllegalParameter => "illegal_parameter",
        A::UnknownCA => "unknown_ca",
        A::AccessDenied => "access_denied",
        A::DecodeError => "decode_error",
        A::DecryptError => "decrypt_error",
        A::ProtocolVersion => "protocol_version",
        A::InsufficientSecurity => "insufficient_security",
        A::InternalError => "internal_error",
        A::InappropriateFallback => "inappropriate_fallback",
        A::UserCanceled => "user_canceled",
        A::MissingExtension => "missing_extension",
        A::UnsupportedExtension => "unsupported_extension",
        A::UnrecognisedName => "unrecognized_name",
        A::CertificateRequired => "certificate_required",
        A::NoApplicationProtocol => "no_application_protocol",
        _ => "of another kind",
    }
}

/// Whether an alert says that the server wants a client certificate, or refuses the one it got.
pub fn is_about_client_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::HandshakeFailure
            | A::NoCertificate
            | A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::UnknownCA
            | A::AccessDenied
            | A::CertificateRequired
    )
}

/// Whether a handshake that ended with this alert may do better the next time.
pub fn can_pass(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::CloseNotify
            | A::UnexpectedMessage
            | A::BadRecordMac
            | A::RecordOverflow
            | A::DecodeError
            | A::DecryptError
            | A::InternalError
            | A::UserCanceled
    )
}
