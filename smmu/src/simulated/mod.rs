//! IOMMUs in software.
