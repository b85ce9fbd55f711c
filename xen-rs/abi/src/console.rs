//! The hypervisor's console (`xen.h`, `CONSOLEIO_…`).

numbers! {
    /// Sub-operations of `console_io`; x1 is a count of bytes, x2 where they are.
    pub enum ConsoleOp: u64 {
        /// Writes them. Returns 0.
        Write = 0,
        /// Reads up to that many. Returns how many.
        Read = 1,
    }
}
