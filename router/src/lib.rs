//! The core message router.
