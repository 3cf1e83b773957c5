//! The TLS provider that HTTP clients of this workspace use.

/// Installs ring as the process's TLS provider. HTTP clients are built without a provider of their own and would panic
/// otherwise. Calling it again does nothing.
pub fn install_tls() {
    // An error means that one is installed already, which is all we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
